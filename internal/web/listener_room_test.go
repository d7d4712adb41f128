package web

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestRoomLeavesDescriptors(t *testing.T) {
	for _, c := range []struct {
		limit         uint64
		room, sockets int
	}{
		{limit: 0, room: 0, sockets: maxSockets},
		{limit: 1, room: 1, sockets: 0},
		{limit: 200, room: 100, sockets: 90},
		{limit: 400, room: 200, sockets: 180},
		{limit: 1024, room: 824, sockets: 742},
		{limit: 1_048_576, room: 1_048_376, sockets: maxSockets},
		{limit: 1<<64 - 1, room: 1<<30 - keptBack, sockets: maxSockets},
	} {
		room := roomIn(c.limit)
		if sockets := socketRoom(room); room != c.room || sockets != c.sockets {
			t.Errorf("limit %d: room for %d connections and %d sockets, want %d and %d", c.limit, room, sockets, c.room, c.sockets)
		}
	}
	if n := ConnectionRoom(); n <= 0 || uint64(n) >= descriptors() {
		t.Errorf("room for %d of %d", n, descriptors())
	}
}

// A connection above the bound is closed at once and counted; there is room again when
// another one has gone. Sockets leave room for requests.
func TestConnectionsAreBounded(t *testing.T) {
	var log said
	s, addr := open(t, newTown(t, "tshirt"), func(c *Config) { c.MaxConnections, c.Log = 3, log.logger() })
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	works := func(c net.Conn) {
		t.Helper()
		if _, err := io.WriteString(c, "GET /products HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || r.StatusCode != 200 {
			t.Fatalf("%v, %v", r, err)
		}
		r.Body.Close()
	}
	watch(t, addr, "a@b.de")
	watch(t, addr, "b@b.de")
	r := talk(t, addr, "GET /ws?email=c@b.de HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	if wantProblem(t, r, 503); !r.Close {
		t.Error("a refused socket's connection stays open")
	}
	awaitTrue(t, "the refused socket's connection is closed", func() bool { return s.listener.open.Load() == 2 })
	third := dial()
	works(third)
	for range 2 {
		if _, err := dial().Read(make([]byte, 1)); err == nil {
			t.Error("a connection above the bound is served")
		}
	}
	if n := s.Stats().RefusedConnections; n != 2 {
		t.Errorf("%d connections were refused", n)
	}
	works(third)
	third.Close()
	awaitTrue(t, "a connection is closed", func() bool { return s.listener.open.Load() == 2 })
	works(dial())
	log.want(t, 1, "connections are refused")
	log.want(t, 1, "open=3 times=1")
}

// A connection whose rest is read after an early answer holds its descriptor, and
// counts.
func TestALingeringConnectionCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		l := newListener(accepting{accept: func() (net.Conn, error) { return halfConn{near}, nil }}, 1, slog.New(slog.DiscardHandler))
		nc, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		nc.(*conn).unread.Store(true)
		go nc.Close()
		time.Sleep(lingerTime / 2)
		if n := l.open.Load(); n != 1 {
			t.Errorf("%d open", n)
		}
		time.Sleep(lingerTime)
		_ = nc.Close() // closing twice frees one
		if n := l.open.Load(); n != 0 {
			t.Errorf("%d open at last", n)
		}
	})
}

func TestSeldom(t *testing.T) {
	var s seldom
	now := time.Now()
	for _, c := range []struct {
		after time.Duration
		times int
		due   bool
	}{{0, 1, true}, {0, 0, false}, {999 * time.Millisecond, 0, false}, {time.Second, 3, true}, {time.Minute, 1, true}} {
		if times, due := s.due(now.Add(c.after)); times != c.times || due != c.due {
			t.Errorf("after %s: %d %v", c.after, times, due)
		}
	}
}
