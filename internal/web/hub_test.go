package web

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"firstcome/internal/sale"
)

// upgradeStatus asks for a socket and returns the status of the answer.
func upgradeStatus(t testing.TB, addr string, header []string) int {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	h.Del("Content-Type")
	ws, res, err := websocket.DefaultDialer.Dial("ws://"+addr+"/ws?email=a@b.de", h)
	if res == nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err == nil {
		ws.Close()
	} else if ct := res.Header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("Content-Type %q", ct)
	}
	return res.StatusCode
}

func TestASocketTellsTheOutcome(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	tabs := []*screen{watch(t, addr, "A@b.de"), watch(t, addr, "a@b.de")}
	other := watch(t, addr, "c@b.de")
	if s.Sockets() != 3 {
		t.Errorf("%d sockets", s.Sockets())
	}
	id := bought(t, buy(t, addr, orderBody("a@b.de")))
	status, _ := w.book.Status(id)
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
	tab := watch(t, addr, "a@b.de")
	first := bought(t, buy(t, addr, orderBody("a@b.de")))
	decided := w.decide(t)
	broadcast(s, decided...)
	broadcast(s, decided...)
	broadcast(s, pendingOf(decided[0])) // late
	s.Refresh()
	tab.wantOrder(first, "accepted")
	second := bought(t, buy(t, addr, orderBody("a@b.de")))
	pending, _ := w.book.Status(second)
	broadcast(s, pending, pending)
	tab.wantOrder(second, "pending")
	broadcast(s, w.decide(t)...)
	tab.wantOrder(second, "accepted")
}

func TestASocketOpensWithTheBook(t *testing.T) {
	w := newTown(t, "tshirt")
	w.set("tshirt", func(s *sale.Stock) { s.Available, s.Supplied = 1000, 1000 })
	s, addr := open(t, w, nil)
	old := bought(t, buy(t, addr, orderBody("a@b.de"))) // undecided, and older than the newest 20
	var ids []sale.OrderID
	for range 24 {
		ids = append(ids, bought(t, buy(t, addr, orderBody("a@b.de"))))
	}
	w.silent = true
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
	w.silent = true
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
	s, addr := open(t, w, nil, func(s *Server) { s.hub.timing.line = 5 * time.Millisecond })
	tab := watch(t, addr, "a@b.de")
	id := bought(t, buy(t, addr, orderBody("a@b.de")))
	status, _ := w.book.Status(id)
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
	idle, tab := watch(t, addr, "idle@b.de"), watch(t, addr, "a@b.de")
	tab.wantOrder(id, "pending")
	if f := tab.next(); f.receivedRaw != `{"type":"line","product":"tshirt","ahead":2,"decided":0,"available":5}` {
		t.Errorf("%s", f.receivedRaw)
	}
	w.set("tshirt", func(s *sale.Stock) { s.Available, s.Supplied = 7, 7 })
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

// TestASlowSocketIsClosed, and nobody waits for it.
func TestASlowSocketIsClosed(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	quick := watch(t, addr, "quick@b.de")
	slow := watch(t, addr, "slow@b.de")
	status := func(email sale.Email, n int) sale.Status {
		return sale.Status{Order: sale.Order{ID: sale.KeyedID(email, "tshirt", fmt.Sprint(n)), Email: email, Quantity: 1,
			PlacedAt: sale.Instant(time.Now())}, Product: "tshirt", Outcome: sale.SoldOut, Place: uint64(n), DecidedAt: sale.Instant(time.Now())}
	}
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
			if n == 0 {
				t.Error("it got nothing")
			}
			return
		}
		if st := status("slow@b.de", n); !strings.Contains(string(b), st.ID.String()) {
			t.Fatalf("frame %d is %s", n, b)
		}
	}
}

