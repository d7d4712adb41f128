package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// crowd is the buyers of a cluster. They come at a steady rate, whatever the shop
// does; each orders once, at an instance of its choice, and insists under its key
// until one of them has answered.
type crowd struct {
	t    *testing.T
	c    *cluster
	seed uint64

	end   chan struct{} // no new buyers
	leave chan struct{} // the test is over, whatever became of the orders
	done  sync.WaitGroup
	came  atomic.Uint64
	turns chan struct{} // a buyer comes

	// strict is set while nothing but planned work goes on: then a buyer may meet
	// a 503 with Retry-After or a closed port, and nothing else.
	strict atomic.Bool

	mu      sync.Mutex
	taken   map[string]status // as answered with 202
	soldOut int
	missed  int            // turns that nobody was free to take
	met     map[string]int // what was answered besides, how often
	slowest time.Duration  // to an answer
}

const (
	inCrowd  = 1024 // requests that may wait for an answer at a time
	perBuyer = 50   // orders under one address
	watchers = 8    // buyers with a socket, who take every watched-th order
	watched  = 25
)

// gather starts a crowd of so many a second.
func gather(t *testing.T, c *cluster, rate int, seed uint64) *crowd {
	w := &crowd{t: t, c: c, seed: seed, end: make(chan struct{}), leave: make(chan struct{}), turns: make(chan struct{}),
		taken: map[string]status{}, met: map[string]int{}}
	for n := range inCrowd {
		w.done.Go(func() { w.buyers(rand.New(rand.NewPCG(seed, uint64(n)))) })
	}
	w.done.Go(func() { w.door(rate) })
	t.Cleanup(func() {
		close(w.leave)
		w.disperse()
	})
	return w
}

// disperse lets nobody else come, and waits until all are answered.
func (w *crowd) disperse() {
	select {
	case <-w.end:
	default:
		close(w.end)
	}
	w.done.Wait()
}

func (w *crowd) door(rate int) {
	defer close(w.turns)
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for {
		select {
		case <-w.end:
			return
		case <-w.leave:
			return
		case <-tick.C:
		}
		select {
		case w.turns <- struct{}{}:
		default:
			w.mu.Lock()
			w.missed++
			w.mu.Unlock()
		}
	}
}

func watcher(n uint64) string { return fmt.Sprintf("watcher%d@example.com", n) }

func (w *crowd) buyers(random *rand.Rand) {
	for range w.turns {
		n := w.came.Add(1)
		email := fmt.Sprintf("buyer%d@example.com", n/perBuyer)
		if n%watched == 0 {
			email = watcher(n / watched % watchers)
		}
		quantity := 1
		if n%4 == 0 {
			quantity = 1 + random.IntN(3)
		}
		w.insist(random, email, quantity, fmt.Sprintf("order-%d", n))
	}
}

// insist repeats an order until it is taken or the shop is sold out.
func (w *crowd) insist(random *rand.Rand, email string, quantity int, key string) {
	for at := random.IntN(3); ; at = (at + 1 + random.IntN(2)) % 3 {
		began := time.Now()
		a, err := w.c.shops[at].Load().tryBuy(email, quantity, "Idempotency-Key", key)
		if w.heard(a, err, time.Since(began)) {
			return
		}
		select {
		case <-w.leave:
			return
		case <-time.After(time.Duration(20+random.IntN(200)) * time.Millisecond):
		}
	}
}

// heard judges an answer, and tells whether it is the last word.
func (w *crowd) heard(a answer, err error, took time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.slowest = max(w.slowest, took)
	}
	switch {
	case err != nil:
		var op *net.OpError
		refused := errors.As(err, &op) && op.Op == "dial"
		if w.strict.Load() && !refused {
			w.t.Errorf("a request failed: %v", err)
		}
		if refused {
			w.met["connection refused"]++
		} else {
			w.met["connection lost or timed out"]++
		}
		return false
	case a.code == http.StatusAccepted:
		o := a.order(w.t)
		w.taken[o.ID] = o
		return true
	case a.code == http.StatusConflict:
		w.soldOut++
		return true
	case a.code == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "":
		w.met["503 "+detail(a.body)]++
		return false
	default:
		w.t.Errorf("answered %d %v: %s", a.code, a.header, a.body)
		return true
	}
}

// detail is what a problem says, for showing.
func detail(problem []byte) string {
	var p struct{ Detail string }
	if err := json.Unmarshal(problem, &p); err != nil {
		return string(problem)
	}
	return p.Detail
}

// report says what the crowd has met since the report before, and how long the
// slowest answer took.
func (w *crowd) report() (text string, slowest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text = fmt.Sprintf("%d orders taken so far, slowest answer %v", len(w.taken), w.slowest.Round(time.Millisecond))
	for _, what := range slices.Sorted(maps.Keys(w.met)) {
		text += fmt.Sprintf("; %d× %s", w.met[what], what)
	}
	if w.missed > 0 {
		text += fmt.Sprintf("; %d stayed away", w.missed)
	}
	slowest = w.slowest
	w.met, w.missed, w.slowest = map[string]int{}, 0, 0
	return text, slowest
}

// orders are all that were answered with 202.
func (w *crowd) orders() map[string]status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.taken)
}
