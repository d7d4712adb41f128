package web

import "firstcome/internal/sale"

// Bounds of what a socket remembers of what it has sent, in orders.
const (
	maxSeenPending = 4096
	maxSeenFinal   = 512
)

// seen is what a buyer has seen on one socket. It keeps a socket from sending an order
// twice, or an older state after a newer one (P6). It remembers every order sent as
// pending until its outcome is sent; while there are maxSeenPending of them, no other
// is sent as pending. It remembers the maxSeenFinal newest outcomes. Beyond that it
// asks the book, and a decided order is not sent as pending. An outcome beyond both
// bounds may be sent twice, which is still true.
type seen struct {
	pending map[sale.OrderID]struct{}
	final   map[sale.OrderID]int // the highest rev
	order   []sale.OrderID       // a ring of final's keys
	oldest  int
}

// news reports whether to send the order at rev, and remembers that it is sent.
func (s *seen) news(id sale.OrderID, rev int, decided func(sale.OrderID) bool) bool {
	last, ended := s.final[id]
	if ended && rev <= last {
		return false
	}
	_, waiting := s.pending[id]
	if rev == 0 {
		if waiting || len(s.pending) >= maxSeenPending || len(s.order) == maxSeenFinal && decided(id) {
			return false
		}
		if s.pending == nil {
			s.pending = map[sale.OrderID]struct{}{}
		}
		s.pending[id] = struct{}{}
		return true
	}
	delete(s.pending, id)
	if s.final == nil {
		s.final = map[sale.OrderID]int{}
	}
	switch {
	case ended: // it is in the ring
	case len(s.order) < maxSeenFinal:
		s.order = append(s.order, id)
	default:
		delete(s.final, s.order[s.oldest])
		s.order[s.oldest] = id
		s.oldest = (s.oldest + 1) % maxSeenFinal
	}
	s.final[id] = rev
	return true
}
