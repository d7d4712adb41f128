package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// listener keeps hold of the connections it accepted: a socket that was upgraded
// escapes fasthttp's shutdown, and so does a connection that never sent a byte.
type listener struct {
	net.Listener
	log    *slog.Logger
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	conns map[*conn]struct{}
}

func newListener(ln net.Listener, log *slog.Logger) *listener {
	return &listener{Listener: ln, log: log, closed: make(chan struct{}), conns: map[*conn]struct{}{}}
}

// Accept waits out what passes, such as running out of file descriptors, which
// fasthttp would take for the end.
func (l *listener) Accept() (net.Conn, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		nc, err := l.Listener.Accept()
		if err == nil {
			c := &conn{Conn: nc, from: l, since: time.Now()}
			l.mu.Lock()
			l.conns[c] = struct{}{}
			l.mu.Unlock()
			return c, nil
		}
		if !passing(err) {
			return nil, err
		}
		l.log.Warn("a connection could not be accepted", slog.Any("err", err), slog.Duration("again_in", pause))
		select {
		case <-l.closed:
			return nil, net.ErrClosed
		case <-time.After(pause):
		}
	}
}

func passing(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.ECONNRESET)
}

// Close lets those be accepted who are connected already, and whom closing would
// reset. It may be called more than once.
func (l *listener) Close() (err error) {
	l.once.Do(func() {
		l.awaitAccepted()
		close(l.closed)
		if err = l.Listener.Close(); err != nil {
			err = fmt.Errorf("closing the listener: %w", err)
		}
	})
	return err
}

// plain is how many connections are open that no socket has taken over.
func (l *listener) plain() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for c := range l.conns {
		if !c.upgraded.Load() {
			n++
		}
	}
	return n
}

// closeUnused cuts off the connections on which no byte has come for that long
// since they were made: nobody waits for an answer there. Until then a first request
// may be on its way. It returns when there are none, or ctx has ended.
func (l *listener) closeUnused(ctx context.Context, patience time.Duration) {
	poll(ctx, func() bool { return l.cutUnused(patience) == 0 })
}

// cutUnused returns how many it spared.
func (l *listener) cutUnused(patience time.Duration) (spared int) {
	l.cut(func(c *conn) bool {
		young := time.Since(c.since) < patience
		if young && !c.used.Load() {
			spared++
		}
		return !young && !c.used.Load()
	})
	return spared
}

func (l *listener) closeAll() { l.cut(func(*conn) bool { return true }) }

func (l *listener) cut(which func(*conn) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if which(c) {
			c.abort()
		}
	}
}

func (l *listener) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// conn is an accepted connection.
type conn struct {
	net.Conn
	from     *listener
	since    time.Time
	used     atomic.Bool // a byte has come
	unread   atomic.Bool // answered before the request was read to its end
	upgraded atomic.Bool // it is a socket's

	mu      sync.Mutex // one write at a time
	writeBy time.Time  // the deadline
	holding bool
	held    []byte

	writing atomic.Int64 // when the write under way to a socket began, ns after since; 0: none is
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.used.Load() {
		c.used.Store(true)
	}
	return n, err
}

// Write writes, or keeps p for release if the connection is on hold.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.holding {
		return c.send(p)
	}
	c.held = append(c.held, p...)
	if len(c.held) < maxHeld {
		return len(p), nil
	}
	return len(p), c.flush()
}

// slack is by how much a write's deadline may end early. Answers and frames move
// theirs tens of thousands of times a second, by next to nothing.
const slack = time.Second

// SetWriteDeadline may let a deadline stand that is up to slack earlier. It has no
// effect while the connection is on hold: flush sets its own, and a pong's must
// not replace it.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holding {
		return nil
	}
	return c.writeUntil(t)
}

func (c *conn) writeUntil(t time.Time) error {
	if by := t.Sub(c.writeBy); !c.writeBy.IsZero() && 0 <= by && by < slack {
		return nil
	}
	c.writeBy = t
	return c.Conn.SetWriteDeadline(t)
}

const (
	maxHeld   = 32 << 10        // bytes, then they are written although more may follow
	flushTime = 5 * time.Second // for a write to a socket
)

var heldBuffers = sync.Pool{New: func() any { return new([]byte) }}

// hold makes the frames that follow wait for release, so that they cost one
// system call together.
func (c *conn) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holding = true
	c.held = (*heldBuffers.Get().(*[]byte))[:0]
}

// release writes what was held, within flushTime.
func (c *conn) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.flush()
	b := c.held
	c.holding, c.held = false, nil
	if cap(b) <= 2*maxHeld {
		heldBuffers.Put(&b)
	}
	return err
}

func (c *conn) flush() error {
	if len(c.held) == 0 {
		return nil
	}
	if err := c.writeUntil(time.Now().Add(flushTime)); err != nil {
		return err
	}
	_, err := c.send(c.held)
	c.held = c.held[:0]
	return err
}

// send writes, and lets it be known since when if there is a socket.
func (c *conn) send(p []byte) (int, error) {
	if c.upgraded.Load() {
		c.writing.Store(int64(time.Since(c.since)))
		defer c.writing.Store(0)
	}
	return c.Conn.Write(p)
}

// stalled tells whether a write waits for the other side.
func (c *conn) stalled() bool {
	began := time.Duration(c.writing.Load())
	return began > 0 && time.Since(c.since)-began > stallTime
}

// abort cuts the connection off, whoever is reading or writing. The owner still
// has to Close it.
func (c *conn) abort() { _ = c.Conn.Close() } // its users get the error

// Bounds of what is read from somebody who is still talking after the answer.
const (
	lingerTime  = time.Second
	lingerBytes = 16 << 20
)

// Close closes. If the request was answered before it was read, it lets the other
// side finish first: a reset would wipe the answer out before it is seen.
func (c *conn) Close() error {
	c.from.forget(c)
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.unread.Swap(false) {
		if half.CloseWrite() == nil && c.Conn.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
			_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes) // however it ends, it is over
		}
	}
	return c.Conn.Close()
}
