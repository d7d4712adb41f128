package sale

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Stock is the value that decides: what is left of a product, and what was last
// applied to it. It is replaced by compare-and-swap only, and correctness rests
// on it alone. Always Available + Sold == Supplied.
type Stock struct {
	Product       ProductID  `json:"product"`
	Available     int64      `json:"available"` // units
	Sold          int64      `json:"sold"`      // units
	Supplied      int64      `json:"supplied"`  // units
	Decided       uint64     `json:"decided"`   // orders that got their first outcome
	Entries       uint64     `json:"entries"`   // of the ledger
	LimitPerBuyer int64      `json:"limit_per_buyer"`
	OpensAt       *time.Time `json:"opens_at"`
	ClosesAt      *time.Time `json:"closes_at"`
	Paused        bool       `json:"paused"`
	Last          *Last      `json:"last"`        // nil before the first decision
	LedgerHead    string     `json:"ledger_head"` // hash of the entry that belongs to Last
}

// Last is the ledger entry of the group that was decided last, frozen at its
// commit, and the outcome of each line. It holds the entry whole, so that the
// swap alone makes it durable: whoever finds it missing from the ledger can write
// it, with the queue's message already gone.
type Last struct {
	Head
	Outcomes []Outcome    `json:"outcomes"` // one per line of the message
	Orders   []EntryOrder `json:"orders"`   // of the entry

	encoded []byte // Orders as JSON, if somebody has encoded them already
}

// Entry is the ledger entry that the stock value carries.
func (s *Stock) Entry() *Entry {
	return &Entry{Product: s.Product, Head: s.Last.Head, Orders: s.Last.Orders}
}

// Head is a ledger entry without its orders; the figures are those after the group.
type Head struct {
	Epoch     string    `json:"epoch"`
	Seq       uint64    `json:"seq"`
	N         uint64    `json:"n"`    // 1, 2, 3 … per product, without gaps
	Prev      string    `json:"prev"` // lowercase hex SHA-256 of the previous entry's bytes, "" in the first
	Supplied  int64     `json:"supplied"`
	Available int64     `json:"available"`
	Decided   uint64    `json:"decided"`
	DecidedAt time.Time `json:"decided_at"`
}

// NewStock is a product's stock before anything was sold. It fails on an amount
// or a limit out of range.
func NewStock(product ProductID, supplied, limitPerBuyer int64) (Stock, error) {
	s := Stock{Product: product, Available: supplied, Supplied: supplied, LimitPerBuyer: limitPerBuyer}
	return s, s.Check()
}

// Check tells whether the figures can be true at all (P1, P8).
func (s *Stock) Check() error {
	switch {
	case s.Available < 0 || s.Sold < 0 || s.Supplied < 0 || s.Supplied > MaxUnits:
		return fmt.Errorf("units out of range: available %d, sold %d, supplied %d", s.Available, s.Sold, s.Supplied)
	case s.Available+s.Sold != s.Supplied:
		return fmt.Errorf("available %d + sold %d is not supplied %d", s.Available, s.Sold, s.Supplied)
	case s.LimitPerBuyer < 0 || s.LimitPerBuyer > MaxUnits:
		return fmt.Errorf("limit per buyer out of range: %d", s.LimitPerBuyer)
	case s.OpensAt != nil && s.ClosesAt != nil && !s.OpensAt.Before(*s.ClosesAt):
		return errors.New("it closes before it opens")
	}
	return nil
}

// Supply returns the stock with units more on offer, or fewer if units is
// negative. It fails if that would take away what is sold, or overflow.
func (s Stock) Supply(units int64) (Stock, error) {
	if units > MaxUnits || units < -MaxUnits {
		return s, errors.New("units out of range")
	}
	if s.Available+units < 0 {
		return s, fmt.Errorf("only %d are left", s.Available)
	}
	next := s
	next.Available += units
	next.Supplied += units
	return next, next.Check()
}

// applied tells how far this value is in the queue: whether the message at
// (epoch, seq) is the one applied last, or was settled before it.
func (s *Stock) applied(epoch string, seq uint64) (last, before bool) {
	if s.Last == nil || s.Last.Epoch != epoch {
		return false, false // a recreated stream begins its sequences again
	}
	return seq == s.Last.Seq, seq < s.Last.Seq
}

// Encode is the value as it is stored.
func (s *Stock) Encode() []byte {
	b := make([]byte, 0, 1024)
	if s.Last != nil {
		b = make([]byte, 0, 1024+272*len(s.Last.Outcomes))
	}
	b = append(b, `{"product":"`...)
	b = append(b, s.Product...)
	b = append(b, `","available":`...)
	b = strconv.AppendInt(b, s.Available, 10)
	b = append(b, `,"sold":`...)
	b = strconv.AppendInt(b, s.Sold, 10)
	b = append(b, `,"supplied":`...)
	b = strconv.AppendInt(b, s.Supplied, 10)
	b = append(b, `,"decided":`...)
	b = strconv.AppendUint(b, s.Decided, 10)
	b = append(b, `,"entries":`...)
	b = strconv.AppendUint(b, s.Entries, 10)
	b = append(b, `,"limit_per_buyer":`...)
	b = strconv.AppendInt(b, s.LimitPerBuyer, 10)
	b = append(b, `,"opens_at":`...)
	b = appendHour(b, s.OpensAt)
	b = append(b, `,"closes_at":`...)
	b = appendHour(b, s.ClosesAt)
	b = append(b, `,"paused":`...)
	b = strconv.AppendBool(b, s.Paused)
	b = append(b, `,"last":`...)
	b = s.Last.append(b)
	b = append(b, `,"ledger_head":"`...)
	b = append(b, s.LedgerHead...)
	return append(b, `"}`...)
}

