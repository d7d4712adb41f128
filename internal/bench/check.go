package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// check asks for every order of the load by GET, over the load's own
// connections, and judges. The sockets must be closed: what they told is read.
func check(ctx context.Context, s *shop, c *load, f facts, patience time.Duration) *Checked {
	var (
		asking     sync.WaitGroup
		mu         sync.Mutex
		unverified []string
		// One deadline for all: the backlog is drained, so that waiting for one
		// late order is waiting for every other.
		until = time.Now().Add(patience)
	)
	for _, b := range c.buyers {
		asking.Go(func() {
			var mine []fact
			for _, r := range b.receipts {
				o, err := b.final(ctx, r, until)
				switch {
				case errors.Is(err, errNotFound):
					c.verdict.broken(P3, "order %s was answered 202 and is unknown", r.id)
				case errors.Is(err, errUndecided):
					c.verdict.broken(P3, "order %s was answered 202 and has no outcome after %s", r.id, patience)
				case err != nil:
					mu.Lock()
					if len(unverified) < maxExamples {
						unverified = append(unverified, fmt.Sprintf("order %s: %s", r.id, err))
					}
					mu.Unlock()
				}
				mine = append(mine, fact{receipt: r, final: o.outcome, finalAt: o.place})
				c.counts.ended.Add(1)
			}
			b.link.close()
			mu.Lock()
			f.orders = append(f.orders, mine...)
			mu.Unlock()
		})
	}
	asking.Wait()

	result := &Checked{Orders: int64(len(f.orders)), Exclusive: f.exclusive, Uncertain: f.uncertain, Unverified: unverified}
	after, err := settled(ctx, s, f, until)
	if err != nil {
		result.Unverified = append(result.Unverified, err.Error())
	} else {
		f.after = after
		c.verdict.judge(f)
	}
	var n [outcomes]int64
	for _, o := range f.orders {
		n[o.final]++
	}
	result.Outcomes = outcomeCounts(n)
	result.Breaches = c.verdict.list()
	result.OK = len(result.Breaches) == 0 && len(result.Unverified) == 0
	return result
}

// settled reads the product when it has reached the orders' outcomes: what
// GET /products tells may be a moment behind. What has not come by the deadline
// is taken as it is.
func settled(ctx context.Context, s *shop, f facts, until time.Time) (product, error) {
	var bought int64
	for _, o := range f.orders {
		if o.final == accepted {
			bought++
		}
	}
	for {
		p, err := s.product(ctx, f.before.ID)
		if err == nil && p.Waiting == 0 && p.Sold-f.before.Sold >= bought {
			return p, nil
		}
		if ctx.Err() != nil || time.Now().After(until) {
			return p, err
		}
		pause(ctx, 5*time.Millisecond)
	}
}

var errUndecided = errors.New("undecided")

// final asks until the order has its outcome, or until the deadline; three
// failed requests in a row are an error.
func (b *buyer) final(ctx context.Context, r receipt, until time.Time) (orderStatus, error) {
	for failures := 0; ; {
		o, err := b.status(ctx, r)
		late := time.Now().After(until)
		switch {
		case errors.Is(err, errNotFound):
			return o, err
		case err != nil:
			if failures++; failures == 3 || ctx.Err() != nil {
				return o, err
			}
		case o.outcome.final():
			return o, nil
		case late || ctx.Err() != nil:
			return o, errUndecided
		default:
			failures = 0
		}
		pause(ctx, afterError)
	}
}
