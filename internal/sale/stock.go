package sale

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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

// Last is the head of the ledger entry of the group that was decided last, frozen
// at its commit, and the outcomes: with the message they make the entry again.
type Last struct {
	Head
	Outcomes []Outcome `json:"outcomes"` // one per line of the message
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
	b, err := json.Marshal(s)
	if err != nil {
		panic("sale: a stock that cannot be encoded: " + err.Error()) // only a year past 9999 could
	}
	return b
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
	if s.Last != nil && slices.ContainsFunc(s.Last.Outcomes, func(o Outcome) bool { return o == Pending || o > Dead }) {
		return Stock{}, fmt.Errorf("stock value of %s: an outcome that no line can have", s.Product)
	}
	if err := s.Check(); err != nil {
		return Stock{}, fmt.Errorf("stock value of %s: %w", s.Product, err)
	}
	return s, nil
}
