package web

import (
	"fmt"
	"testing"
	"time"
)

func TestLimits(t *testing.T) {
	w := newTown(t, "tshirt")
	clock := newHandClock()
	_, addr := open(t, w, func(c *Config) {
		c.PerAddress, c.Now, c.TrustedProxies = 2, clock.now, []string{"127.0.0.0/8"}
	})
	from := func(forwarded string) reply {
		return buy(t, addr, orderBody("a@b.de"), "X-Forwarded-For", forwarded)
	}
	for range 2 {
		bought(t, from("9.9.9.9, 1.2.3.4"))
	}
	r := from("8.8.8.8, 1.2.3.4, 127.0.0.9") // what stands left of the client may be forged
	wantProblem(t, r, 429)
	if r.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %s", r.Header.Get("Retry-After"))
	}
	bought(t, from("1.2.3.5"))
	bought(t, from("2001:db8::1"))
	bought(t, from("2001:db8::2"))
	wantProblem(t, from("2001:db8::3"), 429) // one network of 64 bits
	clock.pass(500 * time.Millisecond)
	bought(t, from("1.2.3.4"))
	wantProblem(t, from("1.2.3.4"), 429)
}

// Concurrent requests are not counted in the order in which they read the clock.
func TestLimiterOutlivesOvertaking(t *testing.T) {
	for _, perSecond := range []float64{1, 100} {
		l, now := newLimiter(perSecond), time.Now()
		const step, seconds = 10 * time.Microsecond, 3
		taken := 0
		for i := range int(seconds * time.Second / step) {
			at := now.Add(time.Duration(i) * step)
			if i%2 == 1 {
				at = at.Add(-5 * step)
			}
			if _, ok := l.take("a@b.de", at); ok {
				taken++
			}
		}
		if most := int(perSecond * (1 + seconds)); taken > most || taken < most-1 {
			t.Errorf("%v a second: %d in %d s, want %d", perSecond, taken, seconds, most)
		}
	}
}

func TestForwardedIsNotBelievedFromStrangers(t *testing.T) {
	w := newTown(t, "tshirt")
	now := time.Now()
	_, addr := open(t, w, func(c *Config) { c.PerAddress, c.Now = 1, func() time.Time { return now } })
	bought(t, buy(t, addr, orderBody("a@b.de"), "X-Forwarded-For", "1.1.1.1"))
	wantProblem(t, buy(t, addr, orderBody("a@b.de"), "X-Forwarded-For", "2.2.2.2"), 429)
}

func TestLimiterIsBounded(t *testing.T) {
	l, now := newLimiter(0.001), time.Now()
	for i := range 3 * limiterShards * limiterShare {
		if _, ok := l.take(fmt.Sprint(i), now); !ok {
			t.Fatal("a key that was never seen is refused")
		}
	}
	kept := 0
	for i := range l.shards {
		kept += len(l.shards[i].fullAt)
	}
	if kept > limiterShards*limiterShare {
		t.Errorf("%d keys", kept)
	}
	if wait, ok := newLimiter(0.001).take("x", now); !ok || wait != 0 {
		t.Error("even a slow bucket holds one order")
	}
}

func TestWholeSeconds(t *testing.T) {
	for wait, want := range map[time.Duration]int{1: 1, time.Second: 1, time.Second + 1: 2, time.Minute: 60, 1<<63 - 1: 9_223_372_037} {
		if got := seconds(wait); got != want {
			t.Errorf("%s are %d seconds, want %d", wait, got, want)
		}
	}
}
