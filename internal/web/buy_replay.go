package web

import (
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"firstcome/internal/sale"
)

// flights are the orders with an Idempotency-Key that are being placed right now, so
// that concurrent requests with one key place one order. A flight lives as long as its
// first request.
type flights struct {
	mu     sync.Mutex
	byID   map[sale.OrderID]*flight
	unsure unsure // flights that ended in errUnsure
}

type flight struct {
	quantity int
	done     chan struct{}
	// Set before done is closed.
	status sale.Status
	err    error
}

// join returns the order's flight. The first caller must place the order, and finish.
func (fs *flights) join(id sale.OrderID, quantity int) (f *flight, first bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.byID[id]; f != nil {
		return f, false
	}
	if fs.byID == nil {
		fs.byID = map[sale.OrderID]*flight{}
	}
	f = &flight{quantity: quantity, done: make(chan struct{}), err: errInternal} // it stays errInternal only after a panic
	fs.byID[id] = f
	return f, true
}

func (fs *flights) finish(id sale.OrderID, f *flight, now time.Time) {
	fs.mu.Lock()
	delete(fs.byID, id)
	if f.err == errUnsure {
		fs.unsure.remember(id, f.quantity, now)
	}
	fs.mu.Unlock()
	close(f.done)
}

// otherQuantity reports whether the order may have been stored with another quantity.
func (fs *flights) otherQuantity(id sale.OrderID, quantity int, now time.Time) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	sent, known := fs.unsure.quantity(id, now)
	return known && sent != quantity
}

// unsure remembers the quantities of orders that the queue may have stored without
// saying so. The book has them only when the feed brings them, and until then a retry
// with another quantity must not become a second order (P4). It remembers each for
// unsureTime to twice that, and at most 2 × maxUnsure: beyond that it forgets the older
// half at once.
type unsure struct {
	young, old map[sale.OrderID]int
	turned     time.Time // start of young
}

const (
	unsureTime = 2 * time.Minute // storing an order takes seconds at most
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

// placeOnce places the order unless it was placed before (P4). A replay returns the
// order's status as it is now, also when the door is closed.
func (s *Server) placeOnce(c *fiber.Ctx, product *sale.Product, d draft, id sale.OrderID) (status sale.Status, replayed bool, err error) {
	for {
		f, first := s.flights.join(id, d.quantity)
		if first {
			defer func() { s.flights.finish(id, f, s.now()) }()
			f.status, replayed, f.err = s.placeFirst(c, product, d, id)
			return f.status, replayed, f.err
		}
		if err := await(f.done); err != nil {
			return sale.Status{}, false, err
		}
		switch {
		case f.quantity == d.quantity && f.err != nil:
			return sale.Status{}, false, f.err
		case f.quantity == d.quantity:
			if status, known := s.book.Taken(id, d.product); known && status.Email == d.email { // see placeFirst
				return status, true, nil
			}
			return f.status, true, nil
		case f.err == nil:
			return sale.Status{}, false, errKeyReused
		}
		// The order of another quantity was not taken. The key is free, unless that
		// order may have been stored: join again, and let placeFirst judge.
	}
}

// await waits for the request that is placing the order.
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

// placeFirst looks for the order in the book, and places it if it is not there.
func (s *Server) placeFirst(c *fiber.Ctx, product *sale.Product, d draft, id sale.OrderID) (sale.Status, bool, error) {
	status, known := s.book.Taken(id, d.product)
	if !known {
		// Another instance may have stored it a moment ago.
		if err := s.catchUp(reachTime); err != nil {
			return sale.Status{}, false, errAway
		}
		status, known = s.book.Taken(id, d.product)
	}
	if known {
		// Another buyer's order has this id only if it was published by hand; it is not
		// shown (P7).
		if status.Email != d.email || status.Quantity != d.quantity {
			return sale.Status{}, false, errKeyReused
		}
		return status, true, nil
	}
	if s.flights.otherQuantity(id, d.quantity, s.now()) {
		return sale.Status{}, false, errKeyReused
	}
	status, err := s.place(c, product, d, id)
	return status, false, err
}
