package sale

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// MaxLines is how many lines one queue message may carry. A message over it is
// no group that firstcome wrote, and goes to the dead letters whole: with it,
// every link stays under NATS' default payload of 1 MiB.
const MaxLines = 1000

// maxDesk is how many bytes of desk lines one queue message may carry, for the same
// reason: a byte of a text takes up to six in the link.
const maxDesk = 128 << 10

// Message is what the queue stored: one or more orders of one product, or desk lines,
// one JSON object a line, in arrival order.
type Message struct {
	Product  ProductID
	Desk     bool   // its lines are the desk's
	Epoch    string // of the queue's stream, RFC 3339
	Seq      uint64 // the stream's sequence, which is the order of decision (P2)
	StoredAt time.Time
	Data     []byte
}

// Position is the message's place in the queue.
func (m *Message) Position() Position { return Position{Epoch: m.Epoch, Seq: m.Seq} }

// Line is one line of a message: an order or a desk line, or the reason why it is none.
type Line struct {
	N     int // counts from 1
	Raw   []byte
	Order Order
	Desk  *DeskLine // of the desk; Order is then empty
	Err   error
}

// Lines reads a message. It never fails: what cannot be read is a Line with Err,
// so that poison is set aside without stopping the line. Empty lines and a CR at
// a line's end are dropped before counting; a message without any line, with more
// than MaxLines, or with too many bytes for the desk is one bad line. Raw aliases the
// message's data.
func (m *Message) Lines() []Line {
	if m.Desk && len(m.Data) > maxDesk {
		return []Line{{N: 1, Raw: m.Data, Err: fmt.Errorf("more than %d bytes of desk lines", maxDesk)}}
	}
	lines := make([]Line, 0, min(1+bytes.Count(m.Data, newline), MaxLines))
	for rest, more := m.Data, true; more; {
		var raw []byte
		raw, rest, more = bytes.Cut(rest, newline)
		raw = bytes.TrimSuffix(raw, []byte{'\r'})
		if len(raw) == 0 {
			continue
		}
		if len(lines) == MaxLines {
			return []Line{{N: 1, Raw: m.Data, Err: fmt.Errorf("more than %d lines", MaxLines)}}
		}
		lines = append(lines, Line{N: len(lines) + 1, Raw: raw})
	}
	if len(lines) == 0 {
		return []Line{{N: 1, Raw: m.Data, Err: errors.New("no line")}}
	}
	for i := range lines {
		l := &lines[i]
		switch {
		case m.Desk:
			l.Desk, l.Err = m.readDeskLine(l.N, l.Raw)
		case !readOwnLine(l.Raw, &l.Order):
			l.Order, l.Err = m.readLine(l.N, l.Raw)
		}
	}
	return lines
}

var newline = []byte{'\n'}

// AppendLine appends the order as a queue line, without the newline.
func (o *Order) AppendLine(dst []byte) []byte {
	dst = append(dst, `{"id":"`...)
	dst = o.ID.AppendText(dst)
	dst = append(dst, `","email":"`...)
	dst = append(dst, o.Email...)
	dst = append(dst, `","quantity":`...)
	dst = strconv.AppendInt(dst, int64(o.Quantity), 10)
	dst = append(dst, `,"placed_at":"`...)
	dst = appendTime(dst, o.PlacedAt)
	return append(dst, `"}`...)
}

// readOwnLine reads exactly what AppendLine writes, and tells whether it did:
// nearly every line is one, and this is several times faster than the general
// reader, which decides about all others. A fuzz test holds the two together.
func readOwnLine(b []byte, o *Order) bool {
	s := scan{b: b}
	s.lit(`{"id":"`)
	id := s.until('"')
	s.lit(`,"email":"`)
	email := s.until('"')
	s.lit(`,"quantity":`)
	quantity := s.uint()
	s.lit(`,"placed_at":"`)
	placed := s.until('"')
	s.lit(`}`)
	if !s.done() || quantity < 1 || quantity > MaxQuantity {
		return false
	}
	var err error
	if o.ID, err = ParseOrderID(id); err != nil {
		return false
	}
	if o.PlacedAt, err = parseTime(placed); err != nil {
		return false
	}
	if o.Email, err = ParseEmail(string(email)); err != nil {
		return false
	}
	o.Quantity = int(quantity)
	return true
}

// readLine reads any line by the rules for orders published by hand: unknown
// fields are ignored, null is missing, a missing id is derived from the place in
// the queue, a missing quantity is 1, a missing placed_at the message's time.
func (m *Message) readLine(n int, raw []byte) (Order, error) {
	var fields map[string]json.RawMessage // a struct would match names in any case
	if err := json.Unmarshal(raw, &fields); err != nil || fields == nil {
		return Order{}, errors.New("not a JSON object")
	}
	for name, v := range fields {
		if string(v) == "null" {
			delete(fields, name)
		}
	}
	o := Order{Quantity: 1, PlacedAt: Instant(m.StoredAt)}
	var err error
	email, ok := fields["email"]
	if !ok {
		return Order{}, errors.New("email is missing")
	}
	if o.Email, err = readField(email, ParseEmail); err != nil {
		return Order{}, fmt.Errorf("email: %w", err)
	}
	if v, ok := fields["id"]; !ok {
		o.ID = lineID(m.Epoch, m.Seq, n)
	} else if o.ID, err = readField(v, ParseOrderID[string]); err != nil {
		return Order{}, fmt.Errorf("id: %w", err)
	}
	if v, ok := fields["quantity"]; ok {
		if o.Quantity, err = ParseQuantity(string(v)); err != nil {
			return Order{}, fmt.Errorf("quantity: %w", err)
		}
	}
	if v, ok := fields["placed_at"]; ok {
		if o.PlacedAt, err = readField(v, func(s string) (time.Time, error) { return parseTime([]byte(s)) }); err != nil {
			return Order{}, fmt.Errorf("placed_at: %w", err)
		}
	}
	return o, nil
}

func readField[T any](raw json.RawMessage, parse func(string) (T, error)) (T, error) {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		var zero T
		return zero, errors.New("not a string")
	}
	return parse(s)
}

// ErrQuantity is returned for anything but a whole number from 1 to MaxQuantity.
var ErrQuantity = fmt.Errorf("not a whole number from 1 to %d", MaxQuantity)

// ParseQuantity reads a JSON number or a form's text: digits only, so 1.0, 1e2
// and +1 are refused like anything out of range. It returns ErrQuantity.
func ParseQuantity(s string) (int, error) {
	if s == "" || len(s) > 4 || s[0] == '0' {
		return 0, ErrQuantity
	}
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, ErrQuantity
		}
		n = 10*n + int(s[i]-'0')
	}
	if n > MaxQuantity {
		return 0, ErrQuantity
	}
	return n, nil
}
