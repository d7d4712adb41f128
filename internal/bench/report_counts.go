package bench

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency sums up one histogram, in milliseconds.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p99_9_ms"`
	Max   float64 `json:"max_ms"`
}

// latencies records durations from 100 ns to 10 min with three digits; what is
// longer counts as 10 min.
type latencies struct{ h *hdrhistogram.Histogram }

const longest = 10 * time.Minute

func newLatencies() latencies {
	return latencies{hdrhistogram.New(100, int64(longest), 3)}
}

func (l latencies) record(d time.Duration) {
	// Inside the trackable range by construction, so never an error.
	_ = l.h.RecordValue(int64(min(max(d, 0), longest)))
}

func (l latencies) add(other latencies) { l.h.Merge(other.h) }

func (l latencies) summary() Latency {
	at := func(percentile float64) float64 {
		return float64(l.h.ValueAtPercentile(percentile)) / float64(time.Millisecond)
	}
	return Latency{Count: l.h.TotalCount(), P50: at(50), P90: at(90), P99: at(99), P999: at(99.9), Max: at(100)}
}

// maxKinds bounds the error table; further kinds are counted together.
const maxKinds = 32

// counts counts what happened in one phase of a run. All buyers share it: a lock
// per order is cheaper than a pair of histograms (300 KiB) per buyer.
type counts struct {
	ended atomic.Int64 // orders that are over, for the progress bar

	mu        sync.Mutex
	answers   latencies // request → 202 or 409
	lag       latencies // open loop: due → sent
	told      latencies // request → outcome on the socket
	sent      int64
	queued    int64           // 202
	refused   int64           // 409
	limited   int64           // of these, for the buyer's limit
	uncertain int64           // no answer, or one that leaves open whether the order was stored
	outcomes  [outcomes]int64 // as heard on sockets
	errors    map[string]int64
}

func newCounts() *counts {
	return &counts{answers: newLatencies(), lag: newLatencies(), told: newLatencies(), errors: map[string]int64{}}
}

// late counts how long after it was due an order was sent.
func (t *counts) late(by time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lag.record(by)
}

// answered counts a valid answer.
func (t *counts) answered(refused bool, after time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent++
	if refused {
		t.refused++
	} else {
		t.queued++
	}
	t.answers.record(after)
}

// overLimit counts that a refusal was for the buyer's limit.
func (t *counts) overLimit() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limited++
}

// decided counts an outcome that reached its buyer's socket.
func (t *counts) decided(o outcome, after time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.outcomes[o]++
	t.told.record(after)
}

// failed counts an order that got neither of the valid answers.
func (t *counts) failed(kind string, uncertain bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent++
	if uncertain {
		t.uncertain++
	}
	t.note(kind, 1)
}

// trouble counts an error that is no order's answer.
func (t *counts) trouble(kind string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.note(kind, 1)
}

func (t *counts) note(kind string, n int64) {
	if _, known := t.errors[kind]; !known && len(t.errors) >= maxKinds {
		kind = "other"
	}
	t.errors[kind] += n
}

// decidedCount is how many outcomes were heard; the phase must be over.
func (t *counts) heard() int64 {
	var n int64
	for _, c := range t.outcomes {
		n += c
	}
	return n
}
