package broker_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// reader is an instance that follows and decides nothing.
type reader struct {
	*broker.Feed
	book *sale.Book
}

// follow starts a reader on a connection; the test's end stops it.
func follow(t testing.TB, c *broker.Conn) *reader {
	t.Helper()
	return followInto(t, c, sale.NewBook(1_000_000))
}

func followInto(t testing.TB, c *broker.Conn, book *sale.Book) *reader {
	t.Helper()
	feed, err := broker.OpenFeed(within(t), c, book)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(feed.Close)
	return &reader{feed, book}
}

// waiting is how many orders of the product are undecided.
func (r *reader) waiting(p sale.ProductID) uint64 {
	product, _ := r.book.Product(p)
	return product.Waiting
}

// links is the number of the product's newest link.
func (r *reader) links(p sale.ProductID) uint64 {
	head, _ := r.book.Head(p)
	return head.N
}

// caughtUp lets the reader catch up, and again while the broker is only slow.
func (r *reader) caughtUp(t testing.TB) {
	t.Helper()
	ctx := within(t)
	for {
		err := r.CatchUp(ctx)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func (r *reader) wantStatus(t testing.TB, o sale.Order, p sale.ProductID, outcome sale.Outcome) {
	t.Helper()
	s, ok := r.book.Status(o.ID, o.Email)
	if !ok {
		t.Errorf("the book does not know %s of %s", o.ID, o.Email)
		return
	}
	if s.Order != o || s.Product != p || s.Outcome != outcome {
		t.Errorf("the book says %+v, want %s of %+v for %s", s, outcome, o, p)
	}
}

func (r *reader) knows(o sale.Order) func() bool {
	return func() bool { _, ok := r.book.Status(o.ID, o.Email); return ok }
}

// publishOrders stores one message with these orders.
func publishOrders(t testing.TB, js jetstream.JetStream, p sale.ProductID, orders ...sale.Order) uint64 {
	t.Helper()
	return publish(t, js, p, lines(orders))
}

func lines(orders []sale.Order) (data []byte) {
	for i := range orders {
		data = append(orders[i].AppendLine(data), '\n')
	}
	return data
}

// TestBookIsBuiltFromHistoryAndQueue reads more than one batch of either.
func TestBookIsBuiltFromHistoryAndQueue(t *testing.T) {
	w := on(t, one)
	w.sell(t, 100, "shirt", "mug", "cap")
	js := w.admin(t)
	orders := map[sale.ProductID][]sale.Order{}
	var futures []jetstream.PubAckFuture
	for i := range 1500 {
		p := []sale.ProductID{"shirt", "cap"}[i%2]
		if i%10 == 5 {
			p = "mug"
		}
		if i > 300 {
			future, err := js.PublishAsync("$KV.stock.mug", []byte("by hand"))
			if err != nil {
				t.Fatal(err)
			}
			futures = append(futures, future)
		}
		group := make([]sale.Order, 1+i%3)
		for j := range group {
			group[j] = newOrder(fmt.Sprintf("buyer%d@mail%d.com", i, j))
		}
		orders[p] = append(orders[p], group...)
		future, err := js.PublishAsync("orders."+string(p), lines(group))
		if err != nil {
			t.Fatal(err)
		}
		futures = append(futures, future)
	}
	for _, f := range futures {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			t.Fatal(err)
		}
	}
	publishTo(t, js, "desk.cap", []byte(`{"do":"terms","paused":true}`))
	w.work(t, "mug") // what another instance decided before
	waitDrained(t, js, "mug")

	r := follow(t, w.connect(t))
	if r.book.Len() > 0 {
		t.Error("the book was built before anybody asked for it")
	}
	r.caughtUp(t)
	for p, list := range orders {
		for i, o := range list {
			outcome := sale.Pending
			if p == "mug" && i < 100 {
				outcome = sale.Accepted
			} else if p == "mug" {
				outcome = sale.SoldOut
			}
			if r.wantStatus(t, o, p, outcome); t.Failed() {
				t.Fatalf("order %d of %s", i, p)
			}
		}
		want := uint64(len(list))
		if p == "mug" {
			want = 0
		}
		if got := r.waiting(p); got != want {
			t.Errorf("%d wait for %s, want %d", got, p, want)
		}
	}
	if mug, _ := r.book.Product("mug"); mug.N != 151 || mug.Sold != 100 || mug.Decided != uint64(len(orders["mug"])) {
		t.Errorf("the mug is at link %d: %+v", mug.N, mug.Stock)
	}
	if p, _ := r.book.Product("cap"); !p.Pausing || p.Paused {
		t.Error("the pause that waits in the queue is not known")
	}
	if queued := r.book.Queued(); queued != 1351 {
		t.Errorf("%d messages are queued", queued)
	}
}

// What is stored, decided, steered and provisioned while an instance runs is heard.
func TestFeedHearsLive(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.sell(t, 5, "shirt")
		book := sale.NewBook(100)
		applied := make(chan sale.Head, 100)
		book.OnApply(func(p sale.ProductID, head sale.Head) { applied <- head })
		r := followInto(t, w.connect(t), book)
		r.caughtUp(t)
		wantLink := func(p sale.ProductID, n uint64, available int64) {
			t.Helper()
			if head := receive(t, applied); head.Product != p || head.N != n || head.Available != available {
				t.Fatalf("link %d of %s was applied, with %d left; want %d of %s with %d", head.N, head.Product, head.Available, n, p, available)
			}
		}
		wantLink("shirt", 1, 5)
		js := w.admin(t)
		o := newOrder("a@x.com")
		publishOrders(t, js, "shirt", o)
		eventually(t, "the order is heard of", r.knows(o))
		r.wantStatus(t, o, "shirt", sale.Pending)
		publishTo(t, js, "desk.shirt", []byte(`{"do":"terms","paused":true}`))
		eventually(t, "the pause is heard of", func() bool { p, _ := book.Product("shirt"); return p.Pausing })
		w.work(t, "shirt")
		wantLink("shirt", 2, 4)
		r.wantStatus(t, o, "shirt", sale.Accepted)
		wantLink("shirt", 3, 4)
		if p, _ := book.Product("shirt"); p.Pausing || !p.Paused {
			t.Errorf("after its link the pause is %+v", p)
		}
		w.sell(t, 7, "mug")
		wantLink("mug", 1, 7)
		o = newOrder("b@x.com")
		publishOrders(t, js, "mug", o) // the queue's feed brings the new subject, too
		eventually(t, "the new product's order is heard of", r.knows(o))
	})
}

