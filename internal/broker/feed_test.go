package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
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

// Anybody may publish below the feeds' subjects: what no stream sent is logged and
// passed over.
func TestFeedIgnoresWhatNoStreamSent(t *testing.T) {
	w := on(t, one)
	w.sell(t, 5, "shirt")
	log := &logged{}
	o := w.options(t, nil)
	o.Log = slog.New(log)
	c := dial(t, o)
	r := follow(t, c)
	r.caughtUp(t)
	js := w.admin(t)
	forgery := forged(t, c, "shirt", func(sale.Head) string { return `"by":"` }, func(sale.Head) string { return `"by":"` })
	if err := js.Conn().Publish("line.orders.shirt", []byte(`{"email":"forged@x.com"}`)); err != nil {
		t.Fatal(err)
	}
	if err := js.Conn().Publish("ledger.shirt", forgery); err != nil {
		t.Fatal(err)
	}
	if err := js.Conn().PublishMsg(&nats.Msg{Subject: "ledger.shirt", Data: forgery, Header: nats.Header{ // of another stream
		"Nats-Stream": {"OTHER"}, "Nats-Subject": {"$KV.stock.shirt"}, "Nats-Sequence": {"2"},
		"Nats-Time-Stamp": {time.Now().UTC().Format(time.RFC3339Nano)}}}); err != nil {
		t.Fatal(err)
	}
	real := newOrder("real@x.com")
	publishOrders(t, js, "shirt", real)
	eventually(t, "the real one is known", r.knows(real))
	w.work(t, "shirt")
	eventually(t, "the real link is known", func() bool { return r.links("shirt") == 2 })
	if p, _ := r.book.Product("shirt"); r.book.Len() != 1 || p.Supplied != 5 || p.Sold != 1 {
		t.Errorf("the book holds %d orders, and %+v", r.book.Len(), p.Stock)
	}
	if n := log.count("messages that the stream did not send"); n != 2 {
		t.Errorf("%d warnings of forged ones, one a stream wanted", n)
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

// What is in the bucket and is no link is counted and passed over, heard live or read
// from the stream, and keys that no product can have are not even that.
func TestFeedPassesOverWhatIsNoLink(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		c := w.sell(t, 5, "shirt", "mug")
		kv := w.bucket(t)
		byHand := func() {
			put(t, kv, "shirt", []byte("garbage"))
			put(t, kv, "shirt", nil)
			put(t, kv, "shirt", wrongPrev(t, c, "shirt"))
			put(t, kv, "shirt", newest(t, c, "mug").Value) // another product's
			if err := kv.Delete(within(t), "shirt"); err != nil {
				t.Fatal(err)
			}
			for _, key := range []sale.ProductID{"shirt.more", "shirt.more.still", "UPPER", "_x", "a=b"} {
				put(t, kv, key, newest(t, c, "shirt").Value)
			}
			put(t, kv, "scarf", newest(t, c, "shirt").Value) // a product that nobody sells
		}
		byHand()
		readers := map[string]*reader{}
		foreign := map[string]chan sale.ProductID{}
		open := func(name string) {
			book := sale.NewBook(100)
			heard := make(chan sale.ProductID, 100)
			book.OnForeign(func(p sale.ProductID, _ sale.Seq, err error) {
				if !errors.Is(err, sale.ErrNoLink) {
					t.Errorf("%s: %v", p, err)
				}
				heard <- p
			})
			readers[name], foreign[name] = followInto(t, w.connect(t), book), heard
			readers[name].caughtUp(t)
		}
		open("live")
		byHand()
		appendLink(t, c, "mug", newest(t, c, "mug").Queue)
		open("late")
		for name, r := range readers {
			eventually(t, name+" knows the last link", func() bool { return r.links("mug") == 2 })
			if r.links("shirt") != 1 || r.book.Foreign("shirt") != 10 || r.book.Foreign("mug") != 0 {
				t.Errorf("%s: the shirt is at link %d, and %d values are foreign", name, r.links("shirt"), r.book.Foreign("shirt"))
			}
			count := map[sale.ProductID]int{}
			for len(foreign[name]) > 0 {
				count[<-foreign[name]]++
			}
			if len(count) != 2 || count["shirt"] != 10 || count["scarf"] != 2 {
				t.Errorf("%s heard of foreign values %v", name, count)
			}
			if products := r.book.Products(); len(products) != 2 {
				t.Errorf("%s knows %d products", name, len(products))
			}
		}
	})
}

