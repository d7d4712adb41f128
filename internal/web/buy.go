package web

import (
	"context"
	"errors"
	"fmt"
	"slices"

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
// A refused order has not touched the queue.
func (s *Server) buy(c *fiber.Ctx) error {
	head := &c.Request().Header
	if slices.ContainsFunc(head.PeekAll(fiber.HeaderContentEncoding), func(coding []byte) bool { return len(coding) > 0 }) {
		return errMediaType
	}
	f, err := readFields(head.ContentType(), c.BodyRaw()) // Body would inflate, without a bound
	if err != nil {
		return err
	}
	d, err := f.check()
	if err != nil {
		return err
	}
	key, given, err := idempotencyKey(head.PeekAll("Idempotency-Key"))
	if err != nil {
		return err
	}
	product, err := s.product(d.product)
	if err != nil {
		return err
	}
	d.product = product.Product
	if given {
		status, replayed, err := s.placeOnce(c, &product, d, sale.KeyedID(d.email, d.product, key))
		if err != nil {
			return err
		}
		return accept(c, &status, replayed)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("making an order id: %w", err)
	}
	status, err := s.place(c, &product, d, sale.OrderID(id))
	if err != nil {
		return err
	}
	return accept(c, &status, false)
}

// accept answers 202, for an order that is stored (P3).
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
func idempotencyKey(values [][]byte) (key string, given bool, err error) {
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

// product finds a product by id; without an id, it is the only one that there is.
func (s *Server) product(id sale.ProductID) (sale.Product, error) {
	if id != "" {
		if product, ok := s.book.Product(id); ok {
			return product, nil
		}
		return sale.Product{}, errNoProduct
	}
	if product, ok := s.book.Only(); ok {
		return product, nil
	}
	if len(s.book.Products()) == 0 {
		return sale.Product{}, errNoProduct
	}
	return sale.Product{}, invalid("product", "is missing, and there are several products")
}

// place checks rate limits, door and room, and stores the order.
func (s *Server) place(c *fiber.Ctx, product *sale.Product, d draft, id sale.OrderID) (sale.Status, error) {
	now := s.now()
	if err := s.limit(c, d.email, now); err != nil {
		return sale.Status{}, err
	}
	if err := door(product.State(now)); err != nil {
		return sale.Status{}, err
	}
	if s.refusing.Load() {
		return sale.Status{}, errRefusing
	}
	if s.book.Full() {
		return sale.Status{}, errBookFull
	}
	if s.maxQueued > 0 && s.book.Queued() >= s.maxQueued {
		return sale.Status{}, errQueueFull
	}
	o := sale.Order{ID: id, Email: d.email, Quantity: d.quantity, PlacedAt: sale.Instant(now)}
	if err := s.queue.Place(context.Background(), d.product, o); err != nil {
		return sale.Status{}, placeProblem(err)
	}
	return sale.Status{Order: o, Product: d.product}, nil
}

// orderRoom is how many messages may wait before buyers' orders are refused. The rest
// of the queue, 1 % but at most 100 messages, is for the desk: an operator can pause
// or restock while a crowd keeps the queue full. 0: no bound.
func orderRoom(maxMessages int64) int64 {
	return maxMessages - min(100, maxMessages/100)
}

// door is the refusal that fits a product's state, nil if the product sells.
func door(state sale.State) error {
	switch state {
	case sale.StateOpen:
		return nil
	case sale.StateSoldOut:
		return errSoldOut
	case sale.StatePaused:
		return errPaused
	case sale.StateStuck:
		return errStuck
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
	case errors.Is(err, sale.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return errUnsure
	}
	return fmt.Errorf("placing an order: %w", err)
}
