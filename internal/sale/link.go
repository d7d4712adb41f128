package sale

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Seq is the sequence of a revision: it rises with every value that is stored, over
// all products. 0 stands before the first.
type Seq uint64

// Position is a place in the queue. Every message of the product up to it is settled.
type Position struct {
	Epoch string // of the queue's stream, an RFC 3339 time
	Seq   uint64 // of the message in it, 0: before the first
}

// covers tells whether the message at m is settled.
func (p Position) covers(m *Message) bool { return p.Epoch == m.Epoch && m.Seq <= p.Seq }

// Change says what a link is about.
type Change string

// The changes.
const (
	Created     Change = "created" // the product's first link
	OrdersTaken Change = "orders"  // a message of orders was settled
	DeskTaken   Change = "desk"    // a message of desk lines was settled
)

// version is the layout of links that this code writes and reads.
const version = 2

// Link is one decision about a product: the stock after one settled message, and
// what the message came to. A product's links are numbered without gaps, and each
// holds the hash of the one before, so that together they are the ledger (P8).
type Link struct {
	N    uint64    // of the product, from 1
	Prev string    // lowercase hex SHA-256 of the link before as stored, "" in the first
	At   time.Time // of the decision: UTC, whole microseconds, never before the link before
	By   string    // the instance that decided
	Stock
	Queue  Position
	Change Change
	Orders []DecidedOrder // if OrdersTaken; without the lines that were no orders
	Desk   []DecidedLine  // if DeskTaken; without the lines that were none
}

// DecidedOrder is an order with what it came to. A Duplicate has no place.
type DecidedOrder struct {
	Order
	Place   uint64 // among all decided orders of the product, from 1
	Outcome Outcome
}

// DecidedLine is a desk line with what it came to.
type DecidedLine struct {
	DeskLine
	Refused Refusal // "": it holds
}

// NewProduct is the first link of a product. It is nobody's decision, so it stands at
// the beginning of the queue of that epoch. It fails on an amount or a limit out of
// range.
func NewProduct(id ProductID, supplied, limitPerBuyer int64, epoch string, at time.Time) (*Link, error) {
	switch {
	case supplied < 0 || supplied > MaxUnits:
		return nil, fmt.Errorf("stock must be from 0 to %d, is %d", int64(MaxUnits), supplied)
	case limitPerBuyer < 0 || limitPerBuyer > MaxUnits:
		return nil, fmt.Errorf("limit_per_buyer must be from 0 to %d, is %d", int64(MaxUnits), limitPerBuyer)
	}
	return &Link{N: 1, At: Instant(at), By: "provision", Queue: Position{Epoch: epoch}, Change: Created,
		Stock: Stock{Product: id, Available: supplied, Supplied: supplied, LimitPerBuyer: limitPerBuyer}}, nil
}

// Head is what the next link hangs on: the newest one without its lines. The zero
// value but for Product is a product without any link.
type Head struct {
	Stock
	N     uint64
	Hash  string // of the link as stored, what the next one has as Prev
	At    time.Time
	By    string
	Queue Position
}

// Why a stored value is not the next link.
var (
	// ErrNoLink: the value belongs to nothing, such as one that was put by hand. It
	// changes nothing and is passed over.
	ErrNoLink = errors.New("not the product's next link")
	// ErrNewer: the value is the next link, in a layout that this program does not
	// know. Nothing more can be said about the product.
	ErrNewer = errors.New("it needs a newer firstcome")
)

// Continue reads a stored value as the link after h, and makes h that link's head. Its
// error wraps ErrNoLink or ErrNewer, and h is then unchanged. What a link is never
// changes: every reader must find the same ones (P8).
func (h *Head) Continue(value []byte) (*Link, error) {
	link := &Link{}
	if !readOwnLink(value, link) {
		if err := h.readLink(value, link); err != nil {
			return nil, err
		}
	}
	if err := h.precedes(link); err != nil {
		return nil, err
	}
	h.follow(link, HashOf(value))
	return link, nil
}

// follow makes h the head of link, whose bytes have that hash.
func (h *Head) follow(link *Link, hash string) {
	*h = Head{Stock: link.Stock, N: link.N, Hash: hash, At: link.At, By: link.By, Queue: link.Queue}
}

// precedes tells why a readable link is not the one after h.
func (h *Head) precedes(link *Link) error {
	switch {
	case link.Product != h.Product:
		return noLink("it is one of another product")
	case link.N != h.N+1:
		return noLink("it is number %d after %d", link.N, h.N)
	case link.Prev != h.Hash:
		return noLink("its prev is not the hash of the link before")
	case (link.Change == Created) != (link.N == 1):
		return noLink("number %d cannot be of its change", link.N)
	case !link.addsUp():
		return noLink("its figures do not add up")
	case link.Queue.Epoch == h.Queue.Epoch && link.Queue.Seq < h.Queue.Seq:
		return noLink("it settles message %d after message %d", link.Queue.Seq, h.Queue.Seq)
	}
	return nil
}

