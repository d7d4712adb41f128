package sale

import (
	"errors"
	"time"
)

// ProductID names what is sold: [a-z0-9][a-z0-9_-]{0,62}, so it is a legal NATS
// subject token, consumer name and KV key as it stands.
type ProductID string

// MaxQuantity is the most units that one order may ask for; the least is 1.
const MaxQuantity = 1000

// MaxUnits bounds every count of units of a product, so that sums cannot overflow.
const MaxUnits = 1_000_000_000_000

// Refusals that concern a product.
var (
	// ErrProduct: the text is not a product id at all.
	ErrProduct = errors.New("not a product id")
	// ErrUnknownProduct: a well-formed id that nobody sells.
	ErrUnknownProduct = errors.New("unknown product")
)

// ParseProductID checks s. It returns ErrProduct.
func ParseProductID(s string) (ProductID, error) {
	if len(s) < 1 || len(s) > 63 || s[0] == '_' || s[0] == '-' {
		return "", ErrProduct
	}
	for i := 0; i < len(s); i++ {
		if !plainToken[s[i]] {
			return "", ErrProduct
		}
	}
	return ProductID(s), nil
}

// State is what a product's door says to new orders at some moment.
type State string

// The states of a product, in the order in which they are looked at: a sale that
// has not opened yet says so even while it is paused.
const (
	StateClosed  State = "closed"
	StateNotOpen State = "not_open"
	StatePaused  State = "paused"
	StateSoldOut State = "sold_out"
	StateStuck   State = "stuck" // it would be open, and orders are not decided just now
	StateOpen    State = "open"
)

// State tells what the door says at now. Only the door asks: an order that is in
// the queue already is decided whatever the state has become.
func (s *Stock) State(now time.Time) State {
	switch {
	case s.ClosesAt != nil && !now.Before(*s.ClosesAt):
		return StateClosed
	case s.OpensAt != nil && now.Before(*s.OpensAt):
		return StateNotOpen
	case s.Paused:
		return StatePaused
	case s.Available <= 0:
		return StateSoldOut
	default:
		return StateOpen
	}
}
