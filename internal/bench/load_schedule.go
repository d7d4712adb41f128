package bench

import (
	"context"
	"fmt"
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

	next     atomic.Int64 // closed loop
	arrivals chan int64   // open loop: numbers of orders that are due
}

// begin starts the clock. An open loop that falls behind gives up patience
// after its last order was due: it ends in bounded time, whatever the server does.
func (s *schedule) begin(p plan, patience time.Duration) {
	s.plan, s.start, s.last = p, time.Now(), p.duration
	if p.rate > 0 {
		s.orders = p.planned()
		s.last = p.due(s.orders) + patience
		s.arrivals = make(chan int64)
	}
}

// arrive runs an open loop's clock until every order has been handed out. When
// no buyer is free the orders wait here, and their latency counts on.
func (s *schedule) arrive(ctx context.Context) error {
	defer close(s.arrivals)
	clock, err := newAlarm()
	if err != nil {
		return fmt.Errorf("clock of the open loop: %w", err)
	}
	defer clock.close()
	stop := context.AfterFunc(ctx, clock.close)
	defer stop()
	tooLate := time.NewTimer(s.last)
	defer tooLate.Stop()
	for n := range s.orders {
		if wait := time.Until(s.start.Add(s.due(n))); wait > 0 {
			if err := clock.sleep(wait); err != nil {
				if ctx.Err() != nil {
					return nil // ended, not failed
				}
				return fmt.Errorf("clock of the open loop: %w", err)
			}
		}
		select {
		case s.arrivals <- n:
		case <-tooLate.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// stop hands out no more orders. Not for the open loop.
func (s *schedule) stop() { s.next.Store(s.orders) }

// take returns the number of the caller's next order and the time from which
// its latency counts, waiting for it in the open loop. ok is false when there
// are no more, or ctx has ended.
func (s *schedule) take(ctx context.Context) (n int64, due time.Time, ok bool) {
	if s.rate > 0 {
		if n, ok = <-s.arrivals; !ok {
			return 0, due, false
		}
		return n, s.start.Add(s.due(n)), true
	}
	now := time.Now()
	if s.last > 0 && now.Sub(s.start) >= s.last || ctx.Err() != nil {
		return 0, now, false
	}
	n = s.next.Add(1) - 1
	return n, now, n < s.orders
}
