//go:build unix

package bench

import (
	"io"
	"net"
	"syscall"
)

// exchange writes a request and waits for the first bytes of its answer in one
// step. A plain Write and Read asks the kernel once more, in vain, before it
// waits, because the answer is never there yet; at flood rates that is a tenth
// of the generator's time.
type exchange struct {
	conn *net.TCPConn
	raw  syscall.RawConn
	step func(fd uintptr) bool // built once: a closure per request would be garbage per request

	// Of the call under way.
	request []byte
	into    []byte
	sent    bool
	n       int
	err     error
}

func (e *exchange) bind(c *net.TCPConn) (err error) {
	e.conn = c
	e.raw, err = c.SyscallConn()
	e.step = e.advance
	return err
}

// advance runs inside RawConn.Read, which forgets earlier readiness before the
// first call and waits for new readiness whenever this returns false. The
// request is written in here so that its answer cannot become readable before
// the forgetting, and be waited for in vain.
func (e *exchange) advance(fd uintptr) bool {
	if !e.sent {
		e.sent = true
		n, _ := syscall.Write(int(fd), e.request) // an error shows again in the Write below
		if n == len(e.request) {
			return false
		}
		_, e.err = e.conn.Write(e.request[max(n, 0):])
		return e.err != nil
	}
	for {
		n, err := syscall.Read(int(fd), e.into)
		switch {
		case err == syscall.EINTR:
			continue // readiness is told once: waiting for it again could be for ever
		case err == syscall.EAGAIN:
			return false
		case err != nil:
			e.err = err
		case n == 0:
			e.err = io.EOF
		default:
			e.n = n
		}
		return true
	}
}

func (e *exchange) sendAndRead(request, into []byte) (int, error) {
	e.request, e.into, e.sent, e.n, e.err = request, into, false, 0, nil
	if err := e.raw.Read(e.step); err != nil {
		return 0, err
	}
	return e.n, e.err
}
