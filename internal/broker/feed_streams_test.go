package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

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
