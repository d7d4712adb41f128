package sale

import "time"

// Stock is what is left of a product, and the terms on which it is sold. Always
// Available + Held + Sold == Supplied.
type Stock struct {
	Product       ProductID
	Available     int64      // units
	Held          int64      // units, 0 until there are holds
	Sold          int64      // units
	Supplied      int64      // units
	Decided       uint64     // orders that got their first outcome
	LimitPerBuyer int64      // units, 0: none
	OpensAt       *time.Time // nil: open
	ClosesAt      *time.Time // nil: never
	Paused        bool
}

// addsUp tells whether the figures can be true at all (P1, P8).
func (s *Stock) addsUp() bool {
	return s.Available >= 0 && s.Held >= 0 && s.Sold >= 0 && s.LimitPerBuyer >= 0 &&
		s.Available <= s.Supplied && s.Held <= s.Supplied-s.Available && s.Sold == s.Supplied-s.Available-s.Held
}

// supply puts units more on offer, or fewer if units is negative.
func (s *Stock) supply(units int64) Refusal {
	switch {
	case units < -s.Available:
		return NotEnough
	case units > MaxUnits-s.Supplied:
		return OutOfRange
	}
	s.Available += units
	s.Supplied += units
	return ""
}
