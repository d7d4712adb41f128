package bench

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// plan is the load of one phase: until orders have been sent or duration is
// over (0: no end), at rate orders a second (0: as soon as each buyer can).
type plan struct {
	orders   int64
	duration time.Duration
	rate     float64
}

// half is half the plan at the same rate.
func (p plan) half() plan {
	p.orders, p.duration = (p.orders+1)/2, p.duration/2
	return p
}

// planned is how many orders an open loop has to send.
func (p plan) planned() int64 {
	n := p.orders
	if p.duration > 0 {
		n = min(n, int64(math.Ceil(p.duration.Seconds()*p.rate)))
	}
	return n
}

// due is when order n is to be sent, counted from the start of the phase.
func (p plan) due(n int64) time.Duration {
	return time.Duration(float64(n) / p.rate * float64(time.Second))
}

// schedule hands the plan's orders out to the buyers, one at a time.
type schedule struct {
	plan
	start time.Time
	last  time.Duration // no order is sent later than this after start; 0: no end
	next  atomic.Int64
}

// begin starts the clock. An open loop that falls behind gives up patience
// after its last order was due: it ends in bounded time, whatever the server does.
func (s *schedule) begin(p plan, patience time.Duration) {
	s.plan, s.start, s.last = p, time.Now(), p.duration
	if p.rate > 0 {
		s.orders = p.planned()
		s.last = p.due(s.orders) + patience
	}
}

// take returns the number of the caller's next order and the time from which
// its latency counts, waiting for it in the open loop. ok is false when there
// are no more, or ctx has ended.
func (s *schedule) take(ctx context.Context, timer *time.Timer) (n int64, due time.Time, ok bool) {
	now := time.Now()
	if s.last > 0 && now.Sub(s.start) >= s.last || ctx.Err() != nil {
		return 0, now, false
	}
	n = s.next.Add(1) - 1
	if n >= s.orders {
		return 0, now, false
	}
	if s.rate == 0 {
		return n, now, true
	}
	due = s.start.Add(s.due(n))
	if wait := due.Sub(now); wait > 0 {
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return 0, now, false
		}
	}
	return n, due, true
}
