package web

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"firstcome/internal/sale"
)

func TestASocketTellsTheOutcome(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	tabs := []*screen{attend(t, s, addr, "a@b.de"), watch(t, addr, "A@b.de")}
	other := attend(t, s, addr, "c@b.de")
	if s.Sockets() != 3 {
		t.Errorf("%d sockets", s.Sockets())
	}
	id := bought(t, buy(t, addr, orderBody("a@b.de")))
	status, _ := w.book.Status(id, "a@b.de")
	broadcast(s, status)
	for _, tab := range tabs {
		if f := tab.order(); f.receivedRaw != `{"type":"order","order":`+string(status.AppendJSON(nil))+`}` {
			t.Errorf("%s", f.receivedRaw)
		}
	}
	outcome := w.decide(t)
	broadcast(s, outcome...)
	for _, tab := range tabs {
		if f := tab.order(); f.receivedRaw != `{"type":"order","order":`+string(outcome[0].AppendJSON(nil))+`}` {
			t.Errorf("%s", f.receivedRaw)
		}
	}
	// The other buyer hears of their own order first (P7).
	mine := bought(t, buy(t, addr, orderBody("c@b.de")))
	broadcast(s, w.decide(t)...)
	other.wantOrder(mine, "accepted")
	tabs[0].ws.Close()
	awaitTrue(t, "the closed tab is forgotten", func() bool { return s.Sockets() == 2 })
}

func TestNothingGoesBackAndNothingIsSaidTwice(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	tab := attend(t, s, addr, "a@b.de")
	first := bought(t, buy(t, addr, orderBody("a@b.de")))
	decided := w.decide(t)
	broadcast(s, decided...)
	broadcast(s, decided...)
	broadcast(s, pendingOf(decided[0])) // late
	s.Refresh()
	tab.wantOrder(first, "accepted")
	second := bought(t, buy(t, addr, orderBody("a@b.de")))
	pending, _ := w.book.Status(second, "a@b.de")
	broadcast(s, pending, pending)
	tab.wantOrder(second, "pending")
	broadcast(s, w.decide(t)...)
	tab.wantOrder(second, "accepted")
}

func TestASocketOpensWithTheBook(t *testing.T) {
	w := newTown(t, "tshirt")
	w.steer(t, "tshirt", left(1000))
	s, addr := open(t, w, nil, func(s *Server) { s.hub.timing.line = time.Hour }) // or lost outcomes are looked up, in any order
	old := bought(t, buy(t, addr, orderBody("a@b.de")))                           // undecided, and older than the newest 20
	var ids []sale.OrderID
	for range 24 {
		ids = append(ids, bought(t, buy(t, addr, orderBody("a@b.de"))))
	}
	w.deaf = true
	ids = append(ids, bought(t, buy(t, addr, orderBody("a@b.de")))) // the book has not heard of it
	tab := watch(t, addr, "a@b.de")
	tab.wantOrder(old, "pending")
	for _, id := range ids {
		tab.wantOrder(id, "pending")
	}
	outcome := w.decide(t)
	broadcast(s, outcome...)
	for _, o := range outcome {
		tab.wantOrder(o.ID, "accepted")
	}
	again := watch(t, addr, "a@b.de") // a reload: the newest 20, oldest first
	for _, id := range ids[len(ids)-20:] {
		again.wantOrder(id, "accepted")
	}
	last := bought(t, buy(t, addr, orderBody("a@b.de")))
	broadcast(s, w.decide(t)...)
	again.wantOrder(last, "accepted")
}

// TestRefreshBringsWhatWasLost: no broadcast arrives, also not for orders that are
// not among the newest any more.
func TestRefreshBringsWhatWasLost(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil, func(s *Server) { s.hub.timing.line = time.Hour })
	w.deaf = true
	tab := watch(t, addr, "a@b.de")
	shown := map[string]string{}
	var ids []sale.OrderID
	for range 30 {
		ids = append(ids, bought(t, buy(t, addr, orderBody("a@b.de"))))
	}
	s.Refresh() // the leader knows more than the book
	for _, id := range ids {
		tab.wantOrder(id, "pending")
	}
	w.decide(t)
	s.Refresh()
	for range ids {
		f := tab.order()
		shown[f.Order.ID] = f.Order.Status
	}
	for i, id := range ids {
		want := "accepted"
		if i >= 5 {
			want = "sold_out"
		}
		if shown[id.String()] != want {
			t.Errorf("order %d is %q, want %s", i, shown[id.String()], want)
		}
	}
}

