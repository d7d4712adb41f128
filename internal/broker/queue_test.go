package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// soon is well under the time to a redelivery and the life of a pin, 5 s both:
// what comes within it was handed over, not waited out.
const soon = 4 * time.Second

// comes asks for the next message as a worker does, for so long.
func comes(t testing.TB, q *broker.Queue, wait time.Duration) sale.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	for {
		d, err := q.Next(ctx)
		if err == nil {
			return d
		}
		if ctx.Err() != nil {
			t.Fatalf("nothing came in %v: %v", wait, err)
		}
	}
}

func wantMessage(t testing.TB, d sale.Delivery, seq uint64, data string) {
	t.Helper()
	if m := d.Message(); m.Seq != seq || string(m.Data) != data {
		t.Fatalf("message %d came, %q; want %d, %q", m.Seq, m.Data, seq, data)
	}
}

func settle(t testing.TB, d sale.Delivery) {
	t.Helper()
	if err := d.Ack(); err != nil {
		t.Fatal(err)
	}
}

// idle lets the queue ask for a message while there is none, and give up.
func idle(t testing.TB, q *broker.Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if d, err := q.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v came, %v", d, err)
	}
}

func newQueue(t testing.TB, c *broker.Conn) *broker.Queue {
	t.Helper()
	q := broker.NewQueue(c, "shirt", broker.Witnesses{})
	t.Cleanup(q.Close)
	return q
}

func leave(t testing.TB, q *broker.Queue) {
	t.Helper()
	if err := q.Leave(within(t)); err != nil {
		t.Fatal(err)
	}
}

// A message that has reached a holder who stops
// must not stall the product until its redelivery.
func TestLeaveHandsBackWhatNobodyTook(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.slowly()
		w.sell(t, 5, "shirt")
		g := w.gate()
		arrived := make(chan struct{})
		g.losing(func(frame []byte) bool {
			if bytes.HasSuffix(frame, []byte("first\r\n")) {
				close(arrived)
			}
			return false
		})
		c := dial(t, w.options(t, g))
		js := w.admin(t)
		leaving, next := newQueue(t, c), newQueue(t, w.connect(t))
		publish(t, js, "shirt", []byte("before"))
		settle(t, comes(t, leaving, patience)) // its consumer has a leader who serves it
		idle(t, leaving)
		seq := publish(t, js, "shirt", []byte("first"))
		receive(t, arrived)
		if err := c.Flush(within(t)); err != nil { // and the client has read it
			t.Fatal(err)
		}
		leave(t, leaving)
		d := comes(t, next, soon)
		wantMessage(t, d, seq, "first")
		if !d.Redelivered() {
			t.Error("it was not handed back, it never came")
		}
		settle(t, d)
		leaving.Close() // twice is once
	})
}

func TestLeaveLetsAnotherTakeOver(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.slowly()
		js := w.admin(t)
		leaving, next := newQueue(t, w.sell(t, 5, "shirt")), newQueue(t, w.connect(t))
		publish(t, js, "shirt", []byte("first"))
		d := comes(t, leaving, soon) // and is pinned
		idle(t, next)
		settle(t, d)
		seq := publish(t, js, "shirt", []byte("second"))
		idle(t, next)
		leave(t, leaving)
		d = comes(t, next, soon)
		wantMessage(t, d, seq, "second")
		settle(t, d)

		// It can come back, once the other has gone.
		leave(t, next)
		seq = publish(t, js, "shirt", []byte("third"))
		d = comes(t, leaving, soon)
		wantMessage(t, d, seq, "third")
		settle(t, d)
	})
}

// An instance that leaves while messages come does not take one along: it would come back
// only after AckWait.
func TestLeaveAmidMessages(t *testing.T) {
	w := on(t, three).slowly()
	conns := [2]*broker.Conn{w.sell(t, 5, "shirt"), w.connect(t)}
	js := w.admin(t)
	ctx, stop := context.WithCancel(context.Background())
	var flood sync.WaitGroup
	flood.Go(func() {
		for ctx.Err() == nil {
			if _, err := js.Publish(ctx, "orders.shirt", []byte("one")); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	})
	defer flood.Wait()
	defer stop()
	for i := range 60 {
		q := newQueue(t, conns[i%2])
		wait := soon
		if i == 0 {
			wait = patience // its consumer may not have a leader yet
		}
		settle(t, comes(t, q, wait))
		working, cancel := context.WithTimeout(ctx, time.Duration(i)*300*time.Microsecond)
		for {
			d, err := q.Next(working)
			if err != nil {
				break
			}
			settle(t, d)
		}
		cancel()
		leave(t, q)
	}
}

// A stand-by that goes leaves the deciding instance its pin.
func TestLeaveIsForTheOneWhoHasIt(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.slowly()
		js := w.admin(t)
		decider, leaving := newQueue(t, w.sell(t, 5, "shirt")), newQueue(t, w.connect(t))
		publish(t, js, "shirt", []byte("first"))
		settle(t, comes(t, decider, soon))
		idle(t, leaving)
		pin := pinned(t, js)
		leave(t, leaving)
		if now := pinned(t, js); now != pin || pin == "" {
			t.Errorf("the pin was %q, and is %q", pin, now)
		}
	})
}

