//go:build !unix

package bench

import "net"

// exchange writes a request and waits for the first bytes of its answer.
type exchange struct{ conn *net.TCPConn }

func (e *exchange) bind(c *net.TCPConn) error {
	e.conn = c
	return nil
}

func (e *exchange) sendAndRead(request, into []byte) (int, error) {
	if _, err := e.conn.Write(request); err != nil {
		return 0, err
	}
	return e.conn.Read(into)
}
