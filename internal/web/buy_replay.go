package web

import (
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"firstcome/internal/sale"
)

// flights are the keyed orders being placed right now, so that requests with one
// key that meet in this instance place it once. Each lives as long as a request.
// Of those that ended in errUnsure the quantity is remembered, see unsure.
type flights struct {
	mu     sync.Mutex
	byID   map[sale.OrderID]*flight
	unsure unsure
}

type flight struct {
	quantity int
	done     chan struct{}
	// Set before done is closed.
	status sale.Status
	err    error
}

// join returns the flight of the order, and whether the caller is to fly it.
func (fs *flights) join(id sale.OrderID, quantity int) (f *flight, first bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.byID[id]; f != nil {
		return f, false
	}
	if fs.byID == nil {
		fs.byID = map[sale.OrderID]*flight{}
	}
	f = &flight{quantity: quantity, done: make(chan struct{}), err: errInternal} // kept only if its pilot panics
	fs.byID[id] = f
	return f, true
}

func (fs *flights) land(id sale.OrderID, f *flight, now time.Time) {
	fs.mu.Lock()
	delete(fs.byID, id)
	if f.err == errUnsure {
		fs.unsure.remember(id, f.quantity, now)
	}
	fs.mu.Unlock()
	close(f.done)
}

// other tells whether the order may have been stored with another quantity.
func (fs *flights) other(id sale.OrderID, quantity int, now time.Time) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	sent, known := fs.unsure.quantity(id, now)
	return known && sent != quantity
}

// unsure remembers the quantities of orders that the queue may have stored, as
// nobody else can tell before they are seen in it. It remembers each for unsureTime
// to twice that, and 2 × maxUnsure of them: when more come, it forgets the older
// half at once.
type unsure struct {
	young, old map[sale.OrderID]int
	turned     time.Time // when young was begun
}

const (
	unsureTime = 2 * time.Minute // much longer than the storing of an order can take
	maxUnsure  = 1 << 15
)

func (u *unsure) remember(id sale.OrderID, quantity int, now time.Time) {
	u.age(now)
	if len(u.young) >= maxUnsure {
		u.young, u.old, u.turned = nil, u.young, now
	}
	if u.young == nil {
		u.young = map[sale.OrderID]int{}
	}
	u.young[id] = quantity
}

func (u *unsure) quantity(id sale.OrderID, now time.Time) (quantity int, known bool) {
	u.age(now)
	if quantity, known = u.young[id]; !known {
		quantity, known = u.old[id]
	}
	return quantity, known
}

func (u *unsure) age(now time.Time) {
	switch age := now.Sub(u.turned); {
	case age >= 2*unsureTime:
		u.young, u.old, u.turned = nil, nil, now
	case age >= unsureTime:
		u.young, u.old, u.turned = nil, u.young, u.turned.Add(unsureTime)
	}
}

// placeKeyed places the order unless it was placed before (P4): then it answers
// with the status as it is now, also when the door is closed.
func (s *Server) placeKeyed(c *fiber.Ctx, product *sale.Product, w wish, id sale.OrderID) (status sale.Status, replayed bool, err error) {
	for {
		f, first := s.flights.join(id, w.quantity)
		if first {
			defer func() { s.flights.land(id, f, s.now()) }()
			f.status, replayed, f.err = s.placeFirst(c, product, w, id)
			return f.status, replayed, f.err
		}
		if err := await(f.done); err != nil {
			return sale.Status{}, false, err
		}
		switch {
		case f.quantity == w.quantity && f.err != nil:
			return sale.Status{}, false, f.err
		case f.quantity == w.quantity:
			if status, known := s.book.Taken(id, w.product); known && status.Email == w.email { // see placeFirst
				return status, true, nil
			}
			return f.status, true, nil
		case f.err == nil:
			return sale.Status{}, false, errKeyReused
		}
		// The other one, of another quantity, was not taken. The next one judges by
		// itself: the key is free, unless that order may have been stored.
	}
}

func await(done <-chan struct{}) error {
	t := time.NewTimer(placeTime + reachTime + time.Second)
	defer t.Stop()
	select {
	case <-done:
		return nil
	case <-t.C:
		return errAway
	}
}

func (s *Server) placeFirst(c *fiber.Ctx, product *sale.Product, w wish, id sale.OrderID) (sale.Status, bool, error) {
	status, known := s.book.Taken(id, w.product)
	if !known {
		// Another instance may have taken it a moment ago.
		if err := s.catchUp(reachTime); err != nil {
			return sale.Status{}, false, errAway
		}
		status, known = s.book.Taken(id, w.product)
	}
	if known {
		// Of somebody else, under the same id, it can only be by hand (P7).
		if status.Email != w.email || status.Quantity != w.quantity {
			return sale.Status{}, false, errKeyReused
		}
		return status, true, nil
	}
	if s.flights.other(id, w.quantity, s.now()) {
		return sale.Status{}, false, errKeyReused
	}
	status, err := s.place(c, product, w, id)
	return status, false, err
}