// pinned is the id of the shirt's pin.
func pinned(t testing.TB, js jetstream.JetStream) string {
	t.Helper()
	c, err := js.Consumer(within(t), "ORDERS", "shirt")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range c.CachedInfo().PriorityGroups {
		return g.PinnedClientID
	}
	return ""
}

func TestUnpinNeedsAQueue(t *testing.T) {
	w := on(t, one).slowly()
	q := newQueue(t, w.sell(t, 5, "shirt"))
	js := w.admin(t)
	publish(t, js, "shirt", []byte("first"))
	settle(t, comes(t, q, soon))
	if err := js.DeleteStream(within(t), "ORDERS"); err != nil {
		t.Fatal(err)
	}
	if err := q.Unpin(within(t)); err == nil {
		t.Error("unpinned without a stream")
	}
}

// A queue that says nothing at all is not an empty one.
func TestSilentQueueIsNotEmpty(t *testing.T) {
	w := on(t, one).slowly()
	w.sell(t, 5, "shirt")
	g := w.gate()
	q := newQueue(t, dial(t, w.options(t, g)))
	next := func() (context.Context, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second) // as a worker waits
		defer cancel()
		_, err := q.Next(ctx)
		return ctx, err
	}
	if ctx, err := next(); err != ctx.Err() {
		t.Fatalf("of an empty queue it says %v", err)
	}
	g.swallow(true)
	defer g.swallow(false)
	for _, silence := range []string{"no heartbeat", "nobody to ask"} {
		eventually(t, silence, func() bool { // the first wait may begin with a heartbeat
			ctx, err := next()
			return err != nil && err != ctx.Err()
		})
		q.Close()
	}
}

func TestEpochIsTheStreamsMetadata(t *testing.T) {
	w := on(t, three)
	q := newQueue(t, w.sell(t, 5, "shirt"))
	publish(t, w.admin(t), "shirt", []byte("first"))
	d := comes(t, q, patience)
	if want := w.epoch(t); d.Message().Epoch != want {
		t.Errorf("the epoch is %s, want %s", d.Message().Epoch, want)
	}
	settle(t, d)
}

// TestQueueIsMadeAnew: whatever a holder was doing when its consumer or its stream
// was deleted and made again, it goes on with the new one, and knows its epoch.
func TestQueueIsMadeAnew(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"consumer", "stream"} {
		for _, doing := range []string{"waiting", "handling", "nothing", "cut off"} {
			t.Run(what+" while "+doing, func(t *testing.T) {
				w := on(t, one)
				w.sell(t, 5, "shirt")
				js := w.admin(t)
				g := w.gate()
				c := dial(t, w.options(t, g))
				q := newQueue(t, c)
				for i := range 3 {
					publish(t, js, "shirt", fmt.Append(nil, i))
				}
				settle(t, comes(t, q, patience))
				settle(t, comes(t, q, patience))
				inHand := comes(t, q, patience)
				if doing != "handling" {
					settle(t, inHand)
				}

				came := make(chan sale.Delivery, 1)
				if doing == "waiting" {
					idle(t, q) // its pull is there
					ctx := within(t)
					go func() {
						for ctx.Err() == nil {
							if d, err := q.Next(ctx); err == nil {
								came <- d
								return
							}
						}
					}()
				}
				if doing == "cut off" {
					if err := c.Flush(within(t)); err != nil {
						t.Fatal(err)
					}
					g.close()
					eventually(t, "the connection is gone", func() bool { return !c.Connected() })
				}
				var err error
				if what == "stream" {
					err = js.DeleteStream(within(t), "ORDERS")
				} else {
					eventually(t, "the acknowledgements have arrived", func() bool {
						consumer, err := js.Consumer(within(t), "ORDERS", "shirt")
						return err == nil && (doing == "handling" || consumer.CachedInfo().NumAckPending == 0)
					})
					err = js.DeleteConsumer(within(t), "ORDERS", "shirt")
				}
				if err != nil {
					t.Fatal(err)
				}
				w.sell(t, 5, "shirt")
				seq := publish(t, js, "shirt", []byte("new"))
				if doing == "cut off" {
					g.open()
				}
				if doing == "handling" {
					settle(t, inHand) // it was in the old one, or is delivered again
				}
				if doing != "waiting" {
					came <- comes(t, q, patience)
				}
				d := receive(t, came)
				if what == "consumer" && doing == "handling" && d.Message().Seq != seq {
					settle(t, d)
					d = comes(t, q, patience)
				}
				wantMessage(t, d, seq, "new")
				if want := w.epoch(t); d.Message().Epoch != want {
					t.Errorf("the epoch is %s, want %s", d.Message().Epoch, want)
				}
				settle(t, d)
			})
		}
	}
}
