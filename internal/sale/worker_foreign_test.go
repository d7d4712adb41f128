package sale_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"firstcome/internal/sale"
	"firstcome/internal/saletest"
)

// newest folds what is stored of the product.
func (s *shop) newest() (head sale.Head, all []saletest.Revision) {
	head = sale.Head{Stock: sale.Stock{Product: product}}
	all = s.store.Revisions(product)
	for _, r := range all {
		_, _ = head.Continue(r.Value)
	}
	return head, all
}

// forge is the link after head as a worker would write it for the next message, with
// units from nowhere, and with the changes made to its text.
func forge(t tester, head sale.Head, changes ...string) []byte {
	head.Supplied += 1000
	head.Available += 1000
	m := &sale.Message{Product: product, Epoch: head.Queue.Epoch, Seq: head.Queue.Seq + 1}
	link, _ := head.Decide(&told{}, m, nil, "forger", decidedAt)
	text := string(link.Encode())
	for i := 0; i < len(changes); i += 2 {
		changed := strings.Replace(text, changes[i], changes[i+1], 1)
		if changed == text {
			t.Errorf("%s has no %s", text, changes[i])
		}
		text = changed
	}
	return []byte(text)
}

// hands are what can be written by hand that is no link.
var hands = []struct {
	name  string
	write func(s *shop, n func(int) int)
}{
	{"garbage", func(s *shop, n func(int) int) {
		s.store.Put(product, []byte([]string{"garbage", "{}", "null", `{"v":2}`, "[1]"}[n(5)]))
	}},
	{"a deletion", func(s *shop, _ func(int) int) { s.store.Delete(product) }},
	{"an earlier value again", func(s *shop, n func(int) int) {
		_, all := s.newest()
		s.store.Revert(product, all[n(len(all))].Seq)
	}},
	{"the newest value again", func(s *shop, _ func(int) int) {
		_, all := s.newest()
		s.store.Revert(product, all[len(all)-1].Seq)
	}},
	{"a next link with a wrong prev", func(s *shop, n func(int) int) {
		head, all := s.newest()
		wrong := []string{"", sale.HashOf(nil), sale.HashOf(all[0].Value) + "0", strings.ToUpper(head.Hash) + " "}[n(4)]
		s.store.Put(product, forge(s.t, head, `"prev":"`+head.Hash, `"prev":"`+wrong))
	}},
	{"a next link in another layout with a wrong prev", func(s *shop, _ func(int) int) {
		head, _ := s.newest()
		s.store.Put(product, forge(s.t, head, `"prev":"`+head.Hash, `"prev":"`+sale.HashOf(nil), `"v":2`, `"v":3`))
	}},
	{"a next link with another number", func(s *shop, _ func(int) int) {
		head, _ := s.newest()
		s.store.Put(product, forge(s.t, head, fmt.Sprintf(`"n":%d,`, head.N+1), fmt.Sprintf(`"n":%d,`, head.N+2)))
	}},
	{"a next link of another product", func(s *shop, _ func(int) int) {
		head, _ := s.newest()
		s.store.Put(product, forge(s.t, head, string(product), "mug"))
	}},
	{"a next link whose figures do not add up", func(s *shop, _ func(int) int) {
		head, _ := s.newest()
		s.store.Put(product, forge(s.t, head, `"held":0`, `"held":1`))
	}},
	{"the product once more from the beginning", func(s *shop, _ func(int) int) {
		first, err := sale.NewProduct(product, 1000, 0, epoch, decidedAt)
		if err != nil {
			s.t.Fatal(err)
		}
		s.store.Put(product, first.Encode())
	}},
}

// byHand writes a value that is no link.
func (s *shop) byHand(n func(int) int) { hands[n(len(hands))].write(s, n) }

// A value that is no link changes nothing, whenever it is written: before the product
// is looked at, between messages, and between a worker's look and its append (P8).
func TestValuesByHandChangeNothing(t *testing.T) {
	forEachScenario(t, func(t *testing.T, sc *scenario, want *record, _ []string) {
		for _, hand := range hands {
			for _, call := range []string{"", saletest.CallNext, saletest.CallRead, saletest.CallAppend, saletest.CallAnnounce, saletest.CallAck} {
				var got *record
				random := rand.New(rand.NewPCG(7, 7))
				synctest.Test(t, func(t *testing.T) {
					s := newShop(t, sc)
					if call == "" {
						hand.write(s, random.IntN)
					}
					written := false // since the last delivery: a second try finds its place
					f := &saletest.Faults{Plan: func(_ int, now string) saletest.Fault {
						written = written && now != saletest.CallNext
						if now == call && !written {
							written = true
							hand.write(s, random.IntN)
						}
						return saletest.Pass
					}}
					got = playIn(s, sc, f, false)
				})
				if diff := got.diff(want); diff != "" || got.foreign == 0 {
					t.Fatalf("%s, before %s: %d foreign values\n%s", hand.name, call, got.foreign, diff)
				}
			}
		}
	})
}

// A product begins with its first link, whatever its key held before, and the worker
// finds it without help.
func TestValuesBeforeTheFirstLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := &scenario{supplied: 5}
		s := &shop{t: t, orders: saletest.NewOrders(epoch, ackWait), store: saletest.NewHistory(),
			letters: saletest.NewDeadLetters(), announcer: &saletest.Announcer{}, observer: &observer{}}
		s.store.SetDeaf(true)
		s.store.Put(product, []byte("garbage"))
		s.store.Put(product, forge(t, sale.Head{Stock: sale.Stock{Product: product}, N: 6, Hash: sale.HashOf(nil)}))
		s.store.Delete(product)
		s.create(product, sc)
		s.store.Put(product, []byte("garbage"))
		s.publish(line(1, 1, 1))
		i := s.start(&saletest.Faults{Plan: func(n int, _ string) saletest.Fault {
			if n < 100 {
				return saletest.Pass
			}
			return saletest.CrashBefore
		}}, newBook())
		if err := s.drained(i); err != nil {
			t.Fatal("it reads and reads")
		}
		i.stop()
		if links, foreign := s.chain(product); len(links) != 2 || foreign != 4 || i.book.Foreign(product) != 1 {
			t.Errorf("%d links and %d foreign values, %d to the book", len(links), foreign, i.book.Foreign(product))
		}
	})
}