// Copies are core NATS and get lost, of the queue or of the history: what is missing
// shows as a gap, or when somebody asks, and is read from the stream.
func TestGapsAreRead(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.sell(t, 50, "shirt", "mug")
		g := w.gate()
		r := follow(t, dial(t, w.options(t, g)))
		js := w.admin(t)
		r.caughtUp(t)

		first := newOrder("first@x.com")
		publishOrders(t, js, "shirt", first)
		eventually(t, "the queue is followed", r.knows(first))

		g.losing(isCopy)
		lost := []sale.Order{newOrder("a@x.com"), newOrder("b@x.com"), newOrder("c@x.com")}
		publishOrders(t, js, "shirt", lost[0], lost[1])
		publishOrders(t, js, "mug", lost[2])
		stop := w.work(t, "mug")
		waitDrained(t, js, "mug")
		stop()
		r.caughtUp(t) // only asking tells that there are more
		r.wantStatus(t, lost[0], "shirt", sale.Pending)
		r.wantStatus(t, lost[1], "shirt", sale.Pending)
		r.wantStatus(t, lost[2], "mug", sale.Accepted)

		again := []sale.Order{newOrder("d@x.com"), newOrder("e@x.com"), newOrder("f@x.com")}
		publishOrders(t, js, "mug", again[0])
		publishOrders(t, js, "mug", again[1])
		publishOrders(t, js, "shirt", again[2])
		stop = w.work(t, "mug")
		waitDrained(t, js, "mug")
		stop()
		eventually(t, "the lost ones are gone", func() bool { return g.lost() >= 8 })
		g.losing(nil)
		last := newOrder("last@x.com")
		publishOrders(t, js, "shirt", last) // the gap before it shows
		eventually(t, "the last one is known", r.knows(last))
		r.wantStatus(t, again[2], "shirt", sale.Pending)
		publishOrders(t, js, "mug", newOrder("g@x.com"))
		w.work(t, "mug")
		eventually(t, "the gap in the history shows, too", func() bool { return r.links("mug") == 5 })
		r.wantStatus(t, again[0], "mug", sale.Accepted)
		r.wantStatus(t, again[1], "mug", sale.Accepted)
		if n := r.waiting("shirt"); n != 5 {
			t.Errorf("%d wait for a shirt", n)
		}
	})
}

// TestCatchUpHoldsWhatWasStoredBefore: an order that another instance took a
// moment ago is never unknown (P6).
func TestCatchUpHoldsWhatWasStoredBefore(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.sell(t, 5, "shirt")
		g := w.gate()
		g.losing(isCopy) // so that asking alone brings it
		r := follow(t, dial(t, w.options(t, g)))
		w.work(t, "shirt") // some are decided and gone when they are asked for
		var wg sync.WaitGroup
		for caller := range 4 {
			js := w.admin(t)
			wg.Go(func() {
				for i := range 15 {
					o := newOrder(fmt.Sprintf("%d@caller%d.com", i, caller))
					publishOrders(t, js, "shirt", o)
					if err := r.CatchUp(within(t)); err != nil && !strings.Contains(err.Error(), "deadline") {
						t.Errorf("catching up: %v", err)
					} else if _, ok := r.book.Status(o.ID, o.Email); err == nil && !ok {
						t.Errorf("order %d of caller %d was stored before, and is not in the book", i, caller)
					}
				}
			})
		}
		wg.Wait()
	})
}

// logged keeps what was logged.
type logged struct {
	mu  sync.Mutex
	all []string
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }

func (l *logged) WithAttrs([]slog.Attr) slog.Handler { return l }

func (l *logged) WithGroup(string) slog.Handler { return l }

func (l *logged) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, r.Message)
	return nil
}

func (l *logged) has(part string) bool { return l.count(part) > 0 }

func (l *logged) count(part string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.all {
		if strings.Contains(m, part) {
			n++
		}
	}
	return n
}
