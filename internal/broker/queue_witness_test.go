package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// opened opens the shirt's queue as an instance with that book does, and tells what that
// says. A message that comes goes back.
func (w *world) opened(t testing.TB, c *broker.Conn, book *sale.Book, mark func(epoch string) uint64) error {
	t.Helper()
	worker, _ := newWorker(c, "shirt", book)
	q := broker.NewQueue(c, "shirt", broker.Witnesses{Newest: worker.Newest, Mark: mark})
	defer leave(t, q)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, patience) {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		_, err := q.Next(ctx)
		cancel()
		switch {
		case err == nil, errors.Is(err, sale.ErrBehind):
			return err
		case err == ctx.Err():
			return nil
		} // else it was cut short while it was opened
	}
}

// flow publishes orders as fast as they are decided, until stop is called.
func (w *world) flow(t testing.TB, confirmed func(seq uint64)) (stop func()) {
	t.Helper()
	js, queued := w.admin(t), w.queued(t)
	ctx, cancel := context.WithCancel(within(t))
	var flowing sync.WaitGroup
	flowing.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			ack, err := js.Publish(ctx, "orders.shirt", fmt.Appendf(nil, `{"email":"a%d@x.com"}`, i))
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			confirmed(ack.Sequence)
			if i%10 == 9 {
				eventually(t, "the orders are decided", func() bool { return ctx.Err() != nil || queued() < 3 })
			}
		}
	})
	return func() { cancel(); flowing.Wait() }
}

// decided lets so many messages be decided.
func (w *world) decided(t testing.TB, messages int) {
	t.Helper()
	js := w.admin(t)
	for i := range messages {
		publish(t, js, "shirt", fmt.Appendf(nil, `{"email":"a%d@x.com"}`, i))
	}
	stop := w.work(t, "shirt")
	w.wantDrained(t)
	eventually(t, "the last acknowledgement has arrived", func() bool {
		consumer, err := js.Consumer(within(t), "ORDERS", "shirt")
		return err == nil && consumer.CachedInfo().NumAckPending == 0
	})
	stop()
}

// restored makes the bucket anew with its first values only, as an old backup does.
func (w *world) restored(t testing.TB, values int) {
	t.Helper()
	js := w.admin(t)
	config, all := w.config(t, "KV_stock"), w.read(t, "KV_stock")
	recreate(t, js, config)
	for _, m := range all[:values] {
		publishTo(t, js, m.Subject, m.Data)
	}
}

// A queue is opened only where queue and history agree: what one of them has lost could
// be sold again, or be lost (P3).
func TestQueueHearsItsWitnesses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		lose  func(t *testing.T, w *world)
		mark  uint64
		wants []string
	}{
		{"nothing is lost", func(*testing.T, *world) {}, 0, nil},
		{"nothing is lost, and the mark says so", func(*testing.T, *world) {}, 4, nil},
		{"the history's last two links", func(t *testing.T, w *world) { w.restored(t, 3) }, 0,
			[]string{"the history is behind", "message 4 was settled, 2 more"}},
		{"the history but for its beginning", func(t *testing.T, w *world) { w.restored(t, 1) }, 0,
			[]string{"the history is behind", "4 more"}},
		{"the queue", func(t *testing.T, w *world) {
			recreate(t, w.admin(t), w.config(t, "ORDERS")) // of the same epoch
			w.sell(t, 9, "shirt")
		}, 0, []string{"the queue is behind", "it ends at message 0", "4 more"}},
		{"the queue's tail, which the mark remembers", func(*testing.T, *world) {}, 7,
			[]string{"the queue is behind", "it ends at message 4 and had confirmed message 7, 3 more"}},
		{"the queue, for one of an earlier backup", func(t *testing.T, w *world) {
			appendLink(t, w.connect(t), "shirt", sale.Position{Epoch: "2126-03-01T08:00:00Z", Seq: 1})
		}, 0, []string{"the queue is behind", "2126-03-01T08:00:00Z"}},
		{"the queue, and a new one was made", func(t *testing.T, w *world) {
			if err := w.admin(t).DeleteStream(within(t), "ORDERS"); err != nil {
				t.Fatal(err)
			}
			w.sell(t, 9, "shirt")
		}, 0, nil},
		{"the consumer", func(t *testing.T, w *world) {
			// One that is made in its place reports a floor that it never acknowledged.
			w.restored(t, 1)
			js := w.admin(t)
			if err := js.DeleteConsumer(within(t), "ORDERS", "shirt"); err != nil {
				t.Fatal(err)
			}
			w.sell(t, 9, "shirt")
			consumer, err := js.Consumer(within(t), "ORDERS", "shirt")
			if err != nil {
				t.Fatal(err)
			}
			if floor := consumer.CachedInfo().AckFloor; floor.Stream == 0 || floor.Consumer != 0 {
				t.Fatalf("its floor is %+v", floor)
			}
		}, 0, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := on(t, one)
			w.sell(t, 9, "shirt")
			w.decided(t, 4)
			epoch := w.epoch(t)
			mark := func(of string) uint64 {
				if of != epoch {
					return 0
				}
				return test.mark
			}
			test.lose(t, w)
			for range 2 { // and again, for ever
				err := w.opened(t, w.connect(t), sale.NewBook(10), mark)
				if errors.Is(err, sale.ErrBehind) != (test.wants != nil) || err != nil && !errors.Is(err, sale.ErrBehind) {
					t.Errorf("opening it says %v", err)
				}
				for _, want := range test.wants {
					if err != nil && !strings.Contains(err.Error(), want) {
						t.Errorf("opening it says %q, without %q", err, want)
					}
				}
			}
		})
	}
}

// In a healthy sale the witnesses agree whenever they are asked, however busy it is.
func TestWitnessesAgreeInABusySale(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.sell(t, 9, "shirt")
		w.work(t, "shirt")
		epoch := w.epoch(t)
		var confirmed atomic.Uint64
		defer w.flow(t, confirmed.Store)()
		c := w.connect(t)
		r := follow(t, c)
		r.caughtUp(t)
		for range 30 {
			if err := w.opened(t, c, r.book, func(of string) uint64 {
				if of != epoch {
					t.Errorf("asked for the mark of %q", of)
				}
				return confirmed.Load()
			}); err != nil {
				t.Fatal(err)
			}
		}
		if confirmed.Load() < 30 {
			t.Errorf("only %d messages were decided beside it", confirmed.Load())
		}
	})
}

// What a product's worker cannot read of its history holds its queue up, too.
func TestQueueNeedsItsHistory(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 9, "shirt")
	_, q := newWorker(c, "shirt", sale.NewBook(10))
	if err := w.admin(t).DeleteStream(within(t), "KV_stock"); err != nil {
		t.Fatal(err)
	}
	publish(t, w.admin(t), "shirt", []byte("waits"))
	if d, err := q.Next(within(t)); err == nil || errors.Is(err, sale.ErrBehind) {
		t.Errorf("%v came, %v", d, err)
	}
}