// A link that settles no message, such as an operator with a program may append, is a
// link: the message in hand is decided once all the same, before it or after (P4).
func TestLinkThatSettlesNoMessage(t *testing.T) {
	for _, fault := range []saletest.Fault{saletest.CrashBefore, saletest.CrashAfter} {
		synctest.Test(t, func(t *testing.T) {
			s := newShop(t, &scenario{supplied: 1})
			s.publish(line(1, 1, 1), line(2, 2, 1))
			for range 2 {
				i := s.start(&saletest.Faults{Plan: func(_ int, call string) saletest.Fault {
					if call == saletest.CallAppend {
						return fault
					}
					return saletest.Pass
				}}, newBook())
				<-i.done
				head, all := s.newest()
				units := int64(1)
				lines := []sale.Line{{Desk: &sale.DeskLine{ID: uuid(len(all)), Do: sale.DoSupply, Units: &units}}}
				m := &sale.Message{Product: product, Desk: true, Epoch: head.Queue.Epoch, Seq: head.Queue.Seq}
				link, _ := head.Decide(&told{}, m, lines, "ann", decidedAt)
				if _, err := s.store.Append(t.Context(), product, all[len(all)-1].Seq, link.Encode()); err != nil {
					t.Fatal(err)
				}
			}
			i := s.start(&saletest.Faults{}, newBook())
			if err := s.drained(i); err != nil {
				t.Fatal(err)
			}
			i.stop()
			head, _ := s.newest()
			if head.Sold != 2 || head.Available != 1 || head.Decided != 2 || head.N != 5 {
				t.Errorf("the stock is %+v", head)
			}
			s.published = nil // not each message is one link here
			s.chain(product)
		})
	}
}

// A next link that this program cannot read stops the product: nothing can be said
// about it any more, and nothing is appended to it. Nothing is lost either (P3).
func TestNewerLinkStopsTheProduct(t *testing.T) {
	for name, change := range map[string][]string{
		"v":      {`"v":2`, `"v":3`},
		"change": {`"change":"orders","orders":[]`, `"change":"held","holds":{}`},
	} {
		for _, call := range []string{"", saletest.CallNext, saletest.CallAppend} {
			t.Run(name+" before "+call, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newShop(t, &scenario{supplied: 5})
					newer := func() {
						head, _ := s.newest()
						s.store.Put(product, forge(t, head, change...))
					}
					if call == "" {
						newer()
					}
					once := true
					i := s.start(&saletest.Faults{Plan: func(_ int, now string) saletest.Fault {
						if now == call && once {
							once = false
							newer()
						}
						return saletest.Pass
					}}, newBook())
					s.publish(line(1, 1, 1), "garbage")
					synctest.Wait() // no patience: the first look is enough
					if err := i.worker.Stuck(); !errors.Is(err, sale.ErrNewer) {
						t.Errorf("the worker says %v", err)
					}
					wantStuck(t, s, i, "needs a newer firstcome")
					if err := i.book.Stopped(product); !errors.Is(err, sale.ErrNewer) {
						t.Errorf("the book says %v", err)
					}
					if _, all := s.newest(); len(all) != 2 {
						t.Errorf("%d revisions are stored", len(all))
					}
					began := time.Now()
					i.stop()
					if took := time.Since(began); took > time.Second {
						t.Errorf("stopping took %v", took)
					}
				})
			})
		}
	}
}

// Without any feed the workers go on by the history alone, each from where its book
// is, and know the newest link when they open their queue.
func TestDeafFeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, &scenario{supplied: 3})
		s.store.SetDeaf(true)
		var workers []*instance
		for range 2 {
			f := &saletest.Faults{}
			workers = append(workers, s.startWith(product, f, newBook(), func(w *sale.Worker) { w.Queue = &turns{w.Queue, s, w, make(chan struct{})} }))
		}
		for n := range 12 {
			s.publish(line(n, n, 1))
			workers[n%2].worker.Queue.(*turns).take <- struct{}{}
			if err := s.drained(workers[n%2]); err != nil {
				t.Fatal(err)
			}
		}
		for _, i := range workers {
			i.stop()
		}
		// Each missed at most the last link, which the other one wrote.
		if head, _ := workers[0].book.Head(product); head.N != 12 {
			t.Errorf("the first worker's book is at link %d", head.N)
		}
		if r := s.record(workers[1].book); !strings.HasPrefix(r.outcomes, "accepted | accepted | accepted | sold_out | sold_out") {
			t.Errorf("the outcomes are %s", r.outcomes)
		}
	})
}

// turns is a queue that gives out a message only when it is this holder's turn.
type turns struct {
	sale.Queue
	shop   *shop
	worker *sale.Worker
	take   chan struct{}
}

func (q *turns) Next(ctx context.Context) (sale.Delivery, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-q.take:
		head, all := q.shop.newest()
		if len(all) < 7 {
			return q.Queue.Next(ctx) // it finds out by the append
		}
		if at, err := q.worker.Newest(ctx); err != nil || at != head.Queue {
			q.shop.t.Errorf("the newest link is at %+v, %v; want %+v", at, err, head.Queue)
		}
		return q.Queue.Next(ctx)
	}
}
