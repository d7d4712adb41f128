package sale

import "slices"

// Decided implements Past.
func (b *Book) Decided(id OrderID, product ProductID) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	s := b.find(product)
	if s == nil {
		return false
	}
	i, ok := b.findIn(s, id)
	return ok && b.orders.at(i).outcome != Pending
}

// Steered implements Past.
func (b *Book) Steered(id OrderID, product ProductID) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	s := b.find(product)
	if s == nil {
		return false
	}
	_, ok := s.steered[id]
	return ok
}

// Settled looks up what the message came to: the statuses of those orders that the
// product's newest link decided, in order, and the number of the first line that the
// history does not know, 0 if it knows all. Of a line that was a duplicate nothing is
// told.
func (b *Book) Settled(m *Message, lines []Line) (told []Status, unknown int) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	s := b.find(m.Product)
	if s == nil {
		return nil, 1
	}
	place := s.placed
	for i := range lines {
		switch {
		case lines[i].Err != nil:
			continue
		case m.Desk:
			if _, known := s.steered[lines[i].Desk.ID]; !known {
				return nil, lines[i].N
			}
			continue
		}
		at, known := b.findIn(s, lines[i].Order.ID)
		if !known || b.orders.at(at).outcome == Pending {
			return nil, lines[i].N
		}
		if r := b.orders.at(at); r.place > place && s.head.Queue == m.Position() {
			place = r.place
			told = append(told, b.status(at))
		}
	}
	return told, 0
}

// Product is the product as this instance knows it, false if nobody sells it.
func (b *Book) Product(id ProductID) (Product, bool) {
	if s := b.find(id); s != nil {
		if p := s.current.Load(); p != nil {
			return *p, true
		}
	}
	return Product{}, false
}

// Only is the product if there is exactly one.
func (b *Book) Only() (Product, bool) {
	if list := *b.listed.Load(); len(list) == 1 {
		return *list[0].Load(), true
	}
	return Product{}, false
}

// Products are all products, by id.
func (b *Book) Products() []Product {
	list := *b.listed.Load()
	products := make([]Product, len(list))
	for i := range list {
		products[i] = *list[i].Load()
	}
	return products
}

// Got implements Past.
func (b *Book) Got(e Email, product ProductID) int64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	who, ok := b.findBuyer(e)
	s := b.find(product)
	if !ok || s == nil {
		return 0
	}
	if w := b.buyers.at(who); w.first == s.index+1 {
		return w.units
	}
	return b.got[gotKey{who, s.index}]
}

// HasWaiting tells whether the buyer has that many undecided orders or more, of all
// products together. While fewer wait of all buyers together, it needs no lock, and while
// a group is being applied it says no: callers do not wait for that.
func (b *Book) HasWaiting(e Email, many uint64) bool {
	var all uint64
	for _, p := range *b.listed.Load() {
		all += p.Load().Waiting
	}
	if all < many {
		return false
	}
	if !b.mu.TryRLock() {
		return false
	}
	defer b.mu.RUnlock()
	who, ok := b.findBuyer(e)
	return ok && uint64(b.buyers.at(who).waiting) >= many
}

// Status is what is known of that buyer's order: false if the book does not hold
// it, which may only mean that it has not heard of it yet. Nothing keeps an id that
// is published by hand from being used by several buyers, or for several products.
// Others' orders under it are passed over (P7); of the buyer's own it is the one
// that was decided first, or else undecided, and the first by product in a tie, so
// that an outcome once told stands, on every instance.
func (b *Book) Status(id OrderID, e Email) (Status, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var best uint32
	known := false
	b.byID.find(b.hashID(id), func(n uint32) bool {
		r := b.orders.at(n)
		if r.id == id && !r.void && string(b.name(r.buyer)) == string(e) && (!known || b.before(r, b.orders.at(best))) {
			best, known = n, true
		}
		return false // there may be more of them
	})
	if !known {
		return Status{}, false
	}
	return b.status(best), true
}

// before is the order of a buyer's orders under one id, see Status.
func (b *Book) before(x, y *record) bool {
	if pending := x.outcome == Pending; pending != (y.outcome == Pending) {
		return !pending
	}
	if x.decidedAt != y.decidedAt {
		return x.decidedAt < y.decidedAt
	}
	return b.indexed[x.product].id < b.indexed[y.product].id
}