// TestALostOutcomeIsFound: an order shown as pending that the book knows better is
// looked up without anybody asking (P6).
func TestALostOutcomeIsFound(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil, func(s *Server) { s.hub.timing.sweep = 5 * time.Millisecond })
	tab := watch(t, addr, "a@b.de")
	id := bought(t, buy(t, addr, orderBody("a@b.de")))
	status, _ := w.book.Status(id, "a@b.de")
	broadcast(s, status)
	tab.wantOrder(id, "pending")
	w.decide(t)
	tab.wantOrder(id, "accepted")
}

func TestLines(t *testing.T) {
	w := newTown(t, "tshirt", "mug")
	s, addr := open(t, w, nil, func(s *Server) { s.hub.timing.line = 5 * time.Millisecond })
	body := func(email, product string) string { return fmt.Sprintf(`{"email":%q,"product":%q}`, email, product) }
	bought(t, buy(t, addr, body("first@b.de", "tshirt")))
	bought(t, buy(t, addr, body("first@b.de", "tshirt")))
	id := bought(t, buy(t, addr, body("a@b.de", "tshirt")))
	idle, tab := attend(t, s, addr, "idle@b.de"), watch(t, addr, "a@b.de")
	tab.wantOrder(id, "pending")
	if f := tab.next(); f.receivedRaw != `{"type":"line","product":"tshirt","ahead":2,"decided":0,"available":5}` {
		t.Errorf("%s", f.receivedRaw)
	}
	w.steer(t, "tshirt", left(7))
	if f := tab.next(); f.receivedRaw != `{"type":"line","product":"tshirt","ahead":2,"decided":0,"available":7}` {
		t.Errorf("%s", f.receivedRaw)
	}
	broadcast(s, w.decide(t)...)
	tab.wantOrder(id, "accepted")
	// Nothing waits, so no line comes any more, and the idle one never had any.
	for _, who := range []struct {
		*screen
		email string
	}{{tab, "a@b.de"}, {idle, "idle@b.de"}} {
		next := bought(t, buy(t, addr, body(who.email, "mug")))
		broadcast(s, w.decide(t)...)
		if f := who.next(); f.Order.ID != next.String() {
			t.Errorf("%s", f.receivedRaw)
		}
	}
}

// TestLinesAreMerged: a line that did not change is not told again, and one that
// was not sent yet is not piled up.
func TestLinesAreMerged(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	bought(t, buy(t, addr, orderBody("a@b.de")))
	to := &socket{hub: s.hub, email: "a@b.de", wake: make(chan struct{}, 1)}
	tell := func(want int) {
		t.Helper()
		if n := s.hub.tellLines(to); n != want {
			t.Errorf("%d lines told, want %d", n, want)
		}
	}
	tell(1)
	to.newLines = nil
	tell(0)
	w.steer(t, "tshirt", left(6))
	tell(1)
	w.steer(t, "tshirt", left(7))
	tell(0) // the last one is not sent yet
	to.newLines = nil
	tell(1)
	to.newLines = nil
	w.decide(t)
	tell(0)
}

// What was never broadcast to this instance is shown all the same: another one's
// broadcasts are lost with its connection, and the book is not (P6).
func TestLostBroadcastsAreMadeUpFor(t *testing.T) {
	w := newTown(t, "tshirt", "mug")
	often := func(s *Server) { s.hub.timing.sweep = time.Millisecond }
	s, addr := open(t, w, nil, often)
	_, elsewhere := open(t, w, nil, often)
	tab := attend(t, s, addr, "a@b.de")
	one := bought(t, buy(t, elsewhere, `{"email":"a@b.de","product":"tshirt"}`))
	tab.wantOrder(one, "pending")
	other := bought(t, buy(t, elsewhere, `{"email":"a@b.de","product":"mug"}`))
	tab.wantOrder(other, "pending")
	w.decide(t)
	ends := map[string]bool{tab.order().Order.ID: true, tab.order().Order.ID: true}
	if !ends[one.String()] || !ends[other.String()] {
		t.Errorf("%v were told, not %s and %s", ends, one, other)
	}
}

// However much was lost, all of it is made up for, each once.
func TestManyLostBroadcastsAreMadeUpFor(t *testing.T) {
	w := newTown(t, "tshirt")
	w.steer(t, "tshirt", left(1000))
	s, addr := open(t, w, nil)
	_, elsewhere := open(t, w, nil)
	tab := attend(t, s, addr, "a@b.de")
	ids := map[string]bool{}
	for range 3 * recent {
		ids[bought(t, buy(t, elsewhere, orderBody("a@b.de"))).String()] = true
	}
	w.decide(t)
	s.Refresh()
	for range 3 * recent {
		f := tab.order()
		if f.Order.Status != "accepted" || !ids[f.Order.ID] {
			t.Errorf("%s", f.receivedRaw)
		}
		delete(ids, f.Order.ID)
	}
	if len(ids) != 0 {
		t.Errorf("%d outcomes were not told", len(ids))
	}
}

