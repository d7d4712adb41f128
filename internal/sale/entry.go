package sale

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Entry is one entry of a product's ledger: one decided group.
type Entry struct {
	Product ProductID `json:"product"`
	Head
	Orders []EntryOrder `json:"orders"`
}

// EntryOrder is one order of an entry. A Duplicate has no place.
type EntryOrder struct {
	Order
	Place   uint64
	Outcome Outcome
}

// entryOrders are the orders of a decided group as its ledger entry has them:
// without the dead lines, and with the places that end at decided.
func entryOrders(lines []Line, outcomes []Outcome, decided uint64) []EntryOrder {
	place := decided
	for _, o := range outcomes {
		if o.Final() {
			place--
		}
	}
	orders := make([]EntryOrder, 0, len(lines))
	for i := range lines {
		o := EntryOrder{Order: lines[i].Order, Outcome: outcomes[i]}
		if o.Outcome == Dead {
			continue
		}
		if o.Outcome.Final() {
			place++
			o.Place = place
		}
		orders = append(orders, o)
	}
	return orders
}

// Encode is the entry as it is stored. It holds buyers as tokens, so no "@".
func (e *Entry) Encode() []byte {
	b, _ := e.encode()
	return b
}

// encode also returns the part of it that is the orders.
func (e *Entry) encode() (entry, orders []byte) {
	b := make([]byte, 0, 400+256*len(e.Orders))
	b = append(b, `{"product":"`...)
	b = append(b, e.Product...)
	b = append(b, `",`...)
	b = append(b, `"n":`...)
	b = strconv.AppendUint(b, e.N, 10)
	b = append(b, `,"epoch":"`...)
	b = append(b, e.Epoch...)
	b = append(b, `","seq":`...)
	b = strconv.AppendUint(b, e.Seq, 10)
	b = e.Head.appendFigures(b)
	b = append(b, `,"orders":`...)
	from := len(b)
	b = appendOrders(b, e.Orders)
	to := len(b)
	b = append(b, '}')
	return b, b[from:to:to]
}

// appendFigures appends what entries and stock values say of a group alike.
func (h *Head) appendFigures(b []byte) []byte {
	b = append(b, `,"prev":"`...)
	b = append(b, h.Prev...)
	b = append(b, `","supplied":`...)
	b = strconv.AppendInt(b, h.Supplied, 10)
	b = append(b, `,"available":`...)
	b = strconv.AppendInt(b, h.Available, 10)
	b = append(b, `,"decided":`...)
	b = strconv.AppendUint(b, h.Decided, 10)
	b = append(b, `,"decided_at":"`...)
	b = appendTime(b, h.DecidedAt)
	return append(b, '"')
}

func appendOrders(b []byte, orders []EntryOrder) []byte {
	b = append(b, '[')
	for i := range orders {
		if i > 0 {
			b = append(b, ',')
		}
		b = orders[i].append(b)
	}
	return append(b, ']')
}

// MarshalJSON writes the order as Encode does.
func (o EntryOrder) MarshalJSON() ([]byte, error) { return o.append(nil), nil }

func (o *EntryOrder) append(b []byte) []byte {
	b = append(b, `{"id":"`...)
	b = o.ID.AppendText(b)
	b = append(b, `","buyer":"`...)
	b = o.Email.AppendToken(b)
	b = append(b, `","quantity":`...)
	b = strconv.AppendInt(b, int64(o.Quantity), 10)
	b = append(b, `,"placed_at":"`...)
	b = appendTime(b, o.PlacedAt)
	if o.Place > 0 {
		b = append(b, `","place":`...)
		b = strconv.AppendUint(b, o.Place, 10)
		b = append(b, `,"outcome":"`...)
	} else {
		b = append(b, `","outcome":"`...)
	}
	b = append(b, o.Outcome.String()...)
	return append(b, `"}`...)
}

// DecodeEntry reads a stored entry.
func DecodeEntry(b []byte) (*Entry, error) {
	e := &Entry{}
	if readOwnEntry(b, e) {
		return e, nil
	}
	e = &Entry{}
	if err := json.Unmarshal(b, e); err != nil {
		return nil, fmt.Errorf("ledger entry: %w", err)
	}
	if _, err := ParseProductID(string(e.Product)); err != nil {
		return nil, fmt.Errorf("ledger entry: product: %w", err)
	}
	if e.DecidedAt = Instant(e.DecidedAt); e.DecidedAt.Year() < 0 || !plain(e.Epoch) || !plain(e.Prev) {
		return nil, errors.New("ledger entry: epoch, prev or decided_at is not what firstcome writes")
	}
	return e, nil
}

