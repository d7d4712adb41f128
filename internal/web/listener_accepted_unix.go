//go:build unix

package web

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// acceptTime bounds the wait for connections to be accepted, should they come
// faster than that.
const acceptTime = time.Second

// awaitAccepted returns when no connection waits to be accepted.
func (l *listener) awaitAccepted() {
	ln, ok := l.Listener.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := ln.SyscallConn()
	if err != nil {
		return
	}
	for until := time.Now().Add(acceptTime); someoneWaits(raw) && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
}

// someoneWaits asks without waiting. When it cannot be asked, nobody does.
func someoneWaits(raw syscall.RawConn) bool {
	n := 0
	err := raw.Control(func(fd uintptr) {
		n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	return err == nil && n > 0
}
