package sale

import (
	"context"
	"fmt"
	"hash/maphash"
	"sync"
	"time"
)

// Book is what every instance knows, in memory: each order with its buyer, state
// and place, and what each buyer has got. It is a fold over the ledger (Apply) and
// the orders that still wait (Expect), the same on every instance, and serves both
// sides: the worker asks it for duplicates and limits, the readers for statuses.
//
// It costs about 120 bytes an order besides the buyer's address, and never
// forgets one: a forgotten id could be sold twice (P4). Its bound is therefore a
// door, not a cache size: see Full.
type Book struct {
	max     int
	seed    maphash.Seed
	onApply func(ProductID, Head) // set before the first Apply

	mu       sync.RWMutex
	changed  chan struct{} // closed at the next Apply or Expect, if anyone waits
	orders   pile[record]
	byID     table
	buyers   pile[buyer]
	byEmail  table
	names    []byte           // the buyers' addresses, one after another
	got      map[gotKey]int64 // units, of products that are not the buyer's first
	products []ProductID
	lines    map[ProductID]*line
}

// record is an order. It has no pointers.
type record struct {
	id        OrderID
	placedAt  int64  // µs since 1970
	decidedAt int64  // µs since 1970, 0 while pending
	place     uint64 // while pending: the number of its ticket
	buyer     uint32
	older     uint32 // the buyer's order before this one + 1, 0: none
	quantity  uint16
	product   uint16
	outcome   Outcome
	void      bool // superseded: the ledger had the id with another buyer
}

type buyer struct {
	name    uint64 // offset in names
	units   int64  // got of the first product
	nameLen uint8
	first   uint16 // product that the buyer got units of + 1, 0: none
	newest  uint32 // order + 1, 0: none
	waiting uint32 // orders undecided
	changes uint32 // orders that came or were decided, may wrap around
}

type gotKey struct {
	buyer   uint32
	product uint16
}

// line is where a product's queue stands, as far as the book knows.
type line struct {
	index uint16 // in products
	head  Head   // of the entry applied last
	// Everyone who waits holds a ticket; tickets are served in order.
	issued, served uint64
	groups         []waitingGroup // oldest first
	epoch          string         // of the groups
	expected       uint64         // highest sequence given to Expect in that epoch
}

type waitingGroup struct {
	seq  uint64
	upTo uint64 // the ticket of its last order
}

// NewBook makes an empty book that calls itself full at max orders.
func NewBook(max int) *Book {
	return &Book{max: max, seed: maphash.MakeSeed(), got: map[gotKey]int64{}, lines: map[ProductID]*line{}}
}

// OnApply has f called after every entry that was applied, on the goroutine that
// applied it. It must be set before the first Apply, and f must not block.
func (b *Book) OnApply(f func(ProductID, Head)) { b.onApply = f }

// Full tells that the book holds as many orders as it was made for. The door then
// refuses new orders; what is in the queue is still decided and kept.
func (b *Book) Full() bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.orders.n >= b.max
}

// Len is the number of orders in the book.
func (b *Book) Len() int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.orders.n
}

// Entries is how many entries of the product's ledger the book has applied.
func (b *Book) Entries(product ProductID) uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if l := b.lines[product]; l != nil {
		return l.head.N
	}
	return 0
}

// Settled is the epoch and sequence of the message applied last for the product.
func (b *Book) Settled(product ProductID) (epoch string, seq uint64) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if l := b.lines[product]; l != nil {
		return l.head.Epoch, l.head.Seq
	}
	return "", 0
}

// AwaitEntries waits until the book has applied n entries of the product. It
// fails with ctx's error.
func (b *Book) AwaitEntries(ctx context.Context, product ProductID, n uint64) error {
	for {
		b.mu.Lock()
		if b.line(product).head.N >= n {
			b.mu.Unlock()
			return nil
		}
		if b.changed == nil {
			b.changed = make(chan struct{})
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for entry %d of %s: %w", n, product, context.Cause(ctx))
		case <-changed:
		}
	}
}

