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
	*broker.Follower
	book *sale.Book
	shop *broker.Shop
}

// follow starts a reader on a connection; the test's end stops it.
func follow(t testing.TB, c *broker.Conn) *reader {
	t.Helper()
	shop, err := broker.OpenShop(within(t), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shop.Close)
	r := &reader{book: sale.NewBook(1_000_000), shop: shop}
	if r.Follower, err = broker.NewFollower(within(t), c, r.book, shop); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("following: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return r
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

// TestBookIsBuiltFromLedgerAndBacklog reads more than one batch of either.
func TestBookIsBuiltFromLedgerAndBacklog(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 100, "shirt", "mug", "cap")
	js := w.admin(t)
	orders := map[sale.ProductID][]sale.Order{}
	var futures []jetstream.PubAckFuture
	for i := range 1500 {
		p := []sale.ProductID{"shirt", "cap"}[i%2]
		if i%10 == 5 {
			p = "mug"
		}
		var group []sale.Order
		for j := range 1 + i%4 {
			group = append(group, newOrder(fmt.Sprintf("buyer%d@mail%d.com", i, j)))
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
	w.work(t, "mug") // what another instance decided before
	eventually(t, "the mugs are decided", func() bool {
		stock, _, err := openStocks(t, c).Load(within(t), "mug")
		return err == nil && stock.Decided == uint64(len(orders["mug"]))
	})

	r := follow(t, w.connect(t))
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
		if want := uint64(len(list)); p != "mug" && r.book.Waiting(p) != want {
			t.Errorf("%d wait for %s, want %d", r.book.Waiting(p), p, want)
		}
	}
	if n := r.book.Waiting("mug"); n != 0 {
		t.Errorf("%d wait for a mug", n)
	}
}

// TestGapsInTheLineAreFilled: republished messages are core NATS and get lost.
func TestGapsInTheLineAreFilled(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.sell(t, 5, "shirt", "mug")
		g := w.gate()
		r := follow(t, dial(t, w.options(t, g)))
		js := w.admin(t)
		r.caughtUp(t)

		first := newOrder("first@x.com")
		publishOrders(t, js, "shirt", first)
		eventually(t, "the line is followed", r.knows(first))

		g.losing(isLine)
		lost := []sale.Order{newOrder("a@x.com"), newOrder("b@x.com"), newOrder("c@x.com")}
		publishOrders(t, js, "shirt", lost[0], lost[1])
		publishOrders(t, js, "mug", lost[2])
		r.caughtUp(t) // only asking tells that there are more
		r.wantStatus(t, lost[0], "shirt", sale.Pending)
		r.wantStatus(t, lost[1], "shirt", sale.Pending)
		r.wantStatus(t, lost[2], "mug", sale.Pending)

		again := []sale.Order{newOrder("d@x.com"), newOrder("e@x.com")}
		publishOrders(t, js, "mug", again[0])
		publishOrders(t, js, "shirt", again[1])
		if err := js.Conn().FlushWithContext(within(t)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the lost ones are gone", func() bool { return g.lost() >= 4 })
		g.losing(nil)
		last := newOrder("last@x.com")
		publishOrders(t, js, "shirt", last) // the gap before it shows
		eventually(t, "the last one is known", r.knows(last))
		r.wantStatus(t, again[0], "mug", sale.Pending)
		r.wantStatus(t, again[1], "shirt", sale.Pending)
		if n := r.book.Waiting("shirt"); n != 5 {
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
		g.losing(isLine) // so that asking alone brings it
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

func TestLineIgnoresWhatTheQueueDidNotSend(t *testing.T) {
	w := on(t, one)
	w.sell(t, 5, "shirt")
	log := &logged{}
	o := w.options(t, nil)
	o.Log = slog.New(log)
	r := follow(t, dial(t, o))
	r.caughtUp(t)
	js := w.admin(t)
	if err := js.Conn().Publish("line.shirt", []byte(`{"email":"forged@x.com"}`)); err != nil {
		t.Fatal(err)
	}
	real := newOrder("real@x.com")
	publishOrders(t, js, "shirt", real)
	eventually(t, "the real one is known", r.knows(real))
	if r.book.Len() != 1 || r.book.Waiting("shirt") != 1 {
		t.Errorf("the book holds %d orders", r.book.Len())
	}
	if !log.has("a message on the line that the queue did not send") {
		t.Error("the forged one was not logged")
	}
}

// TestHandPublishedOrderIsFirstClass: it is in the book under its derived id.
func TestHandPublishedOrderIsFirstClass(t *testing.T) {
	w := on(t, one)
	w.sell(t, 5, "shirt")
	r := follow(t, w.connect(t))
	r.caughtUp(t)
	publish(t, w.admin(t), "shirt", []byte("{\"email\":\"CLI@example.com\"}\ngarbage\n"))
	r.caughtUp(t)
	got := r.book.Newest("cli@example.com", 10)
	if len(got) != 1 || got[0].Quantity != 1 || got[0].Product != "shirt" || got[0].Outcome != sale.Pending {
		t.Errorf("the book has %+v", got)
	}
}

func TestBrokenLedgerEndsCatchUp(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		n     uint64
		entry string
	}{
		{"not an entry", 1, "garbage"},
		{"a gap", 2, `{"product":"shirt","n":2,"epoch":"2026-03-01T08:00:00Z","seq":1,"prev":"","supplied":5,"available":5,"decided":0,"decided_at":"2026-03-01T08:00:00Z","orders":[]}`},
		{"of another product", 1, `{"product":"mug","n":1,"epoch":"2026-03-01T08:00:00Z","seq":1,"prev":"","supplied":5,"available":5,"decided":0,"decided_at":"2026-03-01T08:00:00Z","orders":[]}`},
		{"under another number", 1, `{"product":"shirt","n":0,"epoch":"2026-03-01T08:00:00Z","seq":1,"prev":"","supplied":5,"available":5,"decided":0,"decided_at":"2026-03-01T08:00:00Z","orders":[]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := on(t, one)
			c := w.sell(t, 5, "shirt", "mug")
			log := &logged{}
			o := w.options(t, nil)
			o.Log = slog.New(log)
			r := follow(t, dial(t, o))
			r.caughtUp(t)
			if err := openLedger(t, c).Append(within(t), "shirt", test.n, []byte(test.entry)); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("entry %d of shirt", test.n)
			eventually(t, "catching up fails", func() bool {
				err := r.CatchUp(within(t))
				return err != nil && strings.Contains(err.Error(), want)
			})
			if !log.has("run firstcome audit") {
				t.Error("it was not logged")
			}
		})
	}
}

// TestNewQueueBeginsANewEpoch: a recreated stream counts from 1 again.
func TestNewQueueBeginsANewEpoch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		lose func([]byte) bool
	}{{"line heard", nil}, {"line lost", isLine}} {
		t.Run(test.name, func(t *testing.T) {
			w := on(t, one)
			w.sell(t, 5, "shirt")
			g := w.gate()
			g.losing(isLine) // so that somebody has waited for the old one's end
			r := follow(t, dial(t, w.options(t, g)))
			js := w.admin(t)
			for i := range 20 {
				publishOrders(t, js, "shirt", newOrder(fmt.Sprintf("old%d@x.com", i)))
			}
			r.caughtUp(t)

			if err := js.DeleteStream(within(t), "ORDERS"); err != nil {
				t.Fatal(err)
			}
			w.sell(t, 5, "shirt")
			g.losing(test.lose)
			for i := range 30 { // past the sequence where the old one ended
				o := newOrder(fmt.Sprintf("new%d@x.com", i))
				publishOrders(t, js, "shirt", o)
				r.caughtUp(t)
				if r.wantStatus(t, o, "shirt", sale.Pending); t.Failed() {
					t.Fatalf("order %d behind the change", i)
				}
				if n := r.book.Waiting("shirt"); n != uint64(i+1) {
					t.Fatalf("%d wait behind order %d", n, i)
				}
			}
			g.losing(nil)
			last := newOrder("last@x.com")
			publishOrders(t, js, "shirt", last)
			eventually(t, "the line is followed again", r.knows(last))
		})
	}
}

// TestFollowerComesBack: what was stored and decided meanwhile is caught up with.
func TestFollowerComesBack(t *testing.T) {
	w := on(t, one)
	w.sell(t, 5, "shirt")
	g := w.gate()
	c := dial(t, w.options(t, g))
	back := make(chan struct{}, 10)
	c.OnReturn(func() {
		select {
		case back <- struct{}{}:
		default:
		}
	})
	r := follow(t, c)
	r.caughtUp(t)
	g.close()
	eventually(t, "the connection is gone", func() bool { return !c.Connected() })
	if err := r.CatchUp(within(t)); err == nil {
		t.Error("catching up without a broker succeeded")
	}
	decided, waits := newOrder("a@x.com"), newOrder("b@x.com")
	js := w.admin(t)
	publishOrders(t, js, "shirt", decided)
	stop := w.work(t, "shirt")
	eventually(t, "it is decided", func() bool { return len(w.read(t, "LEDGER")) == 1 })
	stop()
	publishOrders(t, js, "shirt", waits)
	g.open()
	select {
	case <-back:
	case <-within(t).Done():
		t.Fatal("nobody said that the broker is back")
	}
	r.caughtUp(t)
	r.wantStatus(t, decided, "shirt", sale.Accepted)
	r.wantStatus(t, waits, "shirt", sale.Pending)
}

// logged keeps what was logged.
type logged struct {
	mu  sync.Mutex
	all []string
}

func (l *logged) Enabled(context.Context, slog.Level) bool { return true }
func (l *logged) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logged) WithGroup(string) slog.Handler            { return l }

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
