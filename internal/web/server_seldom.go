package web

import (
	"sync"
	"time"
)

// seldom keeps a log short: of events that may come by the thousands it lets one a
// second through, with the number of those since the last one.
type seldom struct {
	mu    sync.Mutex
	last  time.Time
	times int
}

func (s *seldom) due(now time.Time) (times int, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times++
	if age := now.Sub(s.last); !s.last.IsZero() && age < time.Second {
		return 0, false
	}
	times, s.times, s.last = s.times, 0, now
	return times, true
}