func noLink(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNoLink, fmt.Sprintf(format, args...))
}

// HashOf is what the next link's Prev holds: lowercase hex SHA-256 of a link's bytes.
func HashOf(value []byte) string {
	sum := sha256.Sum256(value)
	return hex.EncodeToString(sum[:])
}

// readLink reads a value of any shape. A link in another layout is told from a value
// that is none by what all layouts share.
func (h *Head) readLink(value []byte, link *Link) error {
	fields, err := object(value)
	if err != nil {
		return noLink("%v", err)
	}
	r := reader{fields: fields}
	v := r.number("v")
	link.Product = ProductID(r.text("product"))
	link.N, link.Prev = r.count("n"), r.text("prev")
	if r.err == nil && v != version && h.precedesAny(link) {
		return fmt.Errorf("link %d: v is %d: %w", link.N, v, ErrNewer)
	}
	if r.err == nil && v != version {
		return noLink("its v is %d", v)
	}
	link.At, link.By = r.time("at"), r.text("by")
	link.Available, link.Held, link.Sold, link.Supplied = r.number("available"), r.number("held"), r.number("sold"), r.number("supplied")
	link.Decided, link.LimitPerBuyer = r.count("decided"), r.number("limit_per_buyer")
	link.OpensAt, link.ClosesAt, link.Paused = r.hour("opens_at"), r.hour("closes_at"), r.flag("paused")
	queue := r.object("queue")
	link.Queue = Position{Epoch: queue.text("epoch"), Seq: queue.count("seq")}
	if r.err = errors.Join(r.err, queue.err); r.err != nil {
		return noLink("%v", r.err)
	}
	switch link.Change = Change(r.text("change")); link.Change {
	case Created:
	case OrdersTaken:
		link.Orders = list(&r, "orders", readDecidedOrder)
	case DeskTaken:
		link.Desk = list(&r, "desk", readDecidedLine)
	default:
		if r.err == nil && h.precedes(link) == nil {
			return fmt.Errorf("link %d: change is %s: %w", link.N, quoted(string(link.Change)), ErrNewer)
		}
		if r.err == nil {
			return noLink("its change is unknown")
		}
	}
	if r.err != nil {
		return noLink("%v", r.err)
	}
	return nil
}

// precedesAny tells whether a link of any layout is the one after h.
func (h *Head) precedesAny(link *Link) bool {
	return link.Product == h.Product && link.N == h.N+1 && link.Prev == h.Hash
}

func readDecidedOrder(raw json.RawMessage) (o DecidedOrder, err error) {
	fields, err := object(raw)
	if err != nil {
		return o, err
	}
	r := reader{fields: fields}
	id, buyer, outcome := r.text("id"), r.text("buyer"), r.text("outcome")
	quantity := r.number("quantity")
	o.PlacedAt = r.time("placed_at")
	if _, placed := fields["place"]; placed {
		o.Place = r.count("place")
	}
	if r.err != nil {
		return o, r.err
	}
	var known bool
	if o.Outcome, known = parseOutcome(outcome); !known || !o.Outcome.Final() && o.Outcome != Duplicate {
		return o, errors.New("an outcome that no order has")
	}
	if quantity < 1 || quantity > MaxQuantity {
		return o, ErrQuantity
	}
	o.Quantity = int(quantity)
	if o.ID, err = ParseOrderID(id); err == nil {
		o.Email, err = ParseToken(buyer)
	}
	return o, err
}

func readDecidedLine(raw json.RawMessage) (l DecidedLine, err error) {
	fields, err := object(raw)
	if err != nil {
		return l, err
	}
	if refused, ok := fields["refused"]; ok {
		var text string
		if err := json.Unmarshal(refused, &text); err != nil || text == "" {
			return l, errors.New("refused is not a string")
		}
		l.Refused = Refusal(text)
		delete(fields, "refused")
	}
	if l.DeskLine, err = readDeskFields(fields, false); err == nil && fields["id"] == nil {
		err = errors.New("id is missing")
	}
	return l, err
}

// Statuses are the orders that this link decided, as their buyers see them.
func (l *Link) Statuses() []Status {
	statuses := make([]Status, 0, len(l.Orders))
	for i := range l.Orders {
		if o := &l.Orders[i]; o.Outcome.Final() {
			statuses = append(statuses, Status{Order: o.Order, Product: l.Product, Outcome: o.Outcome,
				Place: o.Place, DecidedAt: l.At})
		}
	}
	return statuses
}

// ReadLink reads a stored value by itself, without the link that it hangs on: for
// showing it, not for deciding on it. Its error wraps ErrNoLink.
func ReadLink(value []byte) (*Link, error) {
	link := &Link{}
	if readOwnLink(value, link) {
		return link, nil
	}
	return link, (&Head{}).readLink(value, link)
}
