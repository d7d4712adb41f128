package sale

import (
	"cmp"
	"fmt"
	"slices"
)

// Sequences is a set of queue sequences, kept as ranges. The zero value is empty.
// It is cheapest when they are added in rising order.
type Sequences struct {
	ranges []span
	loose  bool // the ranges are not sorted and merged
}

type span struct{ first, last uint64 }

// Add puts a sequence into the set.
func (s *Sequences) Add(seq uint64) { s.add(span{seq, seq}) }

func (s *Sequences) add(r span) {
	if n := len(s.ranges); n > 0 {
		switch end := &s.ranges[n-1]; {
		case r.first >= end.first && r.first <= end.last+1:
			end.last = max(end.last, r.last)
			return
		case r.first < end.first:
			s.loose = true
		}
	}
	s.ranges = append(s.ranges, r)
}

// Has tells whether the sequence is in the set.
func (s *Sequences) Has(seq uint64) bool {
	s.settle()
	_, ok := slices.BinarySearchFunc(s.ranges, seq, func(r span, seq uint64) int {
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

// Len is how many sequences are in the set.
func (s *Sequences) Len() uint64 {
	s.settle()
	var n uint64
	for _, r := range s.ranges {
		n += r.last - r.first + 1
	}
	return n
}

func (s *Sequences) settle() {
	if !s.loose {
		return
	}
	slices.SortFunc(s.ranges, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	sorted := s.ranges
	s.ranges, s.loose = nil, false
	for _, r := range sorted {
		s.add(r)
	}
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

// missing are the ranges from 1 to last that the set leaves out.
func (s *Sequences) missing(last uint64) []span {
	s.settle()
	if last == 0 {
		return nil
	}
	var gaps []span
	next := uint64(1)
	for _, r := range s.ranges {
		if r.first > next {
			gaps = append(gaps, span{next, min(r.first-1, last)})
		}
		if r.last >= last {
			return gaps
		}
		next = r.last + 1
	}
	if next <= last {
		gaps = append(gaps, span{next, last})
	}
	return gaps
}

// without are the set's sequences below bound that are in neither of two others.
func (s *Sequences) without(bound uint64, a, b *Sequences) (found Sequences) {
	s.settle()
	for _, r := range s.ranges {
		for seq := r.first; seq <= r.last && seq < bound; seq++ {
			if !a.Has(seq) && !b.Has(seq) {
				found.Add(seq)
			}
		}
	}
	return found
}

func (r span) String() string {
	if r.first == r.last {
		return fmt.Sprintf("message %d", r.first)
	}
	return fmt.Sprintf("messages %d to %d", r.first, r.last)
}

// QueueState is the queue's stream as it was read, before the stock values and
// the ledgers were, so that a sale may go on meanwhile.
type QueueState struct {
	Epoch   string // as in the stock values
	LastSeq uint64 // of the stream
	// Queued are the sequences that are still stored, by product. Read them after
	// LastSeq.
	Queued map[ProductID]*Sequences
	// Dead are the sequences in this epoch of which any line is in the dead
	// letters. Read them after Queued.
	Dead *Sequences
}

// AuditQueue checks that no acknowledged message vanished (P3), none was passed
// over (P2) and none was decided for two products (P4), given every product's
// finished audit. Messages of an earlier epoch went with their stream, so only
// their entries can tell of them.
func AuditQueue(q QueueState, audits ...*Audit) []Finding {
	var f findings
	var none, seen Sequences
	dead := cmp.Or(q.Dead, &none)
	var claims []claim
	for _, a := range audits {
		f.product = a.product
		queued := cmp.Or(q.Queued[a.product], &none)
		if a.head.Epoch != q.Epoch {
			if _, was := a.epochs[q.Epoch]; was {
				f.add("P2", "the ledger ended in %s, and the queue is an earlier one, of %s", a.head.Epoch, q.Epoch)
			}
			continue
		}
		a.settled.settle()
		seen.addAll(&a.settled)
		for _, r := range a.settled.ranges {
			claims = append(claims, claim{r, a.product})
		}
		passed := queued.without(a.head.Seq, &a.settled, dead)
		for _, r := range passed.ranges {
			f.add("P2", "%v still in the queue, and message %d behind decided", r, a.head.Seq)
		}
	}
	f.product = ""
	f.overlaps(claims)
	for _, queued := range q.Queued {
		seen.addAll(queued)
	}
	seen.addAll(dead)
	for _, gap := range seen.missing(q.LastSeq) {
		f.add("P3", "%v vanished: neither in a ledger nor in the queue nor in the dead letters", gap)
	}
	return f.all()
}

// claim is a product's saying that it decided some messages.
type claim struct {
	span
	product ProductID
}

func (f *findings) overlaps(claims []claim) {
	slices.SortFunc(claims, func(a, b claim) int { return cmp.Compare(a.first, b.first) })
	for i := 1; i < len(claims); i++ {
		if one, two := claims[i-1], claims[i]; two.first <= one.last {
			f.add("P4", "%v decided for both %s and %s", span{two.first, min(one.last, two.last)}, one.product, two.product)
		}
		// A wide claim goes on beside those that follow it.
		if claims[i-1].last > claims[i].last {
			claims[i].span.last, claims[i].product = claims[i-1].last, claims[i-1].product
		}
	}
}
