//go:build unix

package web

import (
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"
)

// A connection that the kernel made before the listener is closed is not reset.
func TestCloseAcceptsWhatIsConnected(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(ln, 0, slog.New(slog.DiscardHandler))
	const n = 5
	for range n {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	closed := make(chan error, 1)
	go func() { closed <- l.Close() }()
	for range n {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed, it accepts: %v", err)
	}
}

// A connection that is never accepted does not keep the listener from closing.
func TestCloseDoesNotWaitForEver(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(ln, 0, slog.New(slog.DiscardHandler))
	c, err := net.Dial("tcp", ln.Addr().String()) // it is not accepted
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	closed := make(chan error, 1)
	go func() { closed <- l.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * acceptTime):
		t.Error("it does not close")
		_ = ln.Close()
		<-closed
	}
}