func appendHour(b []byte, t *time.Time) []byte {
	if t == nil {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = appendTime(b, *t)
	return append(b, '"')
}

func (l *Last) append(b []byte) []byte {
	if l == nil {
		return append(b, "null"...)
	}
	b = append(b, `{"epoch":"`...)
	b = append(b, l.Epoch...)
	b = append(b, `","seq":`...)
	b = strconv.AppendUint(b, l.Seq, 10)
	b = append(b, `,"n":`...)
	b = strconv.AppendUint(b, l.N, 10)
	b = l.Head.appendFigures(b)
	b = append(b, `,"outcomes":[`...)
	for i, o := range l.Outcomes {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, o.String()...)
		b = append(b, '"')
	}
	b = append(b, `],"orders":`...)
	if l.encoded != nil {
		b = append(b, l.encoded...)
	} else {
		b = appendOrders(b, l.Orders)
	}
	return append(b, '}')
}

// DecodeStock reads a stored value and checks its figures. A newer instance may
// have written fields that this one does not know.
func DecodeStock(b []byte) (Stock, error) {
	var s Stock
	if err := json.Unmarshal(b, &s); err != nil {
		return Stock{}, fmt.Errorf("stock value: %w", err)
	}
	if _, err := ParseProductID(string(s.Product)); err != nil {
		return Stock{}, fmt.Errorf("stock value: product: %w", err)
	}
	if err := s.tidy(); err != nil {
		return Stock{}, fmt.Errorf("stock value of %s: %w", s.Product, err)
	}
	if err := s.Check(); err != nil {
		return Stock{}, fmt.Errorf("stock value of %s: %w", s.Product, err)
	}
	return s, nil
}

// tidy brings the times to the form in which they are written, and refuses what
// Encode could not write again.
func (s *Stock) tidy() error {
	for _, t := range []*time.Time{s.OpensAt, s.ClosesAt} {
		if t != nil {
			if *t = Instant(*t); t.Year() < 0 || t.Year() > 9999 {
				return errors.New("an hour out of range")
			}
		}
	}
	l := s.Last
	if !plain(s.LedgerHead) {
		return errors.New("ledger_head is not what firstcome writes")
	}
	if l == nil {
		return nil
	}
	if l.DecidedAt = Instant(l.DecidedAt); l.DecidedAt.Year() < 0 || l.DecidedAt.Year() > 9999 || !plain(l.Epoch) || !plain(l.Prev) {
		return errors.New("epoch, prev or decided_at of the last entry is not what firstcome writes")
	}
	alive := 0
	for _, o := range l.Outcomes {
		switch {
		case o == Pending || o > Dead:
			return errors.New("an outcome that no line can have")
		case o != Dead:
			if alive >= len(l.Orders) || l.Orders[alive].Outcome != o {
				return errors.New("the outcomes are not those of the orders")
			}
			alive++
		}
	}
	if alive != len(l.Orders) {
		return errors.New("the outcomes are not those of the orders")
	}
	return nil
}

// PeekStock reads a stored value without its last entry and ledger head, which are
// nearly all of its bytes: what a door needs, many times a second.
func PeekStock(b []byte) (Stock, error) {
	var s Stock
	if readOwnStock(b, &s) && s.Check() == nil {
		return s, nil
	}
	s, err := DecodeStock(b)
	s.Last, s.LedgerHead = nil, ""
	return s, err
}

// readOwnStock reads the fields before last as Encode writes them, and tells
// whether they are that.
func readOwnStock(b []byte, stock *Stock) bool {
	s := scan{b: b}
	s.lit(`{"product":"`)
	product := s.until('"')
	s.lit(`,"available":`)
	stock.Available = int64(s.uint())
	s.lit(`,"sold":`)
	stock.Sold = int64(s.uint())
	s.lit(`,"supplied":`)
	stock.Supplied = int64(s.uint())
	s.lit(`,"decided":`)
	stock.Decided = s.uint()
	s.lit(`,"entries":`)
	stock.Entries = s.uint()
	s.lit(`,"limit_per_buyer":`)
	stock.LimitPerBuyer = int64(s.uint())
	s.lit(`,"opens_at":`)
	opens := s.hour()
	s.lit(`,"closes_at":`)
	closes := s.hour()
	s.lit(`,"paused":`)
	if stock.Paused = s.has("true"); !stock.Paused {
		s.lit("false")
	}
	s.lit(`,"last":`)
	stock.OpensAt, stock.ClosesAt = opens, closes
	id, err := ParseProductID(string(product))
	stock.Product = id
	return !s.bad && err == nil
}

func (s *scan) hour() *time.Time {
	if s.has("null") {
		return nil
	}
	s.lit(`"`)
	t, err := parseTime(s.until('"'))
	if err != nil {
		s.bad = true
	}
	return &t
}
