package broker

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// rounds shares one piece of work among those who ask for it at about the same
// time. Whoever asks gets a run that began after asking, never one under way.
type rounds struct {
	run func() error // ends by itself

	mu      sync.Mutex
	next    *round // gathers callers while another is under way
	running bool
}

type round struct {
	done chan struct{}
	err  error
}

// join waits for the next round's end, or ctx's.
func (r *rounds) join(ctx context.Context) error {
	r.mu.Lock()
	if r.next == nil {
		r.next = &round{done: make(chan struct{})}
	}
	mine := r.next
	if !r.running {
		r.running = true
		go r.loop() // ends when nobody waits; every round bounds itself
	}
	r.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return fmt.Errorf("catching up: %w", context.Cause(ctx))
	}
}

func (r *rounds) loop() {
	for {
		r.mu.Lock()
		current := r.next
		r.next = nil
		if current == nil {
			r.running = false
			r.mu.Unlock()
			return
		}
		r.mu.Unlock()
		current.err = r.run()
		close(current.done)
	}
}

// retry repeats step until it succeeds or ctx ends, 50 ms apart at first and a
// second at most.
func retry(ctx context.Context, step func() error) error {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := step()
		if err == nil || ctx.Err() != nil {
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}