// Taken is the product's order with that id, of any buyer: no other order of the
// product can be placed under it. It is for placing orders, not for showing them.
func (b *Book) Taken(id OrderID, product ProductID) (Status, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	s := b.find(product)
	if s == nil {
		return Status{}, false
	}
	i, ok := b.findIn(s, id)
	if !ok {
		return Status{}, false
	}
	return b.status(i), true
}

// Turn is the Turn of an undecided order. It is 0 if the book is locked just then: the
// callers can do without, and do not wait.
func (b *Book) Turn(id OrderID, product ProductID) uint64 {
	if !b.mu.TryRLock() {
		return 0
	}
	defer b.mu.RUnlock()
	s := b.find(product)
	if s == nil {
		return 0
	}
	i, ok := b.findIn(s, id)
	if !ok || b.orders.at(i).outcome != Pending {
		return 0
	}
	return s.turn(b.orders.at(i))
}

// Changes is a number that is another one whenever something about the buyer's
// orders is new.
func (b *Book) Changes(e Email) uint32 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	who, ok := b.findBuyer(e)
	if !ok {
		return 0
	}
	return b.buyers.at(who).changes
}

// Newest are the buyer's orders, newest first, at most max.
func (b *Book) Newest(e Email, max int) []Status {
	return b.walk(e, func(taken int, _ uint32) bool { return taken < max })
}

// recentReach bounds how far back Recent and Waits look for undecided orders: the
// book is locked for as long as that takes.
const recentReach = 4096

// Recent are the buyer's undecided orders, those among the newest 4096, and the
// newest max of all, oldest first: what a socket is told when it attaches (P6).
func (b *Book) Recent(e Email, max int) []Status {
	statuses := b.walk(e, func(taken int, waiting uint32) bool {
		return taken < max || waiting > 0 && taken < recentReach
	})
	keep := statuses[:0]
	for i, s := range statuses {
		if i < max || s.Outcome == Pending {
			keep = append(keep, s)
		}
	}
	slices.Reverse(keep)
	return keep
}

// walk goes from the buyer's newest order to older ones while more says so of
// the number taken and of those undecided that were not met yet.
func (b *Book) walk(e Email, more func(taken int, waiting uint32) bool) []Status {
	b.mu.RLock()
	defer b.mu.RUnlock()
	who, ok := b.findBuyer(e)
	if !ok {
		return nil
	}
	var statuses []Status
	w := b.buyers.at(who)
	waiting := w.waiting
	for next := w.newest; next != 0 && more(len(statuses), waiting); {
		r := b.orders.at(next - 1)
		if !r.void {
			if r.outcome == Pending {
				waiting--
			}
			statuses = append(statuses, b.status(next-1))
		}
		next = r.older
	}
	return statuses
}

// Wait is a buyer's place in the line of one product.
type Wait struct {
	Product ProductID
	Ahead   uint64 // undecided orders before the buyer's first undecided one
	Decided uint64 // orders decided so far
}

// Waits are the lines that the buyer stands in with their newest 4096 orders, one
// per product, none if nothing of these is undecided: an order before them is told
// of in no line, and counts as ahead of the others. Units available are the stock's
// to tell, not the book's.
func (b *Book) Waits(e Email) []Wait {
	b.mu.RLock()
	defer b.mu.RUnlock()
	who, ok := b.findBuyer(e)
	if !ok {
		return nil
	}
	w := b.buyers.at(who)
	var waits []Wait
	next, waiting := w.newest, w.waiting
	for reach := recentReach; next != 0 && waiting > 0 && reach > 0; reach-- {
		r := b.orders.at(next - 1)
		next = r.older
		if r.void || r.outcome != Pending {
			continue
		}
		waiting--
		s := b.indexed[r.product]
		if r.place <= s.served {
			continue // its queue is gone
		}
		ahead := r.place - s.served - 1
		at := slices.IndexFunc(waits, func(x Wait) bool { return x.Product == s.id })
		if at < 0 {
			waits = append(waits, Wait{Product: s.id, Ahead: ahead, Decided: s.head.Decided})
		} else {
			waits[at].Ahead = min(waits[at].Ahead, ahead)
		}
	}
	return waits
}
