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

// listener keeps every connection that it accepted, so that a stop can close them:
// fasthttp's shutdown misses upgraded sockets, and connections that never sent a byte.
type listener struct {
	net.Listener
	log    *slog.Logger
	most   int64 // connections open at once, 0: no bound
	closed chan struct{}
	once   sync.Once

	open    atomic.Int64 // connections that hold a descriptor
	refused atomic.Uint64
	full    seldom // refusals that are logged

	mu    sync.Mutex
	conns map[*conn]struct{}
}

func newListener(ln net.Listener, most int, log *slog.Logger) *listener {
	return &listener{Listener: ln, log: log, most: int64(most), closed: make(chan struct{}), conns: map[*conn]struct{}{}}
}

// Accept tries again after a temporary failure, such as running out of file
// descriptors. fasthttp would stop serving. It closes at once what comes above most.
func (l *listener) Accept() (net.Conn, error) {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		nc, err := l.Listener.Accept()
		if err == nil {
			if l.most > 0 && l.open.Load() >= l.most {
				l.refuse(nc)
				pause = 5 * time.Millisecond
				continue
			}
			l.open.Add(1)
			c := &conn{Conn: nc, from: l, since: time.Now()}
			l.mu.Lock()
			l.conns[c] = struct{}{}
			l.mu.Unlock()
			return c, nil
		}
		if !temporary(err) {
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

// refuse closes the connection last: a client that is turned away has been counted.
func (l *listener) refuse(nc net.Conn) {
	l.refused.Add(1)
	if times, due := l.full.due(time.Now()); due {
		l.log.Warn("connections are refused: as many are open as the limit of file descriptors allows",
			slog.Int64("open", l.most), slog.Int("times", times))
	}
	_ = nc.Close() // nothing was read or written
}

func temporary(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ECONNABORTED) || errors.Is(err, syscall.ECONNRESET)
}

// Close accepts what the kernel has already connected; closing first would reset it.
// It may be called more than once.
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

// plain is how many open connections are not sockets.
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

// closeUnused cuts off the connections that are older than patience and have sent no
// byte: no answer is due on them. On a younger one the first request may be on its
// way. It returns when no unused connection is left, or ctx has ended.
func (l *listener) closeUnused(ctx context.Context, patience time.Duration) {
	poll(ctx, func() bool { return l.cutUnused(patience) == 0 })
}

// cutUnused returns how many unused connections were too young to be cut off.
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
	upgraded atomic.Bool // it is a socket now
	closed   atomic.Bool

	mu      sync.Mutex // one write at a time
	writeBy time.Time  // the write deadline
	holding bool
	held    []byte

	writing atomic.Int64 // start of a socket's write under way, ns after since; 0: none
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.used.Load() {
		c.used.Store(true)
	}
	return n, err
}

// Write writes p, or keeps it until release if the connection is on hold.
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

// slack is how much earlier than asked for a write deadline may be. Answers and frames
// move their deadlines tens of thousands of times a second, by next to nothing.
const slack = time.Second

// SetWriteDeadline keeps a deadline that is at most slack earlier than t. It has no
// effect while the connection is on hold: flush sets its own deadline, and that of a
// pong must not replace it.
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
	maxHeld   = 32 << 10        // bytes; more are written before release
	flushTime = 5 * time.Second // for a write to a socket
)

var heldBuffers = sync.Pool{New: func() any { return new([]byte) }}

// hold keeps the frames that follow until release, so that together they cost one
// system call.
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

// send writes. A socket's write is timed, for stalled.
func (c *conn) send(p []byte) (int, error) {
	if c.upgraded.Load() {
		c.writing.Store(int64(time.Since(c.since)))
		defer c.writing.Store(0)
	}
	return c.Conn.Write(p)
}

// stalled reports whether a write has waited for the other side for stallTime.
func (c *conn) stalled() bool {
	began := time.Duration(c.writing.Load())
	return began > 0 && time.Since(c.since)-began > stallTime
}

// abort cuts the connection off, also under a read or a write. The owner still has
// to Close it.
func (c *conn) abort() { _ = c.Conn.Close() } // reads and writes get the error

// Bounds of what is still read after an early answer.
const (
	lingerTime  = time.Second
	lingerBytes = 16 << 20
)

// Close closes the connection. If the request was answered before it was read to its
// end, Close reads on first: closing at once would send a reset, and a reset can
// discard the answer before the client reads it.
func (c *conn) Close() error {
	c.from.forget(c)
	defer func() {
		if !c.closed.Swap(true) {
			c.from.open.Add(-1) // not before the descriptor is free
		}
	}()
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.unread.Swap(false) {
		if half.CloseWrite() == nil && c.Conn.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
			_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes) // its end changes nothing
		}
	}
	return c.Conn.Close()
}
