package web

import (
	"context"
	"testing"
	"time"

	"firstcome/internal/sale"
)

// The leader does not answer when a socket opens, or after broadcasts were lost.
// Nothing else happens to the socket, and yet it gets what it missed (P6).
func TestASocketAsksAgain(t *testing.T) {
	w := newTown(t, "tshirt")
	w.deaf = true // the book hears of orders only when it catches up
	s, addr := open(t, w, nil, func(s *Server) { s.hub.timing.line, s.hub.timing.retry = time.Hour, 2*time.Millisecond })
	outage := func(trouble func()) {
		t.Helper()
		w.fail(nil, sale.ErrUnavailable)
		before := w.catchUps()
		trouble()
		awaitTrue(t, "it asks again and again", func() bool { return w.catchUps() >= before+3 })
		w.fail(nil, nil)
	}
	first := bought(t, buy(t, addr, orderBody("a@b.de")))
	var tab *screen
	outage(func() { tab = watch(t, addr, "a@b.de") })
	tab.wantOrder(first, "pending")
	second := bought(t, buy(t, addr, orderBody("a@b.de")))
	outage(s.Refresh)
	tab.wantOrder(second, "pending")
}

// A socket that missed something asks until the leader answers; a look into the book
// does not end that.
func TestOnlyTheLeaderEndsTheAsking(t *testing.T) {
	w := newTown(t, "tshirt")
	s, _ := open(t, w, nil, func(s *Server) { s.hub.timing.retry = time.Hour })
	to := &socket{hub: s.hub, email: "a@b.de", raw: &conn{}, wake: make(chan struct{}, 1)}
	turn := func(lost, again bool) {
		t.Helper()
		if _, err := to.turn(); err != nil {
			t.Fatal(err)
		}
		if to.lost != lost || (to.again != nil) != again {
			t.Errorf("lost %v, asks again %v", to.lost, to.again != nil)
		}
	}
	w.fail(nil, sale.ErrUnavailable)
	to.markStale(true)
	turn(true, true)
	turn(true, true) // for frames, say
	to.markStale(false)
	turn(true, true)
	w.fail(nil, nil)
	to.markStale(false)
	turn(false, false)
	rounds := w.catchUps()
	to.markStale(false)
	turn(false, false)
	if w.catchUps() != rounds {
		t.Error("the leader is asked without need")
	}
}

// What is queued does not wait for the leader.
func TestWhatIsAtHandDoesNotWait(t *testing.T) {
	w := newTown(t, "tshirt")
	slow := &slowFeed{town: w, asked: make(chan struct{}), answer: make(chan struct{}), over: make(chan struct{})}
	s, addr := open(t, w, func(c *Config) { c.Feed = slow })
	t.Cleanup(func() { close(slow.over) })
	tab := watch(t, addr, "a@b.de")
	<-slow.asked
	outcome := sale.Status{Order: sale.Order{ID: sale.KeyedID("a@b.de", "tshirt", "k"), Email: "a@b.de", Quantity: 1},
		Product: "tshirt", Outcome: sale.SoldOut, Place: 1}
	broadcast(s, outcome)
	s.Refresh()
	slow.answer <- struct{}{} // the frame and the refresh are queued by now
	tab.wantOrder(outcome.ID, "sold_out")
	<-slow.asked
	slow.answer <- struct{}{}
}

// slowFeed answers when the test lets it.
type slowFeed struct {
	*town
	asked, answer, over chan struct{}
}

func (f *slowFeed) CatchUp(ctx context.Context) error {
	select {
	case f.asked <- struct{}{}:
	case <-f.over:
		return sale.ErrUnavailable
	}
	select {
	case <-f.answer:
		return f.town.CatchUp(ctx)
	case <-f.over:
		return sale.ErrUnavailable
	}
}
