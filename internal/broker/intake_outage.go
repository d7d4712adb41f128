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
	told        bool  // the log has it
}

// A row of failures as long as failTime is no election any more. Nobody sends orders
// to an instance that is not ready, so after forgetTime without any it may try again.
const (
	failTime   = 5 * time.Second
	forgetTime = 10 * time.Second
)

// noteFailure notes that a group was not stored. The log is told once in a row: of a
// limit at once, as it is an operator's to raise, and else when the row is longer than an
// election.
func (in *Intake) noteFailure(err error) {
	now := time.Now()
	f := &outage{since: now, last: now, err: err}
	if before := in.outage.Load(); before != nil && now.Sub(before.last) < forgetTime && before.full() == f.full() {
		f.since, f.told = before.since, before.told
	}
	if !f.told && (isLimit(err) || f.lasts()) {
		f.told = true
		in.conn.log.Error("orders cannot be stored: they get 503 until they can", "err", err)
	}
	in.outage.Store(f)
}

// noteStored notes that a group was stored, which ends a row of failures.
func (in *Intake) noteStored() {
	if in.outage.Load() == nil {
		return
	}
	if f := in.outage.Swap(nil); f != nil && f.told {
		in.conn.log.Info("orders are stored again", "after", time.Since(f.since).Round(time.Millisecond))
	}
}

func (f *outage) full() bool { return errors.Is(f.err, sale.ErrQueueFull) }

func (f *outage) lasts() bool { return f.last.Sub(f.since) >= failTime }

// Failing is why no order could be stored for a while, such as a full disk, nil
// while none is known to fail. A full queue is no failure: it answers, and will have room.
func (in *Intake) Failing() error {
	f := in.outage.Load()
	if f == nil || !f.lasts() || time.Since(f.last) >= forgetTime || f.full() {
		return nil
	}
	return fmt.Errorf("orders cannot be stored: %w", f.err)
}
