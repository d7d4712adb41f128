package audit

import (
	"cmp"
	"fmt"
	"slices"
)

// Sequences is a set of queue sequences, kept as ranges. The zero value is empty. It is
// cheapest when sequences are added in rising order. Every method may rearrange it.
type Sequences struct {
	ranges []span
	loose  bool // the ranges are not sorted and merged
}

type span struct{ first, last uint64 }

func (r span) String() string {
	if r.first == r.last {
		return fmt.Sprintf("message %d", r.first)
	}
	return fmt.Sprintf("messages %d to %d", r.first, r.last)
}

// Add puts a sequence into the set.
func (s *Sequences) Add(seq uint64) { s.add(span{seq, seq}) }

func (s *Sequences) add(r span) {
	if n := len(s.ranges); n > 0 {
		switch end := &s.ranges[n-1]; {
		case r.first < end.first:
			s.loose = true
		case r.first <= end.last || r.first-1 == end.last:
			end.last = max(end.last, r.last)
			return
		}
	}
	s.ranges = append(s.ranges, r)
}

// addAll puts every sequence of other, which may be nil, into the set.
func (s *Sequences) addAll(other *Sequences) {
	if other == nil {
		return
	}
	for _, r := range other.ranges {
		s.add(r)
	}
}

// Has tells whether the sequence is in the set, which may be nil.
func (s *Sequences) Has(seq uint64) bool {
	_, ok := slices.BinarySearchFunc(s.sorted(), seq, func(r span, seq uint64) int {
		switch {
		case r.last < seq:
			return -1
		case r.first > seq:
			return 1
		}
		return 0
	})
	return ok
}

// sorted are the ranges in order, with a gap between any two.
func (s *Sequences) sorted() []span {
	if s == nil {
		return nil
	}
	if s.loose {
		ranges := s.ranges
		slices.SortFunc(ranges, func(a, b span) int { return cmp.Compare(a.first, b.first) })
		s.ranges, s.loose = nil, false
		for _, r := range ranges {
			s.add(r)
		}
	}
	return s.ranges
}

// missing are the ranges from first to last that the set leaves out.
func (s *Sequences) missing(first, last uint64) (gaps []span) {
	next := first
	for _, r := range s.sorted() {
		if next > last || r.first > last {
			break
		}
		if r.first > next {
			gaps = append(gaps, span{next, r.first - 1})
		}
		if r.last >= last {
			return gaps
		}
		next = max(next, r.last+1)
	}
	if next <= last {
		gaps = append(gaps, span{next, last})
	}
	return gaps
}

// without are the set's sequences below bound that are not in other. Either may be nil.
func (s *Sequences) without(bound uint64, other *Sequences) (found Sequences) {
	for _, r := range s.sorted() {
		if r.first >= bound {
			break
		}
		for _, gap := range other.missing(r.first, min(r.last, bound-1)) {
			found.add(gap)
		}
	}
	return found
}
