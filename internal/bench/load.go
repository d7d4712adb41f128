package bench

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// dialing bounds how many connections are being opened at one time.
const dialing = 64

// load is all the buyers of one phase. Set before the first goroutine starts,
// and only read afterwards; counts, schedule and verdict have locks of their own.
type load struct {
	instances []instance
	product   string // named in each order; empty: not named
	prefix    string
	timeout   time.Duration
	unique    bool // every order is of a buyer not seen before
	sockets   bool
	shut      bool // every order is expected to be refused; the first that is queued ends the phase

	counts   *counts
	schedule schedule
	verdict  *verdict // nil: nothing is remembered for Check
	buyers   []*buyer

	listeners sync.WaitGroup
	hangUp    context.CancelFunc
}

// assemble opens every connection and socket before the clock starts.
func (c *load) assemble(ctx context.Context, size int) error {
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
			if b.socket == nil {
				return nil
			}
			if err := b.socket.open(ctx); err != nil {
				return err
			}
			c.listeners.Go(func() { b.socket.listen(ctx) })
			return nil
		})
	}
	return opening.Wait()
}

// dismiss closes everything and waits for the listeners. The load's counts stay.
func (c *load) dismiss() {
	c.hangUp()
	for _, b := range c.buyers {
		b.link.close()
	}
	c.listeners.Wait()
}

// work puts the plan's load on and returns how long it took.
func (c *load) work(ctx context.Context, p plan) (time.Duration, error) {
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
	if missed := c.schedule.orders - c.counts.sent; p.rate > 0 && missed > 0 {
		c.counts.mu.Lock()
		c.counts.note("missed: could not be sent in time", missed)
		c.counts.mu.Unlock()
	}
	return took, err
}

// crowd is the sockets that are only held open.
type crowd struct {
	sockets   []*socket
	listeners sync.WaitGroup
	hangUp    context.CancelFunc
}

func gather(ctx context.Context, size int, newSocket func(i int) *socket) (*crowd, error) {
	c := &crowd{}
	ctx, c.hangUp = context.WithCancel(ctx)
	opening, octx := errgroup.WithContext(ctx)
	opening.SetLimit(dialing)
	for i := range size {
		e := newSocket(i)
		c.sockets = append(c.sockets, e)
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
	for _, e := range c.sockets {
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
