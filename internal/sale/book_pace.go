package sale

import "time"

// paceTime is how far back a pace looks.
const paceTime = 30 * time.Second

// paceKnown is how many decisions a pace needs.
const paceKnown = 3

// pace is how fast a product's orders were decided in the last seconds: how many, and
// how long that took. A decision takes from the one before, or from when its first order
// was placed: time in which nothing waited does not count.
type pace struct {
	seconds   [32]paceSecond // a ring, by second; the decisions of paceTime touch 31
	decidedAt time.Time      // of the newest link with orders
}

type paceSecond struct {
	unix    int64
	decided int64
	took    time.Duration
}

// decide counts the orders of one link.
func (p *pace) decide(link *Link) {
	var orders int64
	from := link.At
	for i := range link.Orders {
		if o := &link.Orders[i]; o.Outcome.Final() {
			orders++
			if o.PlacedAt.Before(from) {
				from = o.PlacedAt
			}
		}
	}
	if orders == 0 {
		return
	}
	if p.decidedAt.After(from) {
		from = p.decidedAt
	}
	p.decidedAt = link.At
	unix := link.At.Unix()
	s := &p.seconds[uint64(unix)%uint64(len(p.seconds))]
	if s.unix != unix {
		*s = paceSecond{unix: unix}
	}
	s.decided += orders
	s.took += max(0, link.At.Sub(from))
}

// perOrder is how long an order took, on average; false if too few were decided.
func (p *pace) perOrder(now time.Time) (time.Duration, bool) {
	var decided int64
	var took time.Duration
	oldest := now.Add(-paceTime).Unix()
	for i := range p.seconds {
		if s := &p.seconds[i]; s.unix > oldest {
			decided += s.decided
			took += s.took
		}
	}
	if decided < paceKnown {
		return 0, false
	}
	return took / time.Duration(decided), true
}

// PerOrder is how long the decision of one order of the product took on average in the
// last 30 s. It is false until three were decided in that time.
func (b *Book) PerOrder(id ProductID, now time.Time) (time.Duration, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if s := b.find(id); s != nil {
		return s.pace.perOrder(now)
	}
	return 0, false
}
