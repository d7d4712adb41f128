package web

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
)

func TestAStoppedHubTakesNoSocket(t *testing.T) {
	w := newTown(t, "tshirt")
	s, _ := open(t, w, nil)
	if err := s.hub.stop(context.Background()); err != nil {
		t.Error(err)
	}
	if s.hub.add(&socket{hub: s.hub, token: "a"}) == 0 || s.Stats().RefusedSockets != 1 {
		t.Errorf("%+v", s.Stats())
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

// An open connection gets one more answer, and is closed after it. The server does not
// wait for sockets, and stops as soon as only they are left.
func TestStopAnswersOpenConnections(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil, func(s *Server) { s.drainTime = time.Hour })
	tab := watch(t, addr, "a@b.de")
	keeping := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer keeping.CloseIdleConnections()
	order := func() *http.Response {
		t.Helper()
		r, err := keeping.Post("http://"+addr+"/buy", asJSON, strings.NewReader(orderBody("a@b.de")))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, r.Body)
		if err = errors.Join(err, r.Body.Close()); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := order(); r.StatusCode != 202 || r.Close {
		t.Errorf("%+v", r)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	awaitTrue(t, "it refuses", s.refusing.Load)
	if r := order(); r.StatusCode != 503 || !r.Close {
		t.Errorf("on the open connection: %+v", r)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	for f := tab.next(); f.closedBy == 0; f = tab.next() {
	}
}

// A connection made just before the stop may have its first request on the way.
func TestStopAnswersANewConnection(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil, func(s *Server) { s.firstByteTime = time.Hour })
	late, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(context.Background()) }()
	awaitTrue(t, "it listens no more", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	body := orderBody("a@b.de")
	if _, err := fmt.Fprintf(late, "POST /buy HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(late), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Body.Close(); err != nil || r.StatusCode != 503 || !r.Close {
		t.Errorf("%+v, %v", r, err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// The server does not wait for a new connection that sends nothing.
func TestStopCutsOffASilentConnection(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil, func(s *Server) { s.firstByteTime = 50 * time.Millisecond })
	silent, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second) // fasthttp would cut it off after 4 to 5 s
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// New gives a server time for a stop; open takes it away.
func TestStopHasTime(t *testing.T) {
	w := newTown(t, "tshirt")
	s, err := New(Config{Queue: w, Feed: w, Book: w.book})
	if err != nil || s.drainTime != drainTime || s.firstByteTime != firstByteTime {
		t.Errorf("%v: %s and %s", err, s.drainTime, s.firstByteTime)
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
	awaitTrue(t, "the order is under way", func() bool { return w.placing.Load() > 0 })
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
	cfg := Config{Queue: w, Feed: w, Book: w.book}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.hub.timing.close = 10 * time.Second
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	tab := watch(t, ln.Addr().String(), "a@b.de")
	closedBy := make(chan int, 1)
	go func() { closedBy <- tab.next().closedBy }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := trySend("POST", "http://"+ln.Addr().String()+"/buy", orderBody("a@b.de"), "Content-Type", asJSON); err == nil {
			t.Error("an order was answered that the queue has not stored")
		}
	}()
	awaitTrue(t, "the order is under way", func() bool { return w.placing.Load() > 0 })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Stop(ctx); err == nil {
		t.Error("it waited for all")
	}
	if code := <-closedBy; code != websocket.CloseGoingAway {
		t.Errorf("closed with %d", code)
	}
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("the connection is still open")
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	close(w.gate)
}

func TestStopBeforeServe(t *testing.T) {
	w := newTown(t, "tshirt")
	s, err := New(Config{Queue: w, Feed: w, Book: w.book})
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

// lingering is a listener whose Accept returns a connection only when it is closed.
type lingering struct {
	net.Listener
	taken, closed chan struct{}
}

func (l lingering) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		close(l.taken)
		<-l.closed // as if its goroutine did not run until then
	}
	return c, err
}

func (l lingering) Close() error {
	defer close(l.closed)
	return l.Listener.Close()
}

// A connection that is being accepted while the listener closes is cut off, too.
// fasthttp would keep it for 5 s if it sends nothing.
func TestStopSeesAConnectionBeingAccepted(t *testing.T) {
	w := newTown(t, "tshirt")
	s, err := New(Config{Queue: w, Feed: w, Book: w.book})
	if err != nil {
		t.Fatal(err)
	}
	s.drainTime, s.firstByteTime = 0, 0
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served, taken := make(chan error, 1), make(chan struct{})
	go func() { served <- s.Serve(lingering{ln, taken, make(chan struct{})}) }()
	silent, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	<-taken
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
