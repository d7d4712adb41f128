package sale

import (
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Book is what an instance knows of products and orders, in memory: each product's
// newest link, each order with its buyer, state and place, and what each buyer has got.
// It is a fold over the history (Apply) and the messages that still wait (Expect), the
// same on every instance, and serves both sides: the worker asks it for duplicates and
// limits, the readers for statuses.
//
// It costs about 120 bytes an order besides the buyer's address, and never
// forgets one: a forgotten id could be sold twice (P4). Its bound is therefore a
// door, not a cache size: see Full.
type Book struct {
	max       int
	seed      maphash.Seed
	onApply   []func(ProductID, Head) // set before the first Apply
	onForeign func(ProductID, Seq, error)

	// What a door asks for with every order stands beside the lock: a group of 500 that
	// is being applied holds it for a while.
	size    atomic.Int64                               // orders
	queued  atomic.Int64                               // messages that wait
	shelves atomic.Pointer[map[ProductID]*shelf]       // replaced when a product appears
	listed  atomic.Pointer[[]*atomic.Pointer[Product]] // those with a link, by id

	mu      sync.RWMutex
	orders  pile[record]
	byID    table
	buyers  pile[buyer]
	byEmail table
	names   []byte           // the buyers' addresses, one after another
	got     map[gotKey]int64 // units, of products that are not the buyer's first
	indexed []*shelf         // by index
	watched map[chan<- struct{}]struct{}
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
	void      bool // superseded: the history had the id with another buyer
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

// shelf is what the book knows of one product.
type shelf struct {
	id    ProductID
	index uint16

	head    Head   // the newest link; N is 0 while there is none
	at      Seq    // of the newest link
	seen    Seq    // the newest revision, whether it was a link or not
	foreign uint64 // revisions that were no links
	stopped error  // a revision that this program cannot read; nothing is applied after it
	placed  uint64 // orders decided before the newest link
	steered map[OrderID]struct{}

	// Every order that waits holds a ticket; tickets are served in order.
	issued, served uint64
	waiting        []waitingMessage // oldest first
	epoch          string           // of the waiting messages
	expected       uint64           // highest sequence given to Expect in that epoch
	pauses         int              // waiting messages that close the door
	since          time.Time        // when the oldest of them came, or the newest link after it
	pace           pace

	stuck   string // why nothing is decided; "" if nothing is known to be wrong
	lasting bool   // the next link does not end it

	current atomic.Pointer[Product] // what all of this says to readers; nil while there is no link
}

// Product is a product as an instance knows it.
type Product struct {
	Stock
	N        uint64   // of its newest link
	Revision Seq      // of its newest link
	Queue    Position // settled by its newest link
	Waiting  uint64   // orders that are undecided
	Pausing  bool     // a pause waits in the queue
	// Since is when the oldest message that waits came, or the newest link after that; zero
	// if nothing waits. It is this instance's own clock, for measuring how long.
	Since time.Time
	Stuck string // why nothing is decided just now, for an operator; "" if nothing is known to be wrong
}

// State tells what the door says at now. A pause counts from when it was heard of.
func (p *Product) State(now time.Time) State {
	stock := p.Stock
	stock.Paused = stock.Paused || p.Pausing
	state := stock.State(now)
	if state == StateOpen && p.Stuck != "" {
		return StateStuck
	}
	return state
}

// NewBook makes an empty book that calls itself full at max orders.
func NewBook(max int) *Book {
	b := &Book{max: max, seed: maphash.MakeSeed(), got: map[gotKey]int64{}}
	b.shelves.Store(&map[ProductID]*shelf{})
	b.listed.Store(&[]*atomic.Pointer[Product]{})
	return b
}

// OnApply has f called after every link that was applied, on the goroutine that
// applied it. It must be set before the first Apply, and f must not block.
func (b *Book) OnApply(f func(ProductID, Head)) { b.onApply = append(b.onApply, f) }

// OnForeign has f called for every stored value that is no link, with the reason. It
// must be set before the first Apply, and f must not block.
func (b *Book) OnForeign(f func(ProductID, Seq, error)) { b.onForeign = f }

// Full tells that the book holds as many orders as it was made for. The door then
// refuses new orders; what is in the queue is still decided and kept.
func (b *Book) Full() bool { return b.size.Load() >= int64(b.max) }

// Len is the number of orders in the book.
func (b *Book) Len() int { return int(b.size.Load()) }

// Queued is how many messages wait in the queue, of all products together.
func (b *Book) Queued() int64 { return b.queued.Load() }

// SetStuck says why nothing of the product is decided just now, "" if nothing is wrong:
// its door is then closed, as what it lets in would wait for nobody knows how long. The
// next link ends it, unless it is lasting.
func (b *Book) SetStuck(id ProductID, why string, lasting bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.find(id); s != nil && (s.stuck != why || s.lasting != lasting) {
		s.stuck, s.lasting = why, lasting
		b.show(s)
	}
}

// Head is the product's newest link, and the newest revision that the book has seen:
// what the next one is appended after.
func (b *Book) Head(id ProductID) (Head, Seq) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	s := b.find(id)
	if s == nil {
		return Head{Stock: Stock{Product: id}}, 0
	}
	return s.head, s.seen
}

// Stopped is why nothing more can be applied to the product, nil if nothing is wrong.
func (b *Book) Stopped(id ProductID) error {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if s := b.find(id); s != nil {
		return s.stopped
	}
	return nil
}

// Foreign is how many stored values of the product were no links.
func (b *Book) Foreign(id ProductID) uint64 {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if s := b.find(id); s != nil {
		return s.foreign
	}
	return 0
}

// show tells the readers how the product is now.
func (b *Book) show(s *shelf) {
	if s.head.N == 0 {
		return
	}
	appeared := s.current.Load() == nil
	var since time.Time
	if len(s.waiting) > 0 {
		since = s.since
	}
	s.current.Store(&Product{Stock: s.head.Stock, N: s.head.N, Revision: s.at, Queue: s.head.Queue,
		Waiting: s.issued - s.served, Pausing: s.pauses > 0, Since: since, Stuck: s.stuck})
	if appeared {
		var known []*shelf
		for _, other := range b.indexed {
			if other.current.Load() != nil {
				known = append(known, other)
			}
		}
		slices.SortFunc(known, func(x, y *shelf) int { return strings.Compare(string(x.id), string(y.id)) })
		list := make([]*atomic.Pointer[Product], len(known))
		for i := range known {
			list[i] = &known[i].current
		}
		b.listed.Store(&list)
	}
	for c := range b.watched {
		select {
		case c <- struct{}{}:
		default: // it is full: its reader has yet to look
		}
	}
}

// Watch has c filled whenever a product may look different to readers, until the
// function that it returns is called. c needs room for one.
func (b *Book) Watch(c chan<- struct{}) (unwatch func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.watched == nil {
		b.watched = map[chan<- struct{}]struct{}{}
	}
	b.watched[c] = struct{}{}
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.watched, c)
	}
}

