package sale

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode"
	"unicode/utf8"
)

// Do says what a desk line asks for.
type Do string

// What the desk can do.
const (
	DoSupply Do = "supply" // put units on offer, or take them back
	DoTerms  Do = "terms"  // change limit, hours or pause
)

// Bounds of what an operator says with a line, in bytes.
const (
	MaxBy  = 64
	MaxWhy = 500
)

// DeskLine is an operator's change of a product, as it stands in the queue. A field
// that is nil is not named and changes nothing.
type DeskLine struct {
	ID OrderID // its own: a line that comes again under it is a duplicate (P4)
	Do Do

	// Of a supply, exactly one.
	Units     *int64 // more on offer, or below 0 fewer
	Available *int64 // left after it

	// Of terms, at least one.
	LimitPerBuyer *int64 // units, 0: none
	OpensAt       *Hour
	ClosesAt      *Hour
	Paused        *bool

	By  string // the operator; may be empty
	Why string // may be empty
}

// AppendLine appends the line as the queue holds it, without the newline.
func (l *DeskLine) AppendLine(dst []byte) []byte { return append(l.append(dst), '}') }

// Pauses tells whether the line closes the door. That holds from when an instance
// hears of it: an operator who pauses does not want to wait for the queue.
func (l *DeskLine) Pauses() bool { return l.Paused != nil && *l.Paused }

// readDeskLine reads a desk line by the rules for those published by hand: null is
// missing but for an hour, and a missing id is derived from the place in the queue.
// Anything unknown is an error: an operator who misspells a field must hear of it.
func (m *Message) readDeskLine(n int, raw []byte) (*DeskLine, error) {
	fields, err := object(raw)
	if err != nil {
		return nil, err
	}
	line, err := readDeskFields(fields, true)
	if err != nil {
		return nil, err
	}
	if _, given := fields["id"]; !given {
		line.ID = lineID(m.Epoch, m.Seq, n)
	}
	return &line, nil
}

// readDeskFields reads a line's fields, all but a missing id. Unknown ones are an error
// where strict says so.
func readDeskFields(fields map[string]json.RawMessage, strict bool) (line DeskLine, err error) {
	maps.DeleteFunc(fields, func(name string, v json.RawMessage) bool {
		return string(v) == "null" && slices.Contains(nullIsMissing, name)
	})
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		switch err := line.set(name, fields[name]); {
		case err == errUnknownField && strict:
			return line, fmt.Errorf("%w %s", err, quoted(name))
		case err != nil && err != errUnknownField:
			return line, fmt.Errorf("%s: %w", name, err)
		}
	}
	return line, line.Check()
}

// nullIsMissing are the fields in which null says nothing. In an hour it is none, and a
// field that is not known is an error whatever it holds.
var nullIsMissing = []string{"id", "do", "units", "available", "limit_per_buyer", "paused", "by", "why"}

var errUnknownField = errors.New("unknown field")

func (l *DeskLine) set(name string, raw json.RawMessage) (err error) {
	switch name {
	case "id":
		l.ID, err = readField(raw, ParseOrderID[string])
	case "do":
		var do string
		do, err = parseText(raw)
		l.Do = Do(do)
	case "units":
		l.Units, err = pointer(parseNumber(raw))
	case "available":
		l.Available, err = pointer(parseNumber(raw))
	case "limit_per_buyer":
		l.LimitPerBuyer, err = pointer(parseNumber(raw))
	case "opens_at":
		l.OpensAt, err = pointer(parseHour(raw))
	case "closes_at":
		l.ClosesAt, err = pointer(parseHour(raw))
	case "paused":
		l.Paused, err = pointer(parseFlag(raw))
	case "by":
		l.By, err = parseText(raw)
	case "why":
		l.Why, err = parseText(raw)
	default:
		return errUnknownField
	}
	return err
}

func pointer[T any](v T, err error) (*T, error) { return &v, err }

