package web

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// accepting is a listener with an Accept of the test.
type accepting struct {
	net.Listener
	accept func() (net.Conn, error)
}

func (a accepting) Accept() (net.Conn, error) { return a.accept() }
func (accepting) Close() error                { return nil }

// A lack of file descriptors does not end Accept, and Close does.
func TestAcceptWaitsOutTemporaryFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		failures := []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, fmt.Errorf("accept: %w", syscall.EMFILE)}
		l := newListener(accepting{accept: func() (net.Conn, error) {
			if len(failures) == 0 {
				return near, nil
			}
			err := failures[0]
			failures = failures[1:]
			return nil, err
		}}, 0, slog.New(slog.DiscardHandler))
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()

		l = newListener(accepting{accept: func() (net.Conn, error) { return nil, syscall.EMFILE }}, 0, slog.New(slog.DiscardHandler))
		time.AfterFunc(time.Minute, func() { _ = l.Close() })
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed, it says %v", err)
		}
	})
}

// A write to a connection that is not read ends with flushTime, and each write has its
// own deadline.
func TestWritesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := &conn{Conn: near, from: newListener(nil, 0, nil)}
		defer c.Close()
		took := func(what string, want time.Duration, write func() error) {
			t.Helper()
			began := time.Now()
			late := net.Error(nil)
			if err := write(); !errors.As(err, &late) || !late.Timeout() || time.Since(began) != want {
				t.Errorf("%s: %v after %s", what, err, time.Since(began))
			}
		}
		held := func() error {
			c.hold()
			_ = c.SetWriteDeadline(time.Now().Add(time.Hour)) // a pong's
			if _, err := io.WriteString(c, "frame"); err != nil {
				return err
			}
			return c.release()
		}
		took("frames", flushTime, held)
		took("frames again", flushTime, held)
		took("an answer", writeTime, func() error {
			if err := c.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
				return err
			}
			_, err := io.WriteString(c, "answer")
			return err
		})
	})
}

type halfConn struct{ net.Conn }

func (halfConn) CloseWrite() error { return nil }

// What is read after an early answer is bounded in time and bytes.
func TestLingerIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := &conn{Conn: halfConn{near}, from: newListener(nil, 0, nil)}
		c.unread.Store(true)
		began := time.Now()
		time.AfterFunc(time.Minute, func() { far.Close() })
		_ = c.Close()
		if took := time.Since(began); took != lingerTime {
			t.Errorf("it waited %s", took)
		}

		near, far = net.Pipe()
		c = &conn{Conn: halfConn{near}, from: newListener(nil, 0, nil)}
		c.unread.Store(true)
		said := make(chan int, 1)
		go func() {
			n, piece := 0, make([]byte, 1<<20)
			for n < 2*lingerBytes {
				m, err := far.Write(piece)
				if n += m; err != nil {
					break
				}
			}
			far.Close()
			said <- n
		}()
		_ = c.Close()
		if n := <-said; n > lingerBytes+1<<20 {
			t.Errorf("it read %d bytes", n)
		}
	})
}

// A write that waits for the other side stalls a socket; a pause between writes does
// not.
func TestStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		c := &conn{Conn: near, from: newListener(nil, 0, nil), since: time.Now().Add(-time.Second)}
		defer c.Close()
		c.upgraded.Store(true)
		want := func(when string, stalled bool) {
			t.Helper()
			if c.stalled() != stalled {
				t.Errorf("%s: %v", when, !stalled)
			}
		}
		for what, write := range map[string]func() error{
			"a ping": func() error { _, err := io.WriteString(c, "x"); return err },
			"frames": func() error {
				c.hold()
				time.Sleep(2 * stallTime) // the book is looked up
				want("before a write", false)
				if _, err := io.WriteString(c, "x"); err != nil {
					return err
				}
				return c.release()
			},
		} {
			written := make(chan error, 1)
			go func() { written <- write() }()
			time.Sleep(2*stallTime + stallTime/2)
			want(what+", at first", what == "a ping")
			time.Sleep(2 * stallTime)
			want(what, true)
			if _, err := far.Read(make([]byte, 8)); err != nil {
				t.Fatal(err)
			}
			if err := <-written; err != nil {
				t.Error(err)
			}
			want("after "+what, false)
		}
	})
}
