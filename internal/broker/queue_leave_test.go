package broker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// A server that says nothing does not hold up a close.
func TestCloseDoesNotWaitForASilentServer(t *testing.T) {
	w := on(t, one).slowly()
	w.sell(t, 5, "shirt")
	g := w.gate()
	q := newQueue(t, dial(t, w.options(t, g)))
	publish(t, w.admin(t), "shirt", []byte("first"))
	settle(t, comes(t, q, patience)) // so that it has the pin
	idle(t, q)
	g.losing(func([]byte) bool { return true })
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		q.Close()
	}()
	select {
	case <-closed:
	case <-time.After(soon): // it takes handBackTime; the client gives its server up after 4 to 6 s
		t.Error("it still waits")
		g.close()
		<-closed
	}
}

// A consumer that somebody changed may break the order (P2): nothing is taken from it.
func TestQueueRefusesAChangedConsumer(t *testing.T) {
	w := on(t, one).slowly()
	q := newQueue(t, w.sell(t, 5, "shirt"))
	js := w.admin(t)
	publish(t, js, "shirt", []byte("first"))
	consumer, err := js.Consumer(within(t), "ORDERS", "shirt")
	if err != nil {
		t.Fatal(err)
	}
	cfg := consumer.CachedInfo().Config
	cfg.MaxAckPending = 2
	if _, err := js.UpdateConsumer(within(t), "ORDERS", cfg); err != nil {
		t.Fatal(err)
	}
	if d, err := q.Next(within(t)); !errors.Is(err, broker.ErrDrift) {
		t.Errorf("%v came, %v", d, err)
	}
}

// An instance that was cut off while the queue was made anew, and while others took from
// the new one, knows its epoch: by the old one its messages would look settled (P3).
func TestEpochIsNewBehindOthers(t *testing.T) {
	w := on(t, one).slowly()
	w.sell(t, 5, "shirt")
	js := w.admin(t)
	g := w.gate()
	c := dial(t, w.options(t, g))
	q := newQueue(t, c)
	publish(t, js, "shirt", []byte("old"))
	settle(t, comes(t, q, patience))
	if err := c.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	g.close()
	eventually(t, "the connection is gone", func() bool { return !c.Connected() })
	if err := js.DeleteStream(within(t), "ORDERS"); err != nil {
		t.Fatal(err)
	}
	other := newQueue(t, w.sell(t, 5, "shirt"))
	for i := range 3 {
		publish(t, js, "shirt", fmt.Append(nil, i))
		settle(t, comes(t, other, patience))
	}
	leave(t, other)
	seq := publish(t, js, "shirt", []byte("new"))
	g.open()
	d := comes(t, q, patience)
	wantMessage(t, d, seq, "new")
	if want := w.epoch(t); d.Message().Epoch != want {
		t.Errorf("the epoch is %s, want %s", d.Message().Epoch, want)
	}
	settle(t, d)
}

// Whose pin ran out stands by like anybody else, and is served again.
func TestPinThatRanOutIsForgotten(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.slowly()
		late, other := newQueue(t, w.sell(t, 5, "shirt")), newQueue(t, w.connect(t))
		js := w.admin(t)
		publish(t, js, "shirt", []byte("first"))
		settle(t, comes(t, late, patience))
		stream, err := js.Stream(within(t), "ORDERS")
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.UnpinConsumer(within(t), "shirt", "deciders"); err != nil { // as time would
			t.Fatal(err)
		}
		publish(t, js, "shirt", []byte("second"))
		settle(t, comes(t, other, patience))
		idle(t, late)
		pin := pinned(t, js)
		leave(t, late) // a stand-by
		if now := pinned(t, js); now != pin || pin == "" {
			t.Errorf("the pin was %q, and is %q", pin, now)
		}
		idle(t, late)
		leave(t, other)
		seq := publish(t, js, "shirt", []byte("third"))
		d := comes(t, late, patience)
		wantMessage(t, d, seq, "third")
		settle(t, d)
	})
}

// noAppend fails every append and stops the worker at the first.
type noAppend struct {
	sale.History
	stop context.CancelFunc
}

func (h noAppend) Append(context.Context, sale.ProductID, sale.Seq, []byte) (sale.Seq, error) {
	h.stop()
	return 0, errors.New("the append has failed")
}

// A worker that is told to stop while a message cannot be decided gives it back: it
// must not stall the product until its redelivery.
func TestLeaveHandsBackWhatWasNotDecided(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.slowly()
		c := w.sell(t, 5, "shirt")
		r := follow(t, c)
		r.caughtUp(t)
		worker, q := newWorker(c, "shirt", r.book)
		ctx, cancel := context.WithCancel(context.Background())
		worker.History = noAppend{worker.History, cancel}
		seq := publish(t, w.admin(t), "shirt", []byte(`{"email":"a@x.com"}`))
		worker.Run(ctx)
		leave(t, q)
		d := comes(t, newQueue(t, w.connect(t)), soon)
		wantMessage(t, d, seq, `{"email":"a@x.com"}`)
		settle(t, d)
	})
}
