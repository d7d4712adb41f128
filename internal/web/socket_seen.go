package web

import "firstcome/internal/sale"

// Bounds of what a socket remembers of what it has shown.
const (
	maxShownPending = 4096
	maxShownFinal   = 512
)

// shown is what a buyer has seen on one socket, so that no order goes back and
// nothing is said twice (P6). It remembers every order shown as pending until its
// outcome is shown; while there are maxShownPending of them, no other is shown as
// pending. It remembers the maxShownFinal outcomes shown last. Beyond that the book
// is asked: a pending that it knows to be decided is not shown. An outcome beyond
// both bounds may be shown twice, which says nothing wrong.
type shown struct {
	pending map[sale.OrderID]struct{}
	final   map[sale.OrderID]int // the highest rev
	order   []sale.OrderID       // of final, a ring
	oldest  int
}

// news tells whether rev of the order is to be shown, and remembers that it is.
func (s *shown) news(id sale.OrderID, rev int, decided func(sale.OrderID) bool) bool {
	seen, ended := s.final[id]
	if ended && rev <= seen {
		return false
	}
	_, waits := s.pending[id]
	if rev == 0 {
		if waits || len(s.pending) >= maxShownPending || len(s.order) == maxShownFinal && decided(id) {
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
	case ended: // it has its place in the ring
	case len(s.order) < maxShownFinal:
		s.order = append(s.order, id)
	default:
		delete(s.final, s.order[s.oldest])
		s.order[s.oldest] = id
		s.oldest = (s.oldest + 1) % maxShownFinal
	}
	s.final[id] = rev
	return true
}
