package main

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"
)

// pulse notes when units were sold, as the first instance to see it did.
type pulse struct {
	c    *cluster
	end  chan struct{}
	done sync.WaitGroup

	mu      sync.Mutex
	sold    int64
	last    time.Time     // that sold rose
	longest time.Duration // between two rises, since mark
	steady  time.Time     // the end of the last gap that was felt
}

// felt is a gap that is not just a slow machine.
const felt = time.Second

func takePulse(t *testing.T, c *cluster) *pulse {
	now := time.Now()
	p := &pulse{c: c, end: make(chan struct{}), last: now, steady: now}
	for i := range c.shops {
		p.done.Go(func() { p.watch(i) })
	}
	t.Cleanup(func() {
		close(p.end)
		p.done.Wait()
	})
	return p
}

// watch polls one instance; none of them is always there.
func (p *pulse) watch(instance int) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.end:
			return
		case <-tick.C:
		}
		a, err := p.c.shops[instance].Load().ask("GET", "/products/tshirt", "")
		var product struct{ Sold int64 }
		if err == nil && json.Unmarshal(a.body, &product) == nil {
			p.saw(product.Sold)
		}
	}
}

func (p *pulse) saw(sold int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if sold <= p.sold {
		return
	}
	now := time.Now()
	gap := now.Sub(p.last)
	p.longest = max(p.longest, gap)
	if gap >= felt {
		p.steady = now
	}
	p.sold, p.last = sold, now
}

// mark forgets the gaps so far.
func (p *pulse) mark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.last, p.steady, p.longest = now, now, 0
}

// pause waits until the sale has gone on for a while without a gap that is felt,
// and returns the longest one since mark.
func (p *pulse) pause() time.Duration {
	p.c.t.Helper()
	const long = 1500 * time.Millisecond
	asked := time.Now()
	eventually(p.c.t, fmt.Sprintf("units are sold without a gap for %v", long), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		now := time.Now()
		return now.Sub(p.last) < felt && now.Sub(p.steady) >= long && now.Sub(asked) >= long
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.longest
}
