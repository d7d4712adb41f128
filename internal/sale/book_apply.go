package sale

import (
	"errors"
	"fmt"
	"time"
)

// Apply folds a stored value of the product's key. Both the feed and the worker bring
// values, so one that was applied before changes nothing; none may be left out. A value
// that is no link is counted and passed over. The error wraps ErrNewer if the value is
// a link that this program cannot read: the product is then stopped for good.
func (b *Book) Apply(id ProductID, seq Seq, value []byte) error {
	return b.fold(id, seq, func(h *Head) (*Link, error) { return h.Continue(value) })
}

// applyOwn does what Apply does with the bytes that link was just encoded to.
func (b *Book) applyOwn(seq Seq, link *Link, hash string) error {
	return b.fold(link.Product, seq, func(h *Head) (*Link, error) {
		if err := h.precedes(link); err != nil {
			return nil, err
		}
		h.follow(link, hash)
		return link, nil
	})
}

func (b *Book) fold(id ProductID, seq Seq, next func(*Head) (*Link, error)) error {
	head, applied, err := b.foldLocked(id, seq, next)
	switch {
	case errors.Is(err, ErrNoLink):
		if b.onForeign != nil {
			b.onForeign(id, seq, err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("revision %d of %s: %w", seq, id, err)
	}
	if applied {
		for _, f := range b.onApply {
			f(id, head)
		}
	}
	return nil
}

func (b *Book) foldLocked(id ProductID, seq Seq, next func(*Head) (*Link, error)) (head Head, applied bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.find(id)
	if s == nil { // anybody who may write to the bucket can make up a name: only a link makes a product
		fresh := Head{Stock: Stock{Product: id}}
		if _, err := next(&fresh); errors.Is(err, ErrNoLink) {
			return fresh, false, err
		}
		s = b.shelf(id)
	}
	if s.stopped != nil || seq <= s.seen {
		return s.head, false, s.stopped
	}
	placed := s.head.Decided
	link, err := next(&s.head)
	switch {
	case errors.Is(err, ErrNoLink):
		s.seen = seq
		s.foreign++
		return s.head, false, err
	case err != nil:
		s.stopped = err
		return s.head, false, err
	}
	s.seen, s.at, s.placed = seq, seq, placed
	decidedAt := link.At.UnixMicro()
	for i := range link.Orders {
		if link.Orders[i].Outcome.Final() {
			b.decide(s, &link.Orders[i], decidedAt)
		}
	}
	for i := range link.Desk {
		if s.steered == nil {
			s.steered = map[OrderID]struct{}{}
		}
		s.steered[link.Desk[i].ID] = struct{}{}
	}
	s.pace.decide(link)
	b.serve(s, link.Queue)
	s.since = time.Now()
	if !s.lasting {
		s.stuck = ""
	}
	b.show(s)
	return s.head, true, nil
}

func (b *Book) decide(s *shelf, o *DecidedOrder, at int64) {
	i, known := b.findIn(s, o.ID)
	var who uint32
	if known {
		r := b.orders.at(i)
		if r.outcome != Pending {
			return // the first outcome stands (P4)
		}
		who = r.buyer
		b.buyers.at(who).waiting--
		if string(b.name(who)) != string(o.Email) {
			// Two queued lines under one id, and the history took the other one.
			r.void = true
			known = false
		}
	}
	if !known {
		who = b.buyer(o.Email)
		i = b.push(s, who, &o.Order)
	}
	r := b.orders.at(i)
	r.quantity = uint16(o.Quantity)
	r.placedAt = o.PlacedAt.UnixMicro()
	r.decidedAt, r.place, r.outcome = at, o.Place, o.Outcome
	b.buyers.at(who).changes++
	if o.Outcome == Accepted {
		b.give(who, s.index, int64(o.Quantity))
	}
}

// give counts units that a buyer got. Most buyers get them of one product, and a
// map with an element for each of millions would be slow and large.
func (b *Book) give(who uint32, product uint16, units int64) {
	w := b.buyers.at(who)
	if w.first == 0 {
		w.first = product + 1
	}
	if w.first == product+1 {
		w.units += units
	} else {
		b.got[gotKey{who, product}] += units
	}
}
