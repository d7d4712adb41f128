package web

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"firstcome/internal/sale"
)

var (
	headerLocation = []byte(fiber.HeaderLocation)
	headerReplayed = []byte("Idempotent-Replayed")
)

// buy takes an order. The checks come in a fixed order: origin (guard), size
// (fasthttp, unreadable), type, fields, product, replay, rate limit, door, queue.
// Nothing that is refused has touched the queue.
func (s *Server) buy(c *fiber.Ctx) error {
	head := &c.Request().Header
	if len(head.Peek(fiber.HeaderContentEncoding)) > 0 {
		return errMediaType
	}
	f, err := readFields(head.ContentType(), c.BodyRaw()) // Body would inflate, without a bound
	if err != nil {
		return err
	}
	w, err := f.check()
	if err != nil {
		return err
	}
	key, keyed, err := idempotencyKey(head.PeekAll("Idempotency-Key"))
	if err != nil {
		return err
	}
	stock, err := s.product(w.product)
	if err != nil {
		return err
	}
	w.product = stock.Product
	if keyed {
		status, replayed, err := s.placeKeyed(c, &stock, w, sale.KeyedID(w.email, w.product, key))
		if err != nil {
			return err
		}
		return accept(c, &status, replayed)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("making an order id: %w", err)
	}
	status, err := s.place(c, &stock, w, sale.OrderID(id))
	if err != nil {
		return err
	}
	return accept(c, &status, false)
}

// accept answers 202. It is only called once the order is stored (P3).
func accept(c *fiber.Ctx, status *sale.Status, replayed bool) error {
	var room [1024]byte
	r := c.Response()
	r.SetStatusCode(fiber.StatusAccepted)
	r.Header.SetContentType(fiber.MIMEApplicationJSON)
	r.Header.SetCanonical(headerLocation, status.ID.AppendText(append(room[:0], "/orders/"...)))
	if replayed {
		r.Header.SetCanonical(headerReplayed, []byte("true"))
	}
	b := append(room[:0], `{"message":"`...)
	b = append(b, status.Outcome.Message()...)
	b = append(b, `","order":`...)
	b = status.AppendJSON(b)
	r.SetBody(append(b, '}'))
	return nil
}

// idempotencyKey checks the header: 1 to 255 bytes from 0x21 to 0x7E, once.
func idempotencyKey(values [][]byte) (key string, keyed bool, err error) {
	if len(values) == 0 {
		return "", false, nil
	}
	v := values[0]
	ok := len(values) == 1 && len(v) >= 1 && len(v) <= 255
	for i := 0; ok && i < len(v); i++ {
		ok = 0x21 <= v[i] && v[i] <= 0x7e
	}
	if !ok {
		return "", false, errField.because("The header Idempotency-Key must be 1 to 255 printable ASCII characters without spaces, given once.")
	}
	return string(v), true, nil
}

// product finds what is wanted; without a name it is the only product there is.
func (s *Server) product(id sale.ProductID) (sale.Stock, error) {
	if id != "" {
		if stock, ok := s.shop.Product(id); ok {
			return stock, nil
		}
		return sale.Stock{}, errNoProduct
	}
	if stock, ok := s.shop.Only(); ok {
		return stock, nil
	}
	if len(s.shop.Products()) == 0 {
		return sale.Stock{}, errNoProduct
	}
	return sale.Stock{}, invalid("product", "is missing, and there are several products")
}

// place goes through limits and door, and stores the order.
func (s *Server) place(c *fiber.Ctx, stock *sale.Stock, w wish, id sale.OrderID) (sale.Status, error) {
	now := s.now()
	if err := s.limit(c, w.email, now); err != nil {
		return sale.Status{}, err
	}
	if err := door(stock.State(now)); err != nil {
		return sale.Status{}, err
	}
	if s.refusing.Load() {
		return sale.Status{}, errRefusing
	}
	if s.book.Full() {
		return sale.Status{}, errBookFull
	}
	o := sale.Order{ID: id, Email: w.email, Quantity: w.quantity, PlacedAt: sale.Instant(now)}
	if err := s.queue.Place(context.Background(), w.product, o); err != nil {
		return sale.Status{}, placeProblem(err)
	}
	return sale.Status{Order: o, Product: w.product}, nil
}

func door(state sale.State) error {
	switch state {
	case sale.StateOpen:
		return nil
	case sale.StateSoldOut:
		return errSoldOut
	case sale.StatePaused:
		return errPaused
	case sale.StateNotOpen:
		return errNotOpen
	default:
		return errClosed
	}
}

func placeProblem(err error) error {
	switch {
	case errors.Is(err, sale.ErrQueueFull):
		return errQueueFull
	case errors.Is(err, sale.ErrUnknownProduct):
		return errNoProduct
	case errors.Is(err, sale.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return errAway
	}
	return fmt.Errorf("placing an order: %w", err)
}

// flights are the keyed orders being placed right now, so that requests with one
// key that meet in this instance place it once. Each lives as long as a request.
type flights struct {
	mu   sync.Mutex
	byID map[sale.OrderID]*flight
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

func (fs *flights) land(id sale.OrderID, f *flight) {
	fs.mu.Lock()
	delete(fs.byID, id)
	fs.mu.Unlock()
	close(f.done)
}

// placeKeyed places the order unless it was placed before (P4): then it answers
// with the status as it is now, also when the door is closed.
func (s *Server) placeKeyed(c *fiber.Ctx, stock *sale.Stock, w wish, id sale.OrderID) (status sale.Status, replayed bool, err error) {
	for {
		f, first := s.flights.join(id, w.quantity)
		if first {
			defer s.flights.land(id, f)
			f.status, replayed, f.err = s.placeFirst(c, stock, w, id)
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
		// The other one, of another quantity, was refused: the key is still free.
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

func (s *Server) placeFirst(c *fiber.Ctx, stock *sale.Stock, w wish, id sale.OrderID) (sale.Status, bool, error) {
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
	status, err := s.place(c, stock, w, id)
	return status, false, err
}