// Check tells what is wrong with the line by itself, whatever the stock is.
func (l *DeskLine) Check() error {
	terms := l.LimitPerBuyer != nil || l.OpensAt != nil || l.ClosesAt != nil || l.Paused != nil
	switch {
	case l.Do == "":
		return errors.New("do is missing")
	case l.Do != DoSupply && l.Do != DoTerms:
		return fmt.Errorf("do must be %s or %s", DoSupply, DoTerms)
	case l.Do == DoSupply && terms:
		return errors.New("a supply changes no terms")
	case l.Do == DoSupply && (l.Units == nil) == (l.Available == nil):
		return errors.New("a supply needs units or available, and not both")
	case l.Do == DoTerms && (l.Units != nil || l.Available != nil):
		return errors.New("terms change no units")
	case l.Do == DoTerms && !terms:
		return errors.New("terms need limit_per_buyer, opens_at, closes_at or paused")
	case l.Units != nil && (*l.Units == 0 || *l.Units < -MaxUnits || *l.Units > MaxUnits):
		return fmt.Errorf("units must be from -%d to %d, and not 0", int64(MaxUnits), int64(MaxUnits))
	case l.Available != nil && (*l.Available < 0 || *l.Available > MaxUnits):
		return fmt.Errorf("available must be from 0 to %d", int64(MaxUnits))
	case l.LimitPerBuyer != nil && (*l.LimitPerBuyer < 0 || *l.LimitPerBuyer > MaxUnits):
		return fmt.Errorf("limit_per_buyer must be from 0 to %d", int64(MaxUnits))
	}
	if err := checkText(l.By, MaxBy); err != nil {
		return fmt.Errorf("by: %w", err)
	}
	if err := checkText(l.Why, MaxWhy); err != nil {
		return fmt.Errorf("why: %w", err)
	}
	return nil
}

func checkText(text string, max int) error {
	if len(text) > max {
		return fmt.Errorf("more than %d bytes", max)
	}
	if !utf8.ValidString(text) {
		return errors.New("not UTF-8")
	}
	for _, r := range text {
		if unicode.IsControl(r) {
			return errors.New("a control character")
		}
	}
	return nil
}

// Refusal is why a desk line had no effect; "" if it had one.
type Refusal string

// The refusals.
const (
	DuplicateLine     Refusal = "duplicate"           // the product's history has its id
	NotEnough         Refusal = "not-enough"          // it takes back more than is available
	OutOfRange        Refusal = "out-of-range"        // more than MaxUnits would be supplied
	ClosesBeforeOpens Refusal = "closes-before-opens" // after the change
)

// steer decides desk lines in order, each on what the one before left. A line that
// cannot be read is passed over. Like Decide it is pure.
func steer(stock Stock, past Past, lines []Line) (Stock, []DecidedLine) {
	decided := make([]DecidedLine, 0, len(lines))
	seen := make(map[OrderID]struct{}, len(lines))
	for i := range lines {
		line := lines[i].Desk
		if lines[i].Err != nil {
			continue
		}
		var refused Refusal
		if _, again := seen[line.ID]; again || past.Steered(line.ID, stock.Product) {
			refused = DuplicateLine
		} else if next, no := line.apply(stock); no == "" {
			stock = next
		} else {
			refused = no
		}
		seen[line.ID] = struct{}{}
		decided = append(decided, DecidedLine{DeskLine: *line, Refused: refused})
	}
	return stock, decided
}

// apply is the stock with the line's change.
func (l *DeskLine) apply(stock Stock) (Stock, Refusal) {
	if l.Do == DoSupply {
		var units int64
		if l.Units != nil {
			units = *l.Units
		} else {
			units = *l.Available - stock.Available
		}
		refused := stock.supply(units)
		return stock, refused
	}
	if l.LimitPerBuyer != nil {
		stock.LimitPerBuyer = *l.LimitPerBuyer
	}
	if l.OpensAt != nil {
		stock.OpensAt = l.OpensAt.At
	}
	if l.ClosesAt != nil {
		stock.ClosesAt = l.ClosesAt.At
	}
	if l.Paused != nil {
		stock.Paused = *l.Paused
	}
	if stock.OpensAt != nil && stock.ClosesAt != nil && !stock.OpensAt.Before(*stock.ClosesAt) {
		return stock, ClosesBeforeOpens
	}
	return stock, ""
}