// A feed that lost its server may be away for longer than an election takes.
const (
	feedLag = 250 * time.Millisecond // then the ledger itself is asked
	maxRead = 1000                   // entries to ask for; with more missing, the feed is faster
)

// Reach waits like AwaitEntries, and reads from the ledger what the book's feed
// does not bring for a while.
func (b *Book) Reach(ctx context.Context, ledger Ledger, product ProductID, n uint64) error {
	for {
		soon, cancel := context.WithTimeout(ctx, feedLag)
		err := b.AwaitEntries(soon, product, n)
		cancel()
		if err == nil {
			return nil
		}
		if have := b.Entries(product); have < n && n-have <= maxRead {
			if readErr := b.read(ctx, ledger, product, n); readErr != nil {
				err = fmt.Errorf("%w, and the ledger: %w", err, readErr)
			}
		}
		if b.Entries(product) >= n {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
	}
}

// read applies entries up to n. Others may apply them meanwhile.
func (b *Book) read(ctx context.Context, ledger Ledger, product ProductID, n uint64) error {
	for next := b.Entries(product) + 1; next <= n; next = b.Entries(product) + 1 {
		data, err := ledger.Entry(ctx, product, next)
		if err != nil {
			return err
		}
		if err := b.ApplyStored(product, next, data); err != nil {
			return err
		}
	}
	return nil
}

// ApplyStored does what Apply does with an entry as the ledger keeps it. One that
// is not the product's n-th is an error, and changes nothing.
func (b *Book) ApplyStored(product ProductID, n uint64, data []byte) error {
	entry, err := DecodeEntry(data)
	if err == nil && (entry.Product != product || entry.N != n) {
		err = fmt.Errorf("it says that it is entry %d of %s", entry.N, entry.Product)
	}
	if err == nil {
		err = b.Apply(entry)
	}
	if err != nil {
		return fmt.Errorf("entry %d of %s: %w", n, product, err)
	}
	return nil
}

// Apply adds the next entry of a product's ledger. An entry that was applied
// before changes nothing; one that leaves a gap is an error, and changes nothing.
func (b *Book) Apply(e *Entry) error {
	applied, err := b.apply(e)
	if applied && b.onApply != nil {
		b.onApply(e.Product, e.Head)
	}
	return err
}

func (b *Book) apply(e *Entry) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.line(e.Product)
	if e.N <= l.head.N {
		return false, nil
	}
	if e.N != l.head.N+1 {
		return false, fmt.Errorf("book of %s: entry %d after %d", e.Product, e.N, l.head.N)
	}
	at := e.DecidedAt.UnixMicro()
	for i := range e.Orders {
		if e.Orders[i].Outcome.Final() {
			b.decide(l, &e.Orders[i], at)
		}
	}
	l.head = e.Head
	l.serve(e.Epoch, e.Seq)
	b.wake()
	return true, nil
}

