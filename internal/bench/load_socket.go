package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/fasthttp/websocket"
)

const (
	// silence is how long a socket may say nothing, pings included (they come
	// every 25 s), before it counts as lost.
	silence = 60 * time.Second
	// heardAhead bounds the outcomes that a buyer has not looked at yet. When it
	// is full the socket is not read on; a buyer has one order under way, and a
	// reconnect repeats the newest 20.
	heardAhead = 64
	maxFrame   = 64 << 10
)

// told is an outcome as it arrived on a socket.
type told struct {
	orderStatus
	at time.Time
}

// socket is one buyer's socket: opened once by open, then kept open, and opened
// again when it is lost, by listen in a goroutine of its own.
type socket struct {
	instances []instance
	turn      int // which instance is next; a lost socket tries another
	email     string
	timeout   time.Duration

	heard chan told         // final outcomes; nil: the socket is only held open
	lost  func(kind string) // called for every loss but the intended one
	up    atomic.Bool       // read by others
	conn  *websocket.Conn   // of listen, after open
	stop  func() bool       // takes conn off its context
	buf   []byte            // a frame
	seen  time.Time         // when the read deadline was last moved
}

// open connects and returns once the socket is live, which is when the server
// has said hello: from then on no outcome is missed.
func (e *socket) open(ctx context.Context) error {
	at := e.instances[e.turn%len(e.instances)]
	e.turn++
	dialer := websocket.Dialer{HandshakeTimeout: e.timeout, ReadBufferSize: 1024, WriteBufferSize: 128}
	conn, resp, err := dialer.DialContext(ctx, "ws://"+at.addr+"/ws?email="+url.QueryEscape(e.email), http.Header{})
	if err != nil {
		if resp != nil {
			err = fmt.Errorf("%w (answer %d)", err, resp.StatusCode)
		}
		return fmt.Errorf("socket to %s: %w", at.url, err)
	}
	conn.SetReadLimit(maxFrame)
	conn.SetPingHandler(func(data string) error {
		if err := e.alive(time.Now()); err != nil {
			return err
		}
		return conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(e.timeout))
	})
	e.conn, e.seen = conn, time.Time{}
	e.stop = context.AfterFunc(ctx, func() { _ = conn.Close() }) // only to end a read that waits
	if err = conn.SetReadDeadline(time.Now().Add(e.timeout)); err == nil {
		var frame []byte
		if frame, err = e.frame(); err == nil && string(member(frame, "type")) != `"hello"` {
			err = fmt.Errorf("the first frame is no hello: %.80q", frame)
		}
	}
	if err != nil {
		e.close()
		return fmt.Errorf("socket to %s: %w", at.url, err)
	}
	e.up.Store(true)
	return nil
}

func (e *socket) close() {
	e.up.Store(false)
	e.stop()
	_ = e.conn.Close() // nothing was written that could be lost
}

// alive moves the read deadline, not more often than makes a difference.
func (e *socket) alive(now time.Time) error {
	if now.Sub(e.seen) < silence/4 {
		return nil
	}
	e.seen = now
	return e.conn.SetReadDeadline(now.Add(silence))
}

// frame returns the next frame; its bytes are valid until the next call.
func (e *socket) frame() ([]byte, error) {
	_, r, err := e.conn.NextReader()
	if err != nil {
		return nil, err
	}
	b := e.buf[:0]
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err != nil {
			e.buf = b
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return b, err
		}
	}
}

// listen passes outcomes on until ctx ends. It owns the socket that open made.
func (e *socket) listen(ctx context.Context) {
	for {
		err := e.hear(ctx)
		e.close()
		if ctx.Err() != nil {
			return
		}
		e.lost(socketLoss(err))
		for {
			if err = e.open(ctx); err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			e.lost("socket: cannot connect again")
			if !pause(ctx, 100*time.Millisecond) {
				return
			}
		}
	}
}

func (e *socket) hear(ctx context.Context) error {
	for {
		if err := e.alive(time.Now()); err != nil {
			return err
		}
		frame, err := e.frame()
		if err != nil {
			return err
		}
		if e.heard == nil || string(member(frame, "type")) != `"order"` {
			continue
		}
		status, ok := parseStatus(member(frame, "order"))
		if !ok {
			return fmt.Errorf("not a status: %.200q", frame)
		}
		if !status.outcome.final() {
			continue
		}
		select {
		case e.heard <- told{status, time.Now()}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func socketLoss(err error) string {
	var closed *websocket.CloseError
	if errors.As(err, &closed) {
		return fmt.Sprintf("socket closed by the server (%d)", closed.Code)
	}
	return "socket: " + kindOf(err, silence)
}

// pause waits, and is false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