// A value that is the next link in an unknown layout stops its product alone.
func TestFeedStopsAtANewerLink(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "shirt", "mug")
	log := &logged{}
	o := w.options(t, nil)
	o.Log = slog.New(log)
	r := follow(t, dial(t, o))
	r.caughtUp(t)
	put(t, w.bucket(t), "shirt", forged(t, c, "shirt", func(sale.Head) string { return `"v":2` }, func(sale.Head) string { return `"v":3` }))
	appendLink(t, c, "mug", newest(t, c, "mug").Queue)
	eventually(t, "the other product goes on", func() bool { return r.links("mug") == 2 })
	if err := r.book.Stopped("shirt"); !errors.Is(err, sale.ErrNewer) {
		t.Errorf("the book says %v", err)
	}
	if !log.has("is not followed any more") {
		t.Error("nothing was logged")
	}
}

// A history that lacks a revision is refused at the start, by one that waiting does not
// mend: an instance that began on the rest could sell what was sold. One that runs goes
// on from memory.
func TestFeedRefusesACutHistory(t *testing.T) {
	t.Parallel()
	without := func(seq uint64) func(t *testing.T, w *world, stream jetstream.Stream, bucket jetstream.StreamConfig) {
		return func(t *testing.T, w *world, stream jetstream.Stream, bucket jetstream.StreamConfig) {
			bucket.DenyDelete = false
			remake(t, w, bucket)
			if err := stream.DeleteMsg(within(t), seq); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, cut := range map[string]func(t *testing.T, w *world, stream jetstream.Stream, bucket jetstream.StreamConfig){
		"in the middle": without(3),
		"at the end":    without(5),
		"at the beginning": func(t *testing.T, w *world, _ jetstream.Stream, bucket jetstream.StreamConfig) {
			bucket.MaxMsgsPerSubject = 2 // as `nats stream edit` does
			if _, err := w.admin(t).UpdateStream(within(t), bucket); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := on(t, one)
			c := w.sell(t, 5, "shirt")
			js := w.admin(t)
			for range 4 {
				appendLink(t, c, "shirt", newest(t, c, "shirt").Queue)
			}
			running := follow(t, w.connect(t))
			running.caughtUp(t)
			stream, err := js.Stream(within(t), "KV_stock")
			if err != nil {
				t.Fatal(err)
			}
			cut(t, w, stream, stream.CachedInfo().Config)
			late := follow(t, w.connect(t))
			if err := late.CatchUp(within(t)); !errors.Is(err, broker.ErrCut) || !broker.Final(err) {
				t.Errorf("a start on a cut history says %v", err)
			}
			if name == "at the beginning" {
				running.caughtUp(t)
				if running.links("shirt") != 5 {
					t.Errorf("the running instance is at link %d", running.links("shirt"))
				}
			}
		})
	}
}

// remake makes a stream anew with these settings and the messages that it has.
func remake(t testing.TB, w *world, config jetstream.StreamConfig) {
	t.Helper()
	js := w.admin(t)
	messages := w.read(t, config.Name)
	if err := js.DeleteStream(within(t), config.Name); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(within(t), config); err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		if _, err := js.PublishMsg(within(t), &nats.Msg{Subject: m.Subject, Data: m.Data}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNewQueueBeginsANewEpoch: a queue that was made anew counts from 1 again.
func TestNewQueueBeginsANewEpoch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		lose func([]byte) bool
	}{{"copies heard", nil}, {"copies lost", isCopy}} {
		t.Run(test.name, func(t *testing.T) {
			w := on(t, one)
			w.sell(t, 5, "shirt")
			g := w.gate()
			g.losing(isCopy) // so that somebody has waited for the old one's end
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
				if n := r.waiting("shirt"); n != uint64(i+1) {
					t.Fatalf("%d wait behind order %d", n, i)
				}
			}
			g.losing(nil)
			last := newOrder("last@x.com")
			publishOrders(t, js, "shirt", last)
			eventually(t, "the queue is followed again", r.knows(last))
		})
	}
}

