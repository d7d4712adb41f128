package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// maxAnswer bounds an answer's head and body together.
const maxAnswer = 64 << 10

// link is one persistent HTTP/1.1 connection with one request in flight. It
// belongs to one goroutine. Bytes of an answer are valid until the next call.
type link struct {
	at      instance
	timeout time.Duration

	conn  *net.TCPConn // nil: not connected
	armed time.Time    // when the deadline was last moved
	buf   []byte
	stop  func() bool // takes the connection off its context

	exchange exchange
}

// connect dials unless the link is up. The connection is closed when ctx ends.
func (l *link) connect(ctx context.Context) error {
	if l.conn != nil {
		return nil
	}
	dialer := net.Dialer{Timeout: l.timeout}
	c, err := dialer.DialContext(ctx, "tcp", l.at.addr)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", l.at.url, err)
	}
	l.conn, l.armed = c.(*net.TCPConn), time.Time{}
	if err := l.exchange.bind(l.conn); err != nil {
		_ = c.Close() // never used
		l.conn = nil
		return fmt.Errorf("connect to %s: %w", l.at.url, err)
	}
	if l.buf == nil {
		l.buf = make([]byte, 4096)
	}
	l.stop = context.AfterFunc(ctx, func() { _ = c.Close() }) // only to end a call that waits
	return nil
}

// close is safe on a link that is down.
func (l *link) close() {
	if l.conn == nil {
		return
	}
	l.stop()
	_ = l.conn.Close() // nothing is in flight that could be lost
	l.conn = nil
}

// do sends one rendered request and waits for its answer. After an error the
// link is down, and whether the server acted on the request is not known.
func (l *link) do(request []byte, now time.Time) (answer, error) {
	a, err := l.try(request, now)
	if err != nil {
		l.close()
		return a, err
	}
	if a.closes {
		l.close()
	}
	return a, nil
}

func (l *link) try(request []byte, now time.Time) (answer, error) {
	// Moving a deadline costs a timer; moved every quarter, it is at most that
	// much too late.
	if slack := l.timeout / 4; now.Sub(l.armed) > slack {
		if err := l.conn.SetDeadline(now.Add(l.timeout + slack)); err != nil {
			return answer{}, err
		}
		l.armed = now
	}
	have, err := l.exchange.sendAndRead(request, l.buf)
	for {
		if err != nil {
			return answer{}, err
		}
		a, size, perr := parseAnswer(l.buf[:have])
		if perr != nil {
			return answer{}, perr
		}
		if size != 0 {
			if size != have {
				return answer{}, errors.New("more bytes than one answer to one request")
			}
			return a, nil
		}
		if have == len(l.buf) {
			if have >= maxAnswer {
				return answer{}, fmt.Errorf("answer longer than %d bytes", maxAnswer)
			}
			l.buf = append(l.buf, make([]byte, len(l.buf))...)
		}
		var n int
		n, err = l.conn.Read(l.buf[have:])
		have += n
	}
}

// kindOf is the line of the error table that a failed call belongs to.
func kindOf(err error, timeout time.Duration) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("no answer in %s", timeout)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection lost"
	default:
		return err.Error()
	}
}
