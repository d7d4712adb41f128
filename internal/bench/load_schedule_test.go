package bench

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Order n is due at n/rate whatever came before, and all are due within the
// duration.
func TestArrivalsAreFixed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := plan{
			orders:   rapid.Int64Range(1, 1e6).Draw(t, "orders"),
			duration: time.Duration(rapid.Int64Range(0, 1e10).Draw(t, "duration")),
			rate:     rapid.Float64Range(0.1, 1e6).Draw(t, "rate"),
		}
		n := p.planned()
		if n > p.orders || p.duration > 0 && p.due(n-1) >= p.duration+time.Microsecond {
			t.Fatalf("%d of %d orders, the last due at %s of %s", n, p.orders, p.due(n-1), p.duration)
		}
		if n < p.orders && p.due(n) < p.duration {
			t.Fatalf("order %d is due at %s and is not sent", n, p.due(n))
		}
		if h := p.half(); h.rate != p.rate || h.orders*2 < p.orders || h.duration > p.duration/2 {
			t.Fatalf("half of %+v is %+v", p, h)
		}
	})
}

// A late generator does not move an order's due time: what the server did to
// the order before counts against it.
func TestLatenessCounts(t *testing.T) {
	var s schedule
	s.begin(plan{orders: 3, rate: 1000}, time.Hour)
	s.start = s.start.Add(-time.Second) // a second behind
	ended := make(chan error, 1)
	go func() { ended <- s.arrive(bounded(t)) }()
	for n := range int64(3) {
		got, due, ok := s.take(bounded(t))
		if !ok || got != n || !due.Equal(s.start.Add(time.Duration(n)*time.Millisecond)) {
			t.Fatalf("order %d: %d, due %s after the start, %v", n, got, due.Sub(s.start), ok)
		}
	}
	if _, _, ok := s.take(bounded(t)); ok {
		t.Fatal("a fourth order of three")
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// Orders are never handed out before they are due, and those that nobody takes
// are given up.
func TestOpenLoopKeepsTimeAndEnds(t *testing.T) {
	var s schedule
	s.begin(plan{orders: 100, rate: 1000}, 20*time.Millisecond)
	ctx := bounded(t)
	ended := make(chan error, 1)
	go func() { ended <- s.arrive(ctx) }()
	for range 10 {
		n, due, ok := s.take(bounded(t))
		if early := time.Until(due); !ok || early > 0 {
			t.Fatalf("order %d is handed out %s early (%v)", n, early, ok)
		}
	}
	if err := <-ended; err != nil || ctx.Err() != nil {
		t.Fatal(err, ctx.Err())
	}
	if _, _, ok := s.take(bounded(t)); ok {
		t.Fatal("an order that was given up is handed out")
	}
}

func TestCancelEndsTheOpenLoop(t *testing.T) {
	var s schedule
	s.begin(plan{orders: 2, rate: 0.001}, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.arrive(ctx) }()
	if _, _, ok := s.take(ctx); !ok {
		t.Fatal("the first order is due at once")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