// A copy alone tells of a queue that was made anew: its sequences begin again, and its
// times go on.
func TestNewQueueIsHeardOf(t *testing.T) {
	w := on(t, one)
	w.sell(t, 5, "shirt")
	r := follow(t, w.connect(t))
	js := w.admin(t)
	for i := range 3 {
		publishOrders(t, js, "shirt", newOrder(fmt.Sprintf("old%d@x.com", i)))
	}
	r.caughtUp(t)
	if err := js.DeleteStream(within(t), "ORDERS"); err != nil {
		t.Fatal(err)
	}
	w.sell(t, 5, "shirt")
	o := newOrder("new@x.com")
	publishOrders(t, js, "shirt", o)
	eventually(t, "the new queue's first message is known", r.knows(o))
	if n := r.waiting("shirt"); n != 1 {
		t.Errorf("%d wait", n)
	}
}

// A bucket that was replaced has another history under the same revisions: the book
// takes none of it.
func TestReplacedBucketIsAnError(t *testing.T) {
	w := on(t, one)
	w.sell(t, 5, "shirt")
	r := follow(t, w.connect(t))
	r.caughtUp(t)
	js := w.admin(t)
	if err := js.DeleteStream(within(t), "KV_stock"); err != nil {
		t.Fatal(err)
	}
	w.sell(t, 9, "shirt")
	err := r.CatchUp(within(t))
	if !errors.Is(err, broker.ErrDrift) || !strings.Contains(err.Error(), "bucket stock") {
		t.Errorf("catching up says %v", err)
	}
	if p, _ := r.book.Product("shirt"); p.Supplied != 5 {
		t.Errorf("the book took %+v", p.Stock)
	}
}

// TestFeedComesBack: what was stored and decided meanwhile is caught up with.
func TestFeedComesBack(t *testing.T) {
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
	w.wantDrained(t)
	stop()
	publishOrders(t, js, "shirt", waits)
	g.open()
	receive(t, back)
	r.caughtUp(t)
	r.wantStatus(t, decided, "shirt", sale.Accepted)
	r.wantStatus(t, waits, "shirt", sale.Pending)
}

// Close waits for what is being handled, and for a catching up under way; the
// connection may go before it.
func TestFeedCloses(t *testing.T) {
	w := on(t, one)
	w.sell(t, 5, "shirt")
	c := w.connect(t)
	book := sale.NewBook(100)
	entered, leave := make(chan struct{}), make(chan struct{})
	book.OnApply(func(_ sale.ProductID, head sale.Head) {
		if head.N == 2 {
			close(entered)
			<-leave
		}
	})
	r := followInto(t, c, book)
	r.caughtUp(t)
	appendLink(t, c, "shirt", newest(t, c, "shirt").Queue)
	receive(t, entered) // on the feed's goroutine
	caughtUp, closed := make(chan error, 1), make(chan struct{})
	go func() { caughtUp <- r.CatchUp(within(t)) }()
	go func() {
		defer close(closed)
		r.Close()
	}()
	if err := c.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-closed:
		t.Error("it did not wait for what was being handled")
	default:
	}
	close(leave)
	receive(t, closed)
	receive(t, caughtUp) // in time or not
	if err := r.CatchUp(within(t)); err == nil {
		t.Error("a closed feed was caught up with")
	}
	r.Close() // twice is once

	other := follow(t, c)
	c.Close()
	other.Close()
}

func TestFeedNeedsTheStreams(t *testing.T) {
	w := on(t, one)
	w.sell(t, 5, "shirt")
	feed, err := broker.OpenFeed(context.Background(), w.connect(t), sale.NewBook(1)) // it bounds itself
	if err != nil {
		t.Fatal(err)
	}
	feed.Close()
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := broker.OpenFeed(gone, w.connect(t), sale.NewBook(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("opening with an ended context: %v", err)
	}
	for _, stream := range []string{"ORDERS", "KV_stock"} {
		if err := w.admin(t).DeleteStream(within(t), stream); err != nil {
			t.Fatal(err)
		}
		if _, err := broker.OpenFeed(within(t), w.connect(t), sale.NewBook(1)); err == nil || !strings.Contains(err.Error(), stream) {
			t.Errorf("a feed opened without %s: %v", stream, err)
		}
		w.sell(t, 5, "shirt")
	}
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
