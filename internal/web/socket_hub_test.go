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
	// The other buyer's first frame is of their own order (P7).
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
	s, addr := open(t, w, nil, func(s *Server) { s.hub.timing.line = time.Hour }) // no line frames
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

// No broadcast arrives, and Refresh brings all orders, also ones beyond the newest.
func TestRefreshBringsWhatWasLost(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil, func(s *Server) { s.hub.timing.line = time.Hour })
	w.deaf = true
	tab := watch(t, addr, "a@b.de")
	states := map[string]string{}
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
		states[f.Order.ID] = f.Order.Status
	}
	for i, id := range ids {
		want := "accepted"
		if i >= 5 {
			want = "sold_out"
		}
		if states[id.String()] != want {
			t.Errorf("order %d is %q, want %s", i, states[id.String()], want)
		}
	}
}

// An outcome whose broadcast was lost is found in the book by the sweep (P6).
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
	// No order waits, so no line frame comes any more; the idle socket never had any.
	for _, buyer := range []struct {
		*screen
		email string
	}{{tab, "a@b.de"}, {idle, "idle@b.de"}} {
		next := bought(t, buy(t, addr, body(buyer.email, "mug")))
		broadcast(s, w.decide(t)...)
		if f := buyer.next(); f.Order.ID != next.String() {
			t.Errorf("%s", f.receivedRaw)
		}
	}
}

// After three decisions the line tells in how many seconds the order is decided, about.
func TestLinesTellWhen(t *testing.T) {
	w := newTown(t, "tshirt")
	clock := time.Now()
	s, err := New(Config{Queue: w, Feed: w, Book: w.book, Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	place := func(email sale.Email, n int) {
		o := sale.Order{ID: sale.KeyedID(email, "tshirt", fmt.Sprint(n)), Email: email, Quantity: 1, PlacedAt: sale.Instant(clock)}
		if err := w.Place(t.Context(), "tshirt", o); err != nil {
			t.Fatal(err)
		}
	}
	to := &socket{hub: s.hub, email: "a@b.de", wake: make(chan struct{}, 1)}
	want := func(line string) {
		t.Helper()
		to.newLines = nil
		s.hub.pushLines(to)
		if len(to.newLines) != 1 || string(to.newLines[0]) != `{"type":"line","product":"tshirt",`+line+`}` {
			t.Errorf("%q, want %s", to.newLines, line)
		}
	}
	for n := range 10 {
		place("first@b.de", n)
	}
	place("a@b.de", 0)
	for range 2 {
		clock = clock.Add(1500 * time.Millisecond)
		w.decideOne(t, clock)
	}
	want(`"ahead":8,"decided":2,"available":3`)
	clock = clock.Add(1500 * time.Millisecond)
	w.decideOne(t, clock)
	want(`"ahead":7,"decided":3,"available":2,"eta_s":12`)
	clock = clock.Add(500 * time.Millisecond)
	w.decideOne(t, clock)
	want(`"ahead":6,"decided":4,"available":1,"eta_s":9`) // 7 of 1.25 s
	clock = clock.Add(31 * time.Second)
	want(`"ahead":6,"decided":4,"available":1`)
}

func TestETA(t *testing.T) {
	for _, c := range []struct {
		ahead    uint64
		perOrder time.Duration
		want     int64
	}{{0, 0, 1}, {0, time.Second, 1}, {0, time.Second + 1, 2}, {9, 100 * time.Millisecond, 1}, {10, 100 * time.Millisecond, 2},
		{1 << 40, time.Hour, 1e9}} {
		if got := eta(c.ahead, c.perOrder); got != c.want {
			t.Errorf("%d ahead, %v each: %d, want %d", c.ahead, c.perOrder, got, c.want)
		}
	}
}

// A line frame that did not change is not sent again, and none is queued behind one
// that was not sent yet.
func TestLinesAreMerged(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	bought(t, buy(t, addr, orderBody("a@b.de")))
	to := &socket{hub: s.hub, email: "a@b.de", wake: make(chan struct{}, 1)}
	push := func(want int) {
		t.Helper()
		if n := s.hub.pushLines(to); n != want {
			t.Errorf("%d line frames, want %d", n, want)
		}
	}
	push(1)
	to.newLines = nil
	push(0)
	w.steer(t, "tshirt", left(6))
	push(1)
	w.steer(t, "tshirt", left(7))
	push(0) // the last one is not sent yet
	to.newLines = nil
	push(1)
	to.newLines = nil
	w.decide(t)
	push(0)
}

// An order whose broadcasts never reached this instance is sent all the same: the book
// has it (P6).
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
		t.Errorf("%v were sent, not %s and %s", ends, one, other)
	}
}

// Many lost broadcasts are made up for, each once.
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
		t.Errorf("%d outcomes were not sent", len(ids))
	}
}

// The sweep looks up only sockets whose buyer's orders have changed.
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

// A buyer's side that reads does not lose its socket to a burst, even if the server's
// writer is far behind.
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

// soldOut is a decided order that is not in the book.
func soldOut(email sale.Email, n int) sale.Status {
	return sale.Status{Order: sale.Order{ID: sale.KeyedID(email, "tshirt", fmt.Sprint(n)), Email: email, Quantity: 1,
		PlacedAt: sale.Instant(time.Now())}, Product: "tshirt", Outcome: sale.SoldOut, Place: uint64(n), DecidedAt: sale.Instant(time.Now())}
}

// Frames that are not written are bounded, and sooner while a write stalls.
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
			to.push(&orderFrame{rev: 1})
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

// A slow socket is closed, and Deliver does not wait for it.
func TestASlowSocketIsClosed(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	quick := attend(t, s, addr, "quick@b.de")
	slow := attend(t, s, addr, "slow@b.de")
	status := soldOut
	// It does not read: the kernel's buffers fill up, then the socket's frames.
	delivered := 0
	for ; s.Stats().SlowSockets == 0 && delivered < 1_000_000; delivered++ {
		broadcast(s, status("slow@b.de", delivered))
		if delivered%100 == 0 { // lets both writers run
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
	// What came was in order and without a gap.
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
