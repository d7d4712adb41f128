package sale

import (
	"time"
)

type waitingMessage struct {
	seq    uint64
	upTo   uint64 // the ticket of its last order
	pauses bool
}

// Vanished tells that the queue has nothing of the product any more. Its answer is how
// many messages the book expected all the same: somebody took them off the queue
// undecided. They wait no more.
func (b *Book) Vanished(id ProductID, upTo Position) (messages int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.find(id)
	if s == nil {
		return 0
	}
	before := len(s.waiting)
	b.serve(s, upTo)
	b.show(s)
	return before - len(s.waiting)
}

// Expect adds a message that waits in the queue. Messages of a product are expected in
// sequence; one that was expected or settled before changes nothing. A new epoch means
// a new queue: what waited in the old one has no place in the line any more.
func (b *Book) Expect(m *Message, lines []Line) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.shelf(m.Product)
	b.renew(s, m.Epoch)
	if m.Seq <= s.expected || s.head.Queue.covers(m) {
		return
	}
	s.expected = m.Seq
	pauses := false
	for i := range lines {
		switch {
		case lines[i].Err != nil:
		case m.Desk:
			pauses = pauses || lines[i].Desk.Pauses()
		default:
			b.expect(s, &lines[i].Order)
		}
	}
	if len(s.waiting) == 0 {
		s.since = time.Now()
	}
	s.waiting = append(s.waiting, waitingMessage{seq: m.Seq, upTo: s.issued, pauses: pauses})
	b.queued.Add(1)
	if pauses {
		s.pauses++
	}
	b.show(s)
}

// Renew tells that the queue is of that epoch now. What waited in another one waits no
// more, until it is expected again.
func (b *Book) Renew(epoch string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.indexed {
		b.renew(s, epoch)
	}
}

func (b *Book) renew(s *shelf, epoch string) {
	if s.epoch != epoch {
		b.queued.Add(-int64(len(s.waiting)))
		s.epoch, s.expected, s.waiting, s.pauses, s.served = epoch, 0, nil, 0, s.issued
		b.show(s)
	}
}

// expect gives an order its ticket. One that waited in a queue that is gone gets
// another.
func (b *Book) expect(s *shelf, o *Order) {
	i, known := b.findIn(s, o.ID)
	if known {
		r := b.orders.at(i)
		if r.outcome == Pending && r.place <= s.served {
			s.issued++
			r.place = s.issued
		}
		return
	}
	who := b.buyer(o.Email)
	r := b.orders.at(b.push(s, who, o))
	s.issued++
	r.place = s.issued
	w := b.buyers.at(who)
	w.waiting++
	w.changes++
}

// serve takes the tickets of every message up to the position.
func (b *Book) serve(s *shelf, to Position) {
	if s.epoch != to.Epoch {
		return
	}
	n := 0
	for n < len(s.waiting) && s.waiting[n].seq <= to.Seq {
		s.served = s.waiting[n].upTo
		if s.waiting[n].pauses {
			s.pauses--
		}
		n++
	}
	b.queued.Add(-int64(n))
	if s.waiting = s.waiting[n:]; len(s.waiting) == 0 {
		s.waiting = nil
	}
}

// turn is the Turn of an undecided order of the product.
func (s *shelf) turn(r *record) uint64 {
	if r.place <= s.served {
		return 0 // its queue is gone
	}
	return r.place - s.served
}