func (b *Book) decide(l *line, o *EntryOrder, at int64) {
	i, known := b.findIn(l, o.ID)
	var who uint32
	if known {
		r := b.orders.at(i)
		if r.outcome != Pending {
			return // the first outcome stands (P4)
		}
		who = r.buyer
		b.buyers.at(who).waiting--
		if string(b.name(who)) != string(o.Email) {
			// Two queued lines under one id, and the ledger took the other one.
			r.void = true
			known = false
		}
	}
	if !known {
		who = b.buyer(o.Email)
		i = b.push(l, who, &o.Order)
	}
	r := b.orders.at(i)
	r.quantity = uint16(o.Quantity)
	r.placedAt = o.PlacedAt.UnixMicro()
	r.decidedAt, r.place, r.outcome = at, o.Place, o.Outcome
	b.buyers.at(who).changes++
	if o.Outcome == Accepted {
		b.give(who, l.index, int64(o.Quantity))
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

// Expect adds the orders of a message that waits in the queue. Messages of a
// product are expected in sequence; one that was expected or applied before
// changes nothing. A new epoch means a new queue: whoever waited in the old one
// is not in line any more.
func (b *Book) Expect(m *Message, lines []Line) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.line(m.Product)
	if l.epoch != m.Epoch {
		l.epoch, l.expected, l.groups, l.served = m.Epoch, 0, nil, l.issued
	}
	if m.Seq <= l.expected || (l.head.Epoch == m.Epoch && m.Seq <= l.head.Seq) {
		return
	}
	l.expected = m.Seq
	before := l.issued
	for i := range lines {
		o := &lines[i].Order
		if lines[i].Err != nil {
			continue
		}
		if _, known := b.findIn(l, o.ID); known {
			continue
		}
		who := b.buyer(o.Email)
		r := b.orders.at(b.push(l, who, o))
		l.issued++
		r.place = l.issued
		w := b.buyers.at(who)
		w.waiting++
		w.changes++
	}
	if l.issued == before {
		return // nobody new waits
	}
	l.groups = append(l.groups, waitingGroup{seq: m.Seq, upTo: l.issued})
	b.wake()
}

// serve takes the tickets of every group up to seq.
func (l *line) serve(epoch string, seq uint64) {
	if l.epoch != epoch {
		return
	}
	n := 0
	for n < len(l.groups) && l.groups[n].seq <= seq {
		l.served = l.groups[n].upTo
		n++
	}
	if l.groups = l.groups[n:]; len(l.groups) == 0 {
		l.groups = nil
	}
}

func (b *Book) push(l *line, who uint32, o *Order) uint32 {
	w := b.buyers.at(who)
	i := b.orders.push(record{id: o.ID, placedAt: o.PlacedAt.UnixMicro(), buyer: who, older: w.newest,
		quantity: uint16(o.Quantity), product: l.index})
	w.newest = i + 1
	b.byID.add(b.hashID(o.ID), i)
	return i
}

// findIn finds the order of one product: the same id for another one is another
// order, or products would depend on each other's ledgers (P8).
func (b *Book) findIn(l *line, id OrderID) (uint32, bool) {
	return b.byID.find(b.hashID(id), func(n uint32) bool {
		r := b.orders.at(n)
		return r.id == id && r.product == l.index && !r.void
	})
}

func (b *Book) hashID(id OrderID) uint64 { return maphash.Bytes(b.seed, id[:]) }

func (b *Book) hashEmail(e Email) uint64 { return maphash.String(b.seed, string(e)) }

func (b *Book) findBuyer(e Email) (uint32, bool) {
	return b.byEmail.find(b.hashEmail(e), func(n uint32) bool { return string(b.name(n)) == string(e) })
}

func (b *Book) buyer(e Email) uint32 {
	if who, ok := b.findBuyer(e); ok {
		return who
	}
	who := b.buyers.push(buyer{name: uint64(len(b.names)), nameLen: uint8(len(e))})
	b.names = append(b.names, e...)
	b.byEmail.add(b.hashEmail(e), who)
	return who
}

func (b *Book) name(who uint32) []byte {
	w := b.buyers.at(who)
	return b.names[w.name : w.name+uint64(w.nameLen)]
}

func (b *Book) line(p ProductID) *line {
	l := b.lines[p]
	if l == nil {
		l = &line{index: uint16(len(b.products))}
		b.products = append(b.products, p)
		b.lines[p] = l
	}
	return l
}

func (b *Book) wake() {
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
	}
}

func (b *Book) status(i uint32) Status {
	r := b.orders.at(i)
	s := Status{
		Order: Order{ID: r.id, Email: Email(b.name(r.buyer)), Quantity: int(r.quantity),
			PlacedAt: time.UnixMicro(r.placedAt).UTC()},
		Product: b.products[r.product], Outcome: r.outcome,
	}
	if r.outcome != Pending {
		s.Place, s.DecidedAt = r.place, time.UnixMicro(r.decidedAt).UTC()
	}
	return s
}