func (b *Book) push(s *shelf, who uint32, o *Order) uint32 {
	w := b.buyers.at(who)
	i := b.orders.push(record{id: o.ID, placedAt: o.PlacedAt.UnixMicro(), buyer: who, older: w.newest,
		quantity: uint16(o.Quantity), product: s.index})
	w.newest = i + 1
	b.byID.add(b.hashID(o.ID), i)
	b.size.Store(int64(b.orders.n))
	return i
}

// findIn finds the order of one product: the same id for another one is another
// order, or products would depend on each other's histories (P8).
func (b *Book) findIn(s *shelf, id OrderID) (uint32, bool) {
	return b.byID.find(b.hashID(id), func(n uint32) bool {
		r := b.orders.at(n)
		return r.id == id && r.product == s.index && !r.void
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

// find is the product's shelf, nil if the book has never heard of it.
func (b *Book) find(id ProductID) *shelf { return (*b.shelves.Load())[id] }

// shelf makes the product's shelf if there is none. The caller holds mu for writing.
func (b *Book) shelf(id ProductID) *shelf {
	s := b.find(id)
	if s == nil {
		s = &shelf{id: id, index: uint16(len(b.indexed)), head: Head{Stock: Stock{Product: id}}}
		b.indexed = append(b.indexed, s)
		shelves := maps.Clone(*b.shelves.Load())
		shelves[id] = s
		b.shelves.Store(&shelves)
	}
	return s
}

func (b *Book) status(i uint32) Status {
	r := b.orders.at(i)
	s := Status{
		Order: Order{ID: r.id, Email: Email(b.name(r.buyer)), Quantity: int(r.quantity),
			PlacedAt: time.UnixMicro(r.placedAt).UTC()},
		Product: b.indexed[r.product].id, Outcome: r.outcome,
	}
	if r.outcome != Pending {
		s.Place, s.DecidedAt = r.place, time.UnixMicro(r.decidedAt).UTC()
	} else {
		s.Turn = b.indexed[r.product].turn(r)
	}
	return s
}
