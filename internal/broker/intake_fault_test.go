package broker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

var atOnce = broker.Grouping{MaxOrders: 100, MaxWait: ever, InFlight: 100}

// behind is an intake behind a gate.
func (w *world) behind(t *testing.T, grouping broker.Grouping) (*gate, *broker.Conn, *door) {
	t.Helper()
	w.sell(t, 5, "shirt")
	g := w.gate()
	c := dial(t, w.options(t, g))
	return g, c, w.intake(t, c, grouping)
}

// TestLostAnswerStoresOnce: the queue stored the group and its answer was lost, so
// the instance sends it again.
func TestLostAnswerStoresOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		g, _, d := w.behind(t, atOnce)
		lost := make(chan struct{}, 10)
		g.losing(func(frame []byte) bool {
			if !isStored(frame) || len(lost) == 1 {
				return false
			}
			lost <- struct{}{}
			return true
		})
		d.place(t, "a@x.com")
		if len(lost) != 1 {
			t.Error("no answer was lost")
		}
		d.place(t, "b@x.com")
		d.wantGroups(t, "a", "b")
	})
}

// TestCutConnectionStoresOnce: the connection goes down with the answer.
func TestCutConnectionStoresOnce(t *testing.T) {
	w := on(t, one)
	g, c, d := w.behind(t, atOnce)
	cut := make(chan struct{}, 10)
	g.losing(func(frame []byte) bool {
		if !isStored(frame) || len(cut) == 1 {
			return false
		}
		cut <- struct{}{}
		go func() { g.close(); g.open() }()
		return true
	})
	d.place(t, "a@x.com")
	if len(cut) != 1 {
		t.Error("no connection was cut")
	}
	eventually(t, "the connection is back", c.Connected)
	d.place(t, "b@x.com")
	d.wantGroups(t, "a", "b")
}

// TestNoAnswerAtAll: whether the order was stored is open, and its buyer hears so.
func TestNoAnswerAtAll(t *testing.T) {
	w := on(t, one)
	g, _, d := w.behind(t, atOnce)
	heard := make(chan string, 10)
	stop, err := w.connect(t).Subscribe(func(token string, _ []byte) { heard <- token })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stop() }()
	g.losing(isStored)
	wantUnavailable(t, d, "a@x.com")
	g.losing(nil)
	d.place(t, "b@x.com")
	d.wantGroups(t, "a", "b")
	if token := receive(t, heard); token != "b=40x=2Ecom" {
		t.Errorf("%s was told that it is in the queue", token)
	}
}

// TestLostAnswersAreForgotten: the client takes 4000 unanswered messages at most,
// and answers that never come must not fill that room for good.
func TestLostAnswersAreForgotten(t *testing.T) {
	w := on(t, one)
	g, _, d := w.behind(t, broker.Grouping{MaxOrders: 1, MaxWait: ever, InFlight: 1})
	g.losing(isStored)
	var buyers sync.WaitGroup
	for i := range 4000 {
		buyers.Go(func() {
			if err := d.Place(within(t), "shirt", newOrder(fmt.Sprintf("b%d@x.com", i))); err == nil {
				t.Error("an order is in the queue without an answer")
			}
		})
	}
	buyers.Wait()
	g.losing(nil)
	eventually(t, "there is room again", func() bool { return d.Place(within(t), "shirt", newOrder("a@x.com")) == nil })
}

// TestBrokerAway: what was refused is not published once the broker is back.
func TestBrokerAway(t *testing.T) {
	w := on(t, one)
	g, c, d := w.behind(t, atOnce)
	g.close()
	wantUnavailable(t, d, "a@x.com") // whether the instance has noticed or not
	eventually(t, "the connection is gone", func() bool { return !c.Connected() })
	wantUnavailable(t, d, "b@x.com")
	g.open()
	eventually(t, "the connection is back", c.Connected)
	if err := c.Flush(within(t)); err != nil {
		t.Fatal(err)
	}
	d.place(t, "c@x.com")
	d.wantGroups(t, "c")
}

// TestBrokerStandsStill: it takes everything and says nothing.
func TestBrokerStandsStill(t *testing.T) {
	w := on(t, one)
	g, _, d := w.behind(t, atOnce)
	g.swallow(true)
	wantUnavailable(t, d, "a@x.com")
	closing, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	go func() { _ = d.Place(within(t), "shirt", newOrder("b@x.com")) }()
	eventually(t, "closing waits for a group and gives up", func() bool {
		err := d.Close(closing)
		return errors.Is(err, context.DeadlineExceeded)
	})
	g.swallow(false)
}

// wantUnavailable places an order, and its buyer hears within 5 s that it failed.
func wantUnavailable(t *testing.T, d *door, email string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := d.Place(ctx, "shirt", newOrder(email))
	if !errors.Is(err, sale.ErrUnavailable) {
		t.Errorf("%s: %v", email, err)
	}
	if ctx.Err() != nil {
		t.Errorf("%s was told nothing within 5 s", email)
	}
}