// plain tells whether s stands for itself in JSON.
func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return true
}

// UnmarshalJSON reads an order of an entry that has another shape than Encode's.
func (o *EntryOrder) UnmarshalJSON(b []byte) error {
	var f struct {
		ID       string  `json:"id"`
		Buyer    string  `json:"buyer"`
		Quantity int     `json:"quantity"`
		PlacedAt string  `json:"placed_at"`
		Place    uint64  `json:"place"`
		Outcome  Outcome `json:"outcome"`
	}
	err := json.Unmarshal(b, &f)
	if err != nil {
		return err
	}
	o.Quantity, o.Place, o.Outcome = f.Quantity, f.Place, f.Outcome
	if o.Quantity < 1 || o.Quantity > MaxQuantity {
		return ErrQuantity
	}
	if o.ID, err = ParseOrderID(f.ID); err != nil {
		return err
	}
	if o.PlacedAt, err = parseTime([]byte(f.PlacedAt)); err != nil {
		return err
	}
	o.Email, err = ParseToken(f.Buyer)
	return err
}

// readOwnEntry reads exactly what Encode writes, and tells whether it did: a
// million orders are read at start, and this is many times faster than the
// general reader.
func readOwnEntry(b []byte, e *Entry) bool {
	s := scan{b: b}
	s.lit(`{"product":"`)
	product := s.until('"')
	s.lit(`,"n":`)
	e.N = s.uint()
	s.lit(`,"epoch":"`)
	e.Epoch = string(s.until('"'))
	s.lit(`,"seq":`)
	e.Seq = s.uint()
	s.lit(`,"prev":"`)
	e.Prev = string(s.until('"'))
	s.lit(`,"supplied":`)
	e.Supplied = int64(s.uint())
	s.lit(`,"available":`)
	e.Available = int64(s.uint())
	s.lit(`,"decided":`)
	e.Decided = s.uint()
	s.lit(`,"decided_at":"`)
	at := s.until('"')
	s.lit(`,"orders":[`)
	var err error
	if s.bad || !plain(e.Epoch) || !plain(e.Prev) {
		return false
	}
	if e.Product, err = ParseProductID(string(product)); err != nil {
		return false
	}
	if e.DecidedAt, err = parseTime(at); err != nil {
		return false
	}
	if n := bytes.Count(s.b, []byte(`{"id":"`)); n > 0 {
		e.Orders = make([]EntryOrder, 0, n)
	}
	for !s.has("]") {
		if len(e.Orders) > 0 {
			s.lit(",")
		}
		var o EntryOrder
		if !o.read(&s) {
			return false
		}
		e.Orders = append(e.Orders, o)
	}
	s.lit("}")
	return s.done()
}

func (o *EntryOrder) read(s *scan) bool {
	s.lit(`{"id":"`)
	id := s.until('"')
	s.lit(`,"buyer":"`)
	buyer := s.until('"')
	s.lit(`,"quantity":`)
	o.Quantity = int(s.uint())
	s.lit(`,"placed_at":"`)
	placed := s.until('"')
	if s.has(`,"place":`) {
		o.Place = s.uint()
	}
	s.lit(`,"outcome":"`)
	outcome := s.until('"')
	s.lit(`}`)
	if s.bad || o.Quantity < 1 || o.Quantity > MaxQuantity {
		return false
	}
	var ok bool
	if o.Outcome, ok = parseOutcome(string(outcome)); !ok {
		return false
	}
	var err error
	if o.ID, err = ParseOrderID(id); err != nil {
		return false
	}
	if o.PlacedAt, err = parseTime(placed); err != nil {
		return false
	}
	o.Email, err = ParseToken(string(buyer))
	return err == nil
}

// hashEntry is what the next entry's prev and the stock's ledger_head hold:
// lowercase hex SHA-256 of an entry's bytes as stored.
func hashEntry(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Statuses are the orders that this entry decided, as their buyers see them.
func (e *Entry) Statuses() []Status {
	statuses := make([]Status, 0, len(e.Orders))
	for i := range e.Orders {
		if o := &e.Orders[i]; o.Outcome.Final() {
			statuses = append(statuses, Status{Order: o.Order, Product: e.Product, Outcome: o.Outcome,
				Place: o.Place, DecidedAt: e.DecidedAt})
		}
	}
	return statuses
}
