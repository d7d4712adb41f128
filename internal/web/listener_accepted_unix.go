//go:build unix

package web

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// acceptTime bounds awaitAccepted when connections come faster than they are accepted.
const acceptTime = time.Second

// awaitAccepted waits until no connection waits to be accepted.
func (l *listener) awaitAccepted() {
	ln, ok := l.Listener.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := ln.SyscallConn()
	if err != nil {
		return
	}
	for until := time.Now().Add(acceptTime); anyWaiting(raw) && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
}

// anyWaiting polls without blocking. It says no if it cannot poll.
func anyWaiting(raw syscall.RawConn) bool {
	n := 0
	err := raw.Control(func(fd uintptr) {
		n, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	return err == nil && n > 0
}
