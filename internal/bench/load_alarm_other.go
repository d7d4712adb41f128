//go:build !linux

package bench

import (
	"os"
	"sync"
	"time"
)

// alarm sleeps as precisely as the runtime does.
type alarm struct {
	closed chan struct{}
	once   sync.Once
}

func newAlarm() (*alarm, error) { return &alarm{closed: make(chan struct{})}, nil }

// sleep returns after d, or with an error when the alarm is closed.
func (a *alarm) sleep(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-a.closed:
		return os.ErrClosed
	}
}

// close ends a sleep. It may be called again, and from elsewhere.
func (a *alarm) close() { a.once.Do(func() { close(a.closed) }) }
