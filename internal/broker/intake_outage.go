package broker

import (
	"errors"
	"fmt"
	"time"

	"firstcome/internal/sale"
)

// outage is a row of groups of which none was stored.
type outage struct {
	since, last time.Time
	err         error // of the last
}

// A row of failures as long as failTime is no election any more. Nobody sends orders
// to an instance that is not ready, so after forgetTime without any it may try again.
const (
	failTime   = 5 * time.Second
	forgetTime = 10 * time.Second
)

// noteFailure notes that a group was not stored. A full queue is no failure: it
// answers, and will have room.
func (in *Intake) noteFailure(err error) {
	if errors.Is(err, sale.ErrQueueFull) {
		in.outage.Store(nil)
		return
	}
	now := time.Now()
	f := &outage{since: now, last: now, err: err}
	if before := in.outage.Load(); before != nil && now.Sub(before.last) < forgetTime {
		f.since = before.since
	}
	in.outage.Store(f)
}

// Failing is why no order could be stored for a while, such as a full disk, nil
// while none is known to fail.
func (in *Intake) Failing() error {
	f := in.outage.Load()
	if f == nil || f.last.Sub(f.since) < failTime || time.Since(f.last) >= forgetTime {
		return nil
	}
	return fmt.Errorf("orders cannot be stored: %w", f.err)
}
