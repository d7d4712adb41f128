package broker_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// TestBuyHearsTheOutcome is what the command does.
func TestBuyHearsTheOutcome(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		c := w.sell(t, 1, "shirt")
		w.work(t, "shirt")
		for _, want := range []string{"accepted", "sold_out"} {
			o := newOrder("a@x.com")
			got, err := broker.Buy(within(t), c, "shirt", o)
			if err != nil || got.Outcome != want || !strings.Contains(string(got.Body), o.ID.String()) {
				t.Errorf("bought %s %s, %v; want %s", got.Outcome, got.Body, err, want)
			}
		}
	})
}

// term is a context whose deadline passes when the test says so.
type term struct {
	context.Context
	over chan struct{}
}

func newTerm(t *testing.T) *term { return &term{within(t), make(chan struct{})} }

func (c *term) Done() <-chan struct{} { return c.over }

func (c *term) Err() error {
	select {
	case <-c.over:
		return context.DeadlineExceeded
	default:
		return c.Context.Err()
	}
}

// bought is what a call of Buy came to.
type bought struct {
	broker.Heard
	err error
}

func buying(ctx context.Context, c *broker.Conn, o sale.Order) <-chan bought {
	done := make(chan bought, 1)
	go func() {
		heard, err := broker.Buy(ctx, c, "shirt", o)
		done <- bought{heard, err}
	}()
	return done
}

func (b bought) want(t *testing.T, outcome string, o sale.Order) {
	t.Helper()
	if b.err != nil || b.Outcome != outcome || !strings.Contains(string(b.Body), `"id":"`+o.ID.String()+`","product":"shirt","email":"`+string(o.Email)) {
		t.Errorf("bought %s %s, %v; want %s", b.Outcome, b.Body, b.err, outcome)
	}
}

// queued is how many messages the queue holds, as somebody with the nats CLI sees it.
func (w *world) queued(t testing.TB) func() uint64 {
	t.Helper()
	stream, err := w.admin(t).Stream(within(t), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	return func() uint64 {
		info, err := stream.Info(within(t))
		if err != nil {
			t.Fatal(err)
		}
		return info.State.Msgs
	}
}

func isStatus(frame []byte) bool {
	return bytes.HasPrefix(frame, []byte("MSG status.")) || bytes.HasPrefix(frame, []byte("HMSG status."))
}

// A broadcast is lost with the connection that it should come by. The outcome is in the
// history: in the newest link, or in one before.
func TestBuyLooksForWhatItMissed(t *testing.T) {
	others := func(t *testing.T, c *broker.Conn, n int) {
		t.Helper()
		for range n {
			if _, err := broker.Buy(within(t), c, "shirt", newOrder("other@x.com")); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, later := range map[string]int{"decided last": 0, "decided before others": 5} {
		t.Run(name, func(t *testing.T) {
			onBoth(t, func(t *testing.T, w *world) {
				c := w.sell(t, 100, "shirt")
				o, g, queued := newOrder("a@x.com"), w.gate(), w.queued(t)
				buyer := dial(t, w.options(t, g))
				stop := w.work(t, "shirt")
				others(t, c, 3)

				// It looks every now and then while it waits.
				stop()
				eventually(t, "nothing waits", func() bool { return queued() == 0 })
				done := buying(t.Context(), buyer, o) // whose end is no deadline
				eventually(t, "it is queued", func() bool { return queued() == 1 })
				g.close()
				w.work(t, "shirt")
				others(t, c, later)
				eventually(t, "it is decided", func() bool { return queued() == 0 })
				g.open()
				receive(t, done).want(t, "accepted", o)

				// It looks when its time is over.
				g.losing(isStatus)
				o = newOrder("b@x.com")
				time := newTerm(t)
				done = buying(time, buyer, o)
				eventually(t, "its broadcast is lost", func() bool { return g.lost() > 0 })
				others(t, c, later)
				close(time.over)
				receive(t, done).want(t, "accepted", o)

				// Nor does it need to hear that it is in the queue.
				g.losing(func(frame []byte) bool { return isStored(frame) || isStatus(frame) })
				o = newOrder("c@x.com")
				before := g.lost()
				done = buying(t.Context(), buyer, o)
				eventually(t, "the queue's answer is lost", func() bool { return g.lost() > before })
				others(t, c, later)
				receive(t, done).want(t, "accepted", o)
			})
		})
	}
}

// What is in the queue twice was decided the first time, and the second says nothing.
func TestBuyLooksBackForTheFirst(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 9, "shirt")
	w.work(t, "shirt")
	links := func(n uint64) func() bool {
		return func() bool { return newest(t, c, "shirt").N == n }
	}
	o := newOrder("a@x.com")
	publish(t, w.admin(t), "shirt", o.AppendLine(nil))
	eventually(t, "it is decided", links(2))
	time := newTerm(t)
	done := buying(time, c, o)
	eventually(t, "it is decided again", links(3))
	close(time.over)
	receive(t, done).want(t, "accepted", o)

	// The queue remembers what it has taken from a buyer, for a while.
	time = newTerm(t)
	close(time.over)
	receive(t, buying(time, c, o)).want(t, "accepted", o)
}

// However many orders were decided since, it is found.
func TestBuyLooksFarBack(t *testing.T) {
	w := on(t, one)
	w.sell(t, 999, "shirt")
	w.work(t, "shirt")
	g, queued := w.gate(), w.queued(t)
	buyer := dial(t, w.options(t, g))
	g.losing(isStatus)
	o, time := newOrder("a@x.com"), newTerm(t)
	done := buying(time, buyer, o)
	eventually(t, "its broadcast is lost", func() bool { return g.lost() > 0 })
	js := w.admin(t)
	for range 150 {
		publish(t, js, "shirt", []byte(`{"email":"other@x.com"}`))
	}
	eventually(t, "all are decided", func() bool { return queued() == 0 })
	close(time.over)
	receive(t, done).want(t, "accepted", o)
}

func TestBuyGivesUp(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		c := w.sell(t, 9, "shirt")
		stop, queued := w.work(t, "shirt"), w.queued(t)
		if _, err := broker.Buy(within(t), c, "shirt", newOrder("other@x.com")); err != nil {
			t.Fatal(err)
		}
		stop()
		eventually(t, "nothing waits", func() bool { return queued() == 0 })
		o, time := newOrder("a@x.com"), newTerm(t)
		done := buying(time, c, o)
		eventually(t, "it is queued", func() bool { return queued() == 1 })
		close(time.over)
		got := receive(t, done)
		if !errors.Is(got.err, context.DeadlineExceeded) || !strings.Contains(got.err.Error(), o.ID.String()) {
			t.Errorf("an undecided order: %+v", got)
		}

		// A caller that cancels does not want to know.
		w.work(t, "shirt")
		g := w.gate()
		g.losing(isStatus)
		ctx, cancel := context.WithCancel(within(t))
		done = buying(ctx, dial(t, w.options(t, g)), newOrder("b@x.com"))
		eventually(t, "it is decided", func() bool { return g.lost() > 0 })
		cancel()
		if got := receive(t, done); !errors.Is(got.err, context.Canceled) {
			t.Errorf("a cancelled wait: %+v", got)
		}
	})
}
