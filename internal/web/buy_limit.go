package web

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"firstcome/internal/sale"
)

// limiter allows a number of orders a second per key, and a second's worth (at least
// one) at once. It is a token bucket that keeps one number a key: the time at which
// the bucket is full again if nothing more is taken.
//
// It remembers at most limiterShards × limiterShare keys. When a shard is full, it
// forgets the buckets that are full again, which changes nothing. If an eighth of the
// shard is not free then, it forgets more at random, and their keys start afresh.
//
// Its times are monotonic: setting the clock changes nothing.
type limiter struct {
	start time.Time
	each  time.Duration // to refill one order
	burst time.Duration // to refill all
	seed  maphash.Seed

	shards [limiterShards]struct {
		mu     sync.Mutex
		fullAt map[uint64]time.Duration // since start, by hash of the key
	}
}

const (
	limiterShards = 16
	limiterShare  = 8192
)

// newLimiter returns nil if perSecond is zero.
func newLimiter(perSecond float64) *limiter {
	if perSecond <= 0 {
		return nil
	}
	l := &limiter{start: time.Now(), each: time.Duration(float64(time.Second) / perSecond), seed: maphash.MakeSeed()}
	l.burst = max(time.Second, l.each)
	for i := range l.shards {
		l.shards[i].fullAt = map[uint64]time.Duration{}
	}
	return l
}

// take takes one order from the key's bucket. If there is none, it changes nothing and
// returns how long until there is. Concurrent calls may come in another order than
// their times.
func (l *limiter) take(key string, at time.Time) (wait time.Duration, ok bool) {
	hash := maphash.String(l.seed, key)
	now := at.Sub(l.start)
	shard := &l.shards[hash%limiterShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	fullAt, known := shard.fullAt[hash]
	if !known {
		fullAt = now
	}
	next := max(fullAt, now) + l.each
	if over := next - now - l.burst; over > 0 {
		return over, false
	}
	if !known && len(shard.fullAt) >= limiterShare {
		forget(shard.fullAt, now)
	}
	shard.fullAt[hash] = next
	return 0, true
}

func forget(fullAt map[uint64]time.Duration, now time.Duration) {
	for key, at := range fullAt {
		if at <= now {
			delete(fullAt, key)
		}
	}
	for key := range fullAt {
		if len(fullAt) <= limiterShare*7/8 {
			return
		}
		delete(fullAt, key)
	}
}

// limit applies the configured rates. Its error is a problem.
func (s *Server) limit(c *fiber.Ctx, buyer sale.Email, now time.Time) error {
	if s.perAddress != nil {
		if wait, ok := s.perAddress.take(s.address(c), now); !ok {
			return tooFast(wait)
		}
	}
	if s.perBuyer != nil {
		if wait, ok := s.perBuyer.take(string(buyer), now); !ok {
			return tooFast(wait)
		}
	}
	return nil
}

func tooFast(wait time.Duration) error {
	return errRate.after(seconds(wait))
}

// seconds are whole ones, rounded up, for Retry-After. A wait may be as long as durations
// go: a sale may open centuries from now.
func seconds(wait time.Duration) int { return int((wait-1)/time.Second) + 1 }
