package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// shared is one piece of work for all that ask for it at about the same time. A caller
// gets a run that began after the call, never one under way.
type shared struct {
	run func(context.Context) error // ends by itself

	mu      sync.Mutex
	next    *sharedRun // gathers callers while another is under way
	running bool
	ended   bool
	ctx     context.Context // of the runs; ends with close
	end     context.CancelFunc
	loops   sync.WaitGroup
}

type sharedRun struct {
	done chan struct{}
	err  error
}

var errClosed = errors.New("it is closed")

// join waits for the next run's end, or ctx's.
func (s *shared) join(ctx context.Context) error {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return fmt.Errorf("catching up: %w", errClosed)
	}
	if s.next == nil {
		s.next = &sharedRun{done: make(chan struct{})}
	}
	mine := s.next
	if !s.running {
		if s.running = true; s.ctx == nil {
			s.ctx, s.end = context.WithCancel(context.Background())
		}
		s.loops.Go(s.loop) // ends when nobody waits; every run bounds itself
	}
	s.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case <-ctx.Done():
		return fmt.Errorf("catching up: %w", context.Cause(ctx))
	}
}

func (s *shared) loop() {
	for {
		s.mu.Lock()
		current := s.next
		s.next = nil
		if current == nil {
			s.running = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		current.err = s.run(s.ctx)
		close(current.done)
	}
}

// close ends the run under way, refuses others and waits. Safe to call twice.
func (s *shared) close() {
	s.mu.Lock()
	s.ended = true
	if s.end != nil {
		s.end()
	}
	s.mu.Unlock()
	s.loops.Wait()
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
