package broker_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
)

// gate stands between an instance and the server, and loses what a network can
// lose: the connection, or single messages on their way to the instance.
type gate struct {
	server nats.InProcessConnProvider

	mu    sync.Mutex
	shut  bool
	mute  bool
	lose  func(frame []byte) bool // nil loses nothing
	gone  int                     // frames lost so far
	conns []*gatedConn
}

func (w *world) gate() *gate { return &gate{server: w.node()} }

// InProcessConn implements nats.InProcessConnProvider.
func (g *gate) InProcessConn() (net.Conn, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return nil, errors.New("the gate is shut")
	}
	conn, err := g.server.InProcessConn()
	if err != nil {
		return nil, err
	}
	c := &gatedConn{Conn: conn, gate: g, in: bufio.NewReader(conn)}
	g.conns = append(g.conns, c)
	return c, nil
}

// close cuts every connection and lets no new one through.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	for _, c := range g.conns {
		_ = c.Conn.Close() // the peer may have been first
	}
	g.conns = nil
}

// open ends close.
func (g *gate) open() { g.set(func() { g.shut = false }) }

// swallow takes what the instance sends and passes none of it on, as a server
// does that stands still.
func (g *gate) swallow(on bool) { g.set(func() { g.mute = on }) }

// losing loses the frames to the instance for which is says yes, nil none.
func (g *gate) losing(is func(frame []byte) bool) { g.set(func() { g.lose = is }) }

func (g *gate) set(step func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	step()
}

func (g *gate) loses(frame []byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lose == nil || !g.lose(frame) {
		return false
	}
	g.gone++
	return true
}

// lost is how many frames were.
func (g *gate) lost() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.gone
}

// gatedConn hands on the server's frames one by one. Only the client's reader
// reads it.
type gatedConn struct {
	net.Conn
	gate  *gate
	in    *bufio.Reader
	ready []byte
}

func (c *gatedConn) Read(b []byte) (int, error) {
	for len(c.ready) == 0 {
		frame, err := readFrame(c.in)
		if err != nil {
			return 0, err
		}
		if !c.gate.loses(frame) {
			c.ready = frame
		}
	}
	n := copy(b, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

func (c *gatedConn) Write(b []byte) (int, error) {
	c.gate.mu.Lock()
	mute := c.gate.mute
	c.gate.mu.Unlock()
	if mute {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// readFrame reads one line of the NATS protocol, and the payload if it is a message.
func readFrame(r *bufio.Reader) ([]byte, error) {
	frame, err := r.ReadBytes('\n')
	if err != nil || !bytes.HasPrefix(frame, []byte("MSG ")) && !bytes.HasPrefix(frame, []byte("HMSG ")) {
		return frame, err
	}
	fields := bytes.Fields(frame)
	size, err := strconv.Atoi(string(fields[len(fields)-1]))
	if err != nil {
		return nil, err
	}
	payload := make([]byte, size+len("\r\n"))
	if _, err := io.ReadFull(r, payload); err != nil {
		return nil, err
	}
	return append(frame, payload...), nil
}

// isCopy tells the republished messages of the queue and of the history.
func isCopy(frame []byte) bool {
	return bytes.HasPrefix(frame, []byte("HMSG line.")) || bytes.HasPrefix(frame, []byte("HMSG ledger."))
}

// isStored tells the queue's acknowledgement of a message that it stored.
func isStored(frame []byte) bool {
	return bytes.Contains(frame, []byte(`"stream":"ORDERS"`)) && bytes.Contains(frame, []byte(`"seq":`)) &&
		!bytes.Contains(frame, []byte(`"type"`))
}

func TestGateLosesFrames(t *testing.T) {
	w := on(t, one)
	g := w.gate()
	g.losing(func(frame []byte) bool { return bytes.HasPrefix(frame, []byte("MSG a ")) })
	nc, err := nats.Connect("", nats.InProcessServer(g), nats.UserInfo(w.user, w.user), nats.MaxReconnects(-1))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"a", "b", "a", "c"} {
		if err := nc.Publish(subject, []byte(subject+"\r\n"+subject)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"b", "c"} {
		m, err := sub.NextMsgWithContext(within(t))
		if err != nil || m.Subject != want || string(m.Data) != want+"\r\n"+want {
			t.Fatalf("%+v came, want %s: %v", m, want, err)
		}
	}
	if n := g.lost(); n != 2 {
		t.Errorf("%d messages were lost", n)
	}
}