func TestStopSaysGoodbye(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	tab := watch(t, addr, "a@b.de")
	polite := make(chan int, 1)
	go func() { polite <- tab.next().closedBy }()
	rude := watch(t, addr, "rude@b.de") // it does not read, so it does not answer
	idle, err := net.Dial("tcp", addr)  // a connection that never sent a byte
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var twice sync.WaitGroup
	for range 2 {
		twice.Go(func() {
			if err := s.Stop(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	if code := <-polite; code != websocket.CloseGoingAway {
		t.Errorf("closed with %d", code)
	}
	twice.Wait()
	if code := rude.next().closedBy; code != websocket.CloseGoingAway {
		t.Errorf("closed with %d", code)
	}
	if s.Sockets() != 0 {
		t.Errorf("%d sockets", s.Sockets())
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("it still listens")
	}
}

func TestStopWaitsForAnOrder(t *testing.T) {
	w := newTown(t, "tshirt")
	w.gate = make(chan struct{})
	s, addr := open(t, w, nil)
	got := make(chan reply, 1)
	go func() {
		r, _ := trySend("POST", "http://"+addr+"/buy", orderBody("a@b.de"), "Content-Type", asJSON)
		got <- r
	}()
	awaitTrue(t, "the order is under way", func() bool { return s.deadlines.current.Load() != nil })
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	awaitTrue(t, "it refuses", s.refusing.Load)
	close(w.gate)
	if r := <-got; r.Response == nil || r.StatusCode != 202 {
		t.Errorf("%+v", r)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestStopCutsOffWhenItsTimeIsOver(t *testing.T) {
	w := newTown(t, "tshirt")
	w.gate = make(chan struct{})
	cfg := Config{Queue: w, Shop: w, Follower: w, Book: w.book}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	tab := watch(t, ln.Addr().String(), "a@b.de")
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := trySend("POST", "http://"+ln.Addr().String()+"/buy", orderBody("a@b.de"), "Content-Type", asJSON); err == nil {
			t.Error("an order was answered that the queue has not taken")
		}
	}()
	awaitTrue(t, "the order is under way", func() bool { return s.deadlines.current.Load() != nil })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Stop(ctx); err == nil {
		t.Error("it waited for all")
	}
	if code := tab.next().closedBy; code != websocket.CloseGoingAway {
		t.Errorf("closed with %d", code)
	}
	<-done
	if err := <-served; err != nil {
		t.Error(err)
	}
	close(w.gate)
}

func TestStopBeforeServe(t *testing.T) {
	w := newTown(t, "tshirt")
	s, err := New(Config{Queue: w, Shop: w, Follower: w, Book: w.book})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(ln); err != nil {
		t.Error(err)
	}
	if _, err := ln.Accept(); err == nil {
		t.Error("the listener is open")
	}
}

func TestSocketLimits(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	tab := watch(t, addr, "a@b.de")
	if err := tab.ws.WriteMessage(websocket.TextMessage, make([]byte, maxIncoming)); err != nil {
		t.Fatal(err)
	}
	id := bought(t, buy(t, addr, orderBody("a@b.de")))
	broadcast(s, w.decide(t)...)
	tab.wantOrder(id, "accepted") // what a buyer says is ignored
	if err := tab.ws.WriteMessage(websocket.TextMessage, make([]byte, maxIncoming+1)); err != nil {
		t.Fatal(err)
	}
	if code := tab.next().closedBy; code != websocket.CloseMessageTooBig {
		t.Errorf("closed with %d", code)
	}
	wantProblem(t, get(t, "http://"+addr+"/ws?email=a@b.de"), 426)
	wantProblem(t, get(t, "http://"+addr+"/ws?email=a@b.de", "Connection", "Upgrade", "Upgrade", "websocket",
		"Sec-WebSocket-Version", "7", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), 426)
}

func TestPingAndPong(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil, func(s *Server) { s.hub.timing.ping, s.hub.timing.pong = 20*time.Millisecond, 100*time.Millisecond })
	alive := watch(t, addr, "alive@b.de")
	pings := make(chan struct{}, 100)
	alive.ws.SetPingHandler(func(text string) error {
		pings <- struct{}{}
		return alive.ws.WriteControl(websocket.PongMessage, []byte(text), time.Now().Add(time.Second))
	})
	ended := make(chan struct{})
	go func() { defer close(ended); alive.ws.ReadMessage() }() //nolint:errcheck // it only answers pings
	dead := watch(t, addr, "dead@b.de")
	dead.ws.SetPingHandler(func(string) error { return nil })
	if _, _, err := dead.ws.ReadMessage(); err == nil {
		t.Error("a frame")
	}
	for range 20 { // it outlives the other's time more than twice
		<-pings
	}
	if s.Sockets() != 1 {
		t.Errorf("%d sockets", s.Sockets())
	}
	alive.ws.Close()
	<-ended
}

// TestFramesShareWrites: what is queued together leaves together.
func TestFramesShareWrites(t *testing.T) {
	near, far := net.Pipe()
	counted := &countingConn{Conn: near}
	c := &conn{Conn: counted, from: newListener(nil, nil)}
	got := make(chan string, 1)
	go func() {
		all, _ := io.ReadAll(bufio.NewReader(far))
		got <- string(all)
	}()
	c.hold()
	for i := range 10 {
		if _, err := fmt.Fprint(c, i); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.release(); err != nil {
		t.Fatal(err)
	}
	if counted.writes != 1 {
		t.Errorf("%d writes", counted.writes)
	}
	c.hold()
	big := strings.Repeat("x", maxHeld-1)
	for range 3 { // no more than maxHeld is kept back
		if _, err := io.WriteString(c, big); err != nil {
			t.Fatal(err)
		}
	}
	if cap(c.held) > 4*maxHeld || counted.writes != 2 {
		t.Errorf("%d bytes held, %d writes", len(c.held), counted.writes)
	}
	if err := c.release(); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if all := <-got; all != "0123456789"+big+big+big {
		t.Errorf("%d bytes", len(all))
	}
}

type countingConn struct {
	net.Conn
	writes int
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.writes++
	return c.Conn.Write(b)
}

func TestShownIsBounded(t *testing.T) {
	var s shown
	id := func(n int) sale.OrderID { return sale.KeyedID("a@b.de", "tshirt", fmt.Sprint(n)) }
	known := map[sale.OrderID]bool{}
	decided := func(id sale.OrderID) bool { return known[id] }
	for n := range 2 * maxShownFinal {
		if !s.news(id(n), 0, decided) || s.news(id(n), 0, decided) || !s.news(id(n), 1, decided) || s.news(id(n), 1, decided) || s.news(id(n), 0, decided) {
			t.Fatalf("order %d", n)
		}
		known[id(n)] = true
	}
	if s.news(id(0), 0, decided) {
		t.Error("an order whose outcome was shown long ago goes back")
	}
	if !s.news(id(2*maxShownFinal-1), 2, decided) {
		t.Error("a higher revision is no news")
	}
	for n := range 2 * maxShownPending {
		s.news(id(-n-1), 0, decided)
	}
	if len(s.final) != maxShownFinal || len(s.order) != maxShownFinal || len(s.pending) != maxShownPending {
		t.Errorf("%d, %d, %d", len(s.final), len(s.order), len(s.pending))
	}
}

func FuzzReadStatus(f *testing.F) {
	at := sale.Instant(time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC))
	st := sale.Status{Order: sale.Order{ID: sale.KeyedID("a@b.de", "tshirt", "k"), Email: "a@b.de", Quantity: 1, PlacedAt: at}, Product: "tshirt"}
	f.Add(st.AppendJSON(nil))
	st.Outcome, st.Place, st.DecidedAt = sale.Accepted, 7, at
	f.Add(st.AppendJSON(nil))
	f.Add([]byte(`{"id":"`))
	f.Add([]byte(`{"id":"01900000-0000-7000-8000-000000000000","rev":}`))
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, rev, ok := readStatus(b); ok && (rev < 0 || !strings.Contains(strings.ToLower(string(b)), id.String())) {
			t.Fatalf("%q: %s %d", b, id, rev)
		}
	})
}

func TestReadStatus(t *testing.T) {
	st := sale.Status{Order: sale.Order{ID: sale.KeyedID("a@b.de", "tshirt", "k"), Email: "rev:1@b.de", Quantity: 1}, Product: "rev"}
	for _, outcome := range []sale.Outcome{sale.Pending, sale.Accepted, sale.SoldOut, sale.LimitReached} {
		st.Outcome = outcome
		id, rev, ok := readStatus(st.AppendJSON(nil))
		if !ok || id != st.ID || rev != st.Rev() {
			t.Errorf("%s: %s %d %v", st.AppendJSON(nil), id, rev, ok)
		}
	}
}