// A socket whose buyer's orders are as they were is left alone.
func TestSweepLooksUpWhatChanged(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	to := &socket{hub: s.hub, email: "a@b.de", wake: make(chan struct{}, 1)}
	for _, step := range []struct {
		what string
		do   func()
		want bool
	}{
		{"nothing", func() {}, false},
		{"an order", func() { bought(t, buy(t, addr, orderBody("a@b.de"))) }, true},
		{"a look", func() { to.known.Store(w.book.Changes("a@b.de")) }, false},
		{"somebody else's order", func() { bought(t, buy(t, addr, orderBody("c@b.de"))) }, false},
		{"the outcome", func() { w.decide(t) }, true},
	} {
		to.stale = false
		step.do()
		if to.checkMissed(); to.stale != step.want {
			t.Errorf("after %s: looked up %v", step.what, to.stale)
		}
	}
}

// A buyer's side that takes what it is given does not lose its socket to a burst,
// however far the server's own writer is behind.
func TestABurstClosesNoSocket(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	const burst = 4 * maxBehind
	for round := range 20 {
		email := sale.Email(fmt.Sprintf("b%d@b.de", round))
		tab := attend(t, s, addr, email)
		statuses := make([]sale.Status, burst)
		for i := range statuses {
			statuses[i] = soldOut(email, i)
		}
		broadcast(s, statuses...)
		for i := range statuses {
			tab.wantOrder(statuses[i].ID, "sold_out")
		}
	}
	if n := s.Stats().SlowSockets; n != 0 {
		t.Errorf("%d slow sockets", n)
	}
}

// soldOut is a decided order that no book knows.
func soldOut(email sale.Email, n int) sale.Status {
	return sale.Status{Order: sale.Order{ID: sale.KeyedID(email, "tshirt", fmt.Sprint(n)), Email: email, Quantity: 1,
		PlacedAt: sale.Instant(time.Now())}, Product: "tshirt", Outcome: sale.SoldOut, Place: uint64(n), DecidedAt: sale.Instant(time.Now())}
}

// Frames pile up only while a write stalls, and however it is, there is a bound.
func TestHowFarBehind(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	for _, c := range []struct {
		since time.Duration // of the write under way
		most  int
	}{{0, maxBurst}, {2 * stallTime, maxBehind}} {
		tab := attend(t, s, addr, "a@b.de")
		s.hub.mu.RLock()
		to := &socket{hub: s.hub, raw: s.hub.buyers[sale.Email("a@b.de").Token()][0].raw, wake: make(chan struct{}, 1)}
		s.hub.mu.RUnlock()
		if c.since > 0 {
			to.raw.since = time.Now().Add(-time.Hour)
			to.raw.writing.Store(int64(time.Hour - c.since))
		}
		slow := s.Stats().SlowSockets
		for range 2 * maxBurst {
			to.push(&frame{rev: 1})
		}
		if len(to.frames) != c.most || s.Stats().SlowSockets != slow+1 {
			t.Errorf("%v: %d frames, %d slow sockets", c.since, len(to.frames), s.Stats().SlowSockets-slow)
		}
		if tab.next().closedBy == 0 {
			t.Error("it is open")
		}
		awaitTrue(t, "it is gone", func() bool { return s.Sockets() == 0 })
	}
}

// TestASlowSocketIsClosed, and nobody waits for it.
func TestASlowSocketIsClosed(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	quick := attend(t, s, addr, "quick@b.de")
	slow := attend(t, s, addr, "slow@b.de")
	status := soldOut
	// It does not read: the kernel's buffers fill up, then the frames pile up.
	delivered := 0
	for ; s.Stats().SlowSockets == 0 && delivered < 1_000_000; delivered++ {
		broadcast(s, status("slow@b.de", delivered))
		if delivered%100 == 0 { // and gives both writers their turn
			broadcast(s, status("quick@b.de", delivered))
			quick.wantOrder(status("quick@b.de", delivered).ID, "sold_out")
		}
	}
	awaitTrue(t, "the slow one is gone", func() bool { return s.Sockets() == 1 })
	if n := s.Stats().SlowSockets; n != 1 {
		t.Errorf("%d slow sockets", n)
	}
	broadcast(s, status("quick@b.de", -1))
	quick.wantOrder(status("quick@b.de", -1).ID, "sold_out")
	// What it got was in order and without a hole.
	for n := 0; ; n++ {
		_, b, err := slow.ws.ReadMessage()
		if err != nil {
			return
		}
		if st := status("slow@b.de", n); !strings.Contains(string(b), st.ID.String()) {
			t.Fatalf("frame %d is %s", n, b)
		}
	}
}
