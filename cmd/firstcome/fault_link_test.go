package main

import (
	"net"
	"sync"
	"testing"
)

// link is a cable between two brokers: what one dials reaches the other, unless
// the link is cut (connections end and new ones are refused) or silent (nothing
// arrives any more, and nobody is told; it all arrives when the silence ends).
type link struct {
	from, to int
	target   string
	ln       net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	heal   *sync.Cond
	state  linkState
	closed bool
	conns  map[net.Conn]struct{}
}

type linkState int

const (
	whole linkState = iota
	cut
	silent
)

func newLink(t *testing.T, from, to int, target string) *link {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{from: from, to: to, target: target, ln: ln, conns: map[net.Conn]struct{}{}}
	l.heal = sync.NewCond(&l.mu)
	l.running.Go(l.accept)
	t.Cleanup(l.close)
	return l
}

// set puts the link into a state.
func (l *link) set(state linkState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = state
	if state == cut {
		l.drop()
	}
	l.heal.Broadcast()
}

func (l *link) close() {
	l.ln.Close()
	l.mu.Lock()
	l.closed = true
	l.drop()
	l.heal.Broadcast()
	l.mu.Unlock()
	l.running.Wait()
}

// drop ends all connections. The caller holds l.mu.
func (l *link) drop() {
	for c := range l.conns {
		c.Close()
	}
}

func (l *link) accept() {
	for {
		near, err := l.ln.Accept()
		if err != nil {
			return // closed
		}
		l.running.Go(func() { l.carry(near) })
	}
}

// carry is the life of one connection.
func (l *link) carry(near net.Conn) {
	defer near.Close()
	if !l.keep(near) {
		return
	}
	defer l.forget(near)
	far, err := net.Dial("tcp", l.target)
	if err != nil {
		return // that broker is down
	}
	defer far.Close()
	if !l.keep(far) {
		return
	}
	defer l.forget(far)
	var back sync.WaitGroup
	back.Go(func() { l.pipe(near, far) })
	l.pipe(far, near)
	back.Wait()
}

func (l *link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.state == cut {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *link) forget(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// pipe copies one direction, and ends both when that ends.
func (l *link) pipe(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		l.mu.Lock()
		for l.state == silent && !l.closed {
			l.heal.Wait()
		}
		l.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
