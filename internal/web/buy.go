package web

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
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
	html := wantsHTML(c)
	if html {
		remember(c, &f, "")
	}
	d, err := f.check()
	if err != nil {
		return err
	}
	key, given, err := idempotencyKey(head.PeekAll("Idempotency-Key"), f.key)
	if err != nil {
		return err
	}
	if html && given {
		remember(c, &f, key)
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
		return s.accept(c, &status, replayed)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("making an order id: %w", err)
	}
	status, err := s.place(c, &product, d, sale.OrderID(id))
	if err != nil {
		return err
	}
	return s.accept(c, &status, false)
}

// accept answers 202, for an order that is stored (P3).
func (s *Server) accept(c *fiber.Ctx, status *sale.Status, replayed bool) error {
	var room [1024]byte
	r := c.Response()
	r.SetStatusCode(fiber.StatusAccepted)
	location := append(append(room[:0], s.prefix(c)...), "/orders/"...)
	r.Header.SetCanonical(headerLocation, status.ID.AppendText(location))
	if replayed {
		r.Header.SetCanonical(headerReplayed, []byte("true"))
	}
	if wantsHTML(c) {
		return s.showStatus(c, status)
	}
	r.Header.SetContentType(fiber.MIMEApplicationJSON)
	b := append(room[:0], `{"message":"`...)
	b = append(b, status.Outcome.Message()...)
	b = append(b, `","order":`...)
	b = status.AppendJSON(b)
	r.SetBody(append(b, '}'))
	return nil
}

// idempotencyKey reads the key of the header, or of a form's field key.
func idempotencyKey(header [][]byte, form field) (key string, given bool, err error) {
	if len(header) > 0 {
		key = string(header[0])
		if len(header) > 1 || !isKey(key) {
			return "", false, errField.because("The header Idempotency-Key must be " + keyRule + ", given once.")
		}
	}
	switch {
	case !form.given:
		return key, len(header) > 0, nil
	case !isKey(form.text):
		return "", false, invalid("key", "must be "+keyRule)
	case len(header) > 0 && key != form.text:
		return "", false, invalid("key", "is not the same as the header Idempotency-Key")
	}
	return form.text, true, nil
}

const keyRule = "1 to 255 printable ASCII characters without spaces"

// isKey takes 1 to 255 bytes from 0x21 to 0x7E.
func isKey(key string) bool {
	for i := range len(key) {
		if key[i] < 0x21 || key[i] > 0x7e {
			return false
		}
	}
	return 1 <= len(key) && len(key) <= 255
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

// place checks rate limits and the door, and stores the order.
func (s *Server) place(c *fiber.Ctx, product *sale.Product, d draft, id sale.OrderID) (sale.Status, error) {
	now := s.now()
	if err := s.limit(c, d.email, now); err != nil {
		return sale.Status{}, err
	}
	if err := s.door(product, d, now); err != nil {
		return sale.Status{}, err
	}
	o := sale.Order{ID: id, Email: d.email, Quantity: d.quantity, PlacedAt: sale.Instant(now)}
	if err := s.queue.Place(context.Background(), d.product, o); err != nil {
		return sale.Status{}, placeProblem(err)
	}
	return sale.Status{Order: o, Product: d.product, Turn: s.book.Turn(id, d.product)}, nil
}

// orderRoom is how many messages may wait before buyers' orders are refused. The rest
// of the queue, 1 % but at most 100 messages, is for the desk: an operator can pause
// or restock while a crowd keeps the queue full. 0: no bound.
func orderRoom(maxMessages int64) int64 {
	return maxMessages - min(100, maxMessages/100)
}

// maxWaiting is how many undecided orders one buyer may have: nobody fills the queue
// alone.
const maxWaiting = 1000

// door refuses what could not be accepted anyway, by what the book knows now, and what
// there is no room for. What it lets in is decided in order.
func (s *Server) door(product *sale.Product, d draft, now time.Time) error {
	if err := closedBy(product, now); err != nil {
		return err
	}
	switch {
	case s.refusing.Load():
		return errRefusing
	case s.book.Full():
		return errBookFull
	case s.maxQueued > 0 && s.book.Queued() >= s.maxQueued:
		return errQueueFull
	}
	if limit := product.LimitPerBuyer; limit > 0 {
		if got := s.book.Got(d.email, d.product); got+int64(d.quantity) > limit {
			return overLimit(limit, got)
		}
	}
	if int64(d.quantity) > product.Available {
		return errNotEnough.because(fmt.Sprintf("The order asks for more units than are left: %d.", product.Available)).
			with("available", strconv.FormatInt(product.Available, 10))
	}
	if s.book.HasWaiting(d.email, maxWaiting) {
		return errWaiting
	}
	return nil
}

// closedBy is the refusal that fits a product's state, nil if the product sells.
func closedBy(product *sale.Product, now time.Time) error {
	switch product.State(now) {
	case sale.StateOpen:
		return nil
	case sale.StateSoldOut:
		return errSoldOut
	case sale.StatePaused:
		return errPaused
	case sale.StateStuck:
		return errStuck
	case sale.StateNotOpen:
		opens := *product.OpensAt
		return errNotOpen.with("opens_at", opens.UTC().Format(`"`+time.RFC3339Nano+`"`)).after(seconds(opens.Sub(now)))
	default:
		return errClosed
	}
}

func overLimit(limit, got int64) error {
	return errLimit.because(fmt.Sprintf("One buyer may have %d units of the product, and this one has %d.", limit, got)).
		with("limit_per_buyer", strconv.FormatInt(limit, 10)).with("got", strconv.FormatInt(got, 10))
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
