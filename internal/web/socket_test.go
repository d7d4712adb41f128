package web

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
)

// upgradeStatus asks for a socket and returns the status of the answer.
func upgradeStatus(t testing.TB, addr string, header []string) int {
	t.Helper()
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	h.Del("Content-Type")
	return upgradeStatusAt(t, "ws://"+addr+"/ws?email=a@b.de", h)
}

func upgradeStatusAt(t testing.TB, url string, header ...http.Header) int {
	t.Helper()
	var h http.Header
	if len(header) > 0 {
		h = header[0]
	}
	ws, res, err := websocket.DefaultDialer.Dial(url, h)
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

func TestSocketLimits(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	tab := attend(t, s, addr, "a@b.de")
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

func TestAnAnsweredPingKeepsASocket(t *testing.T) {
	s, addr := open(t, newTown(t, "tshirt"), nil, func(s *Server) { s.hub.timing.ping, s.hub.timing.pong = 10*time.Millisecond, time.Second })
	tab := watch(t, addr, "a@b.de")
	pings := make(chan struct{}, 1)
	tab.ws.SetPingHandler(func(text string) error {
		select {
		case pings <- struct{}{}:
		default:
		}
		return tab.ws.WriteControl(websocket.PongMessage, []byte(text), time.Now().Add(time.Second))
	})
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil { // it answers pings, and beats come with them
			_, _, err = tab.ws.ReadMessage()
		}
		ended <- err
	}()
	for unanswered := time.Now().Add(1500 * time.Millisecond); time.Now().Before(unanswered); {
		select {
		case <-pings:
		case err := <-ended:
			t.Fatal(err)
		}
	}
	if s.Sockets() != 1 {
		t.Errorf("%d sockets", s.Sockets())
	}
	tab.ws.Close()
	<-ended
}

func TestAnUnansweredPingEndsASocket(t *testing.T) {
	s, addr := open(t, newTown(t, "tshirt"), nil, func(s *Server) { s.hub.timing.ping, s.hub.timing.pong = time.Millisecond, time.Millisecond })
	tab := dial(t, addr, "a@b.de")
	tab.ws.SetPingHandler(func(string) error { return nil })
	if err := tab.ws.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var err error
	for err == nil { // hello may come first
		_, _, err = tab.ws.ReadMessage()
	}
	if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
		t.Error("it is still open")
	}
	awaitTrue(t, "it is forgotten", func() bool { return s.Sockets() == 0 })
}

// What is queued together is written together.
func TestFramesShareWrites(t *testing.T) {
	near, far := net.Pipe()
	counted := &countingConn{Conn: near}
	c := &conn{Conn: counted, from: newListener(nil, 0, nil)}
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

// The number of open sockets is bounded.
func TestSocketsAreBounded(t *testing.T) {
	s, addr := open(t, newTown(t, "tshirt"), nil)
	count := func(n int) {
		s.hub.mu.Lock()
		defer s.hub.mu.Unlock()
		s.hub.count += n
	}
	count(maxSockets)
	defer count(-maxSockets)
	if code := upgradeStatus(t, addr, nil); code != 503 || s.Stats().RefusedSockets != 1 {
		t.Errorf("%d, %+v", code, s.Stats())
	}
}
