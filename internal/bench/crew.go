package bench

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// dialing bounds how many connections are being opened at one time.
const dialing = 64

// crew is all the buyers of one phase. Set before the first goroutine starts,
// and only read afterwards; tally, schedule and verdict have locks of their own.
type crew struct {
	instances []instance
	product   string // named in each order; empty: not named
	prefix    string
	timeout   time.Duration
	unique    bool // every order is of a buyer not seen before
	sockets   bool
	shut      bool // every order is expected to be refused; the first that is queued ends the phase

	tally    *tally
	schedule schedule
	verdict  *verdict // nil: nothing is remembered for Check
	buyers   []*buyer

	listeners sync.WaitGroup
	hangUp    context.CancelFunc
}

// assemble opens every connection and socket before the clock starts.
func (c *crew) assemble(ctx context.Context, size int) error {
	ctx, c.hangUp = context.WithCancel(ctx)
	for i := range size {
		c.buyers = append(c.buyers, newBuyer(c, int64(i)))
	}
	opening, octx := errgroup.WithContext(ctx)
	opening.SetLimit(dialing)
	for _, b := range c.buyers {
		opening.Go(func() error {
			if octx.Err() != nil {
				return nil // the first error is the one to report
			}
			if err := b.link.connect(ctx); err != nil {
				return err
			}
			if b.ear == nil {
				return nil
			}
			if err := b.ear.open(ctx); err != nil {
				return err
			}
			c.listeners.Go(func() { b.ear.listen(ctx) })
			return nil
		})
	}
	return opening.Wait()
}

// dismiss closes everything and waits for the listeners. The crew's counts stay.
func (c *crew) dismiss() {
	c.hangUp()
	for _, b := range c.buyers {
		b.link.close()
	}
	c.listeners.Wait()
}

// work puts the plan's load on and returns how long it took.
func (c *crew) work(ctx context.Context, p plan) (time.Duration, error) {
	c.schedule.begin(p, c.timeout)
	var working errgroup.Group
	if p.rate > 0 {
		working.Go(func() error { return c.schedule.arrive(ctx) })
	}
	for _, b := range c.buyers {
		working.Go(func() error {
			b.work(ctx)
			return nil
		})
	}
	err := working.Wait()
	took := time.Since(c.schedule.start)
	if ctx.Err() != nil {
		return took, context.Cause(ctx)
	}
	if missed := c.schedule.orders - c.tally.sent; p.rate > 0 && missed > 0 {
		c.tally.mu.Lock()
		c.tally.note("missed: could not be sent in time", missed)
		c.tally.mu.Unlock()
	}
	return took, err
}

// crowd is the sockets that are only held open.
type crowd struct {
	ears      []*ear
	listeners sync.WaitGroup
	hangUp    context.CancelFunc
}

func gather(ctx context.Context, size int, newEar func(i int) *ear) (*crowd, error) {
	c := &crowd{}
	ctx, c.hangUp = context.WithCancel(ctx)
	opening, octx := errgroup.WithContext(ctx)
	opening.SetLimit(dialing)
	for i := range size {
		e := newEar(i)
		c.ears = append(c.ears, e)
		opening.Go(func() error {
			if octx.Err() != nil {
				return nil
			}
			if err := e.open(ctx); err != nil {
				return err
			}
			c.listeners.Go(func() { e.listen(ctx) })
			return nil
		})
	}
	if err := opening.Wait(); err != nil {
		c.leave()
		return nil, err
	}
	return c, nil
}

// live is how many of the sockets are open now.
func (c *crowd) live() (n int) {
	for _, e := range c.ears {
		if e.up.Load() {
			n++
		}
	}
	return n
}

// leave closes the sockets and waits for their goroutines.
func (c *crowd) leave() {
	c.hangUp()
	c.listeners.Wait()
}
