package sale

import (
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"strconv"
	"time"
)

// OrderID is a UUID (RFC 9562).
type OrderID [16]byte

// Namespace is the UUID under which order ids are derived (version 5): the
// version 5 UUID of "firstcome" in RFC 9562's DNS namespace, be95114f-63d0-559c-9bd5-5b132e1a482e.
var Namespace = OrderID{0xbe, 0x95, 0x11, 0x4f, 0x63, 0xd0, 0x55, 0x9c, 0x9b, 0xd5, 0x5b, 0x13, 0x2e, 0x1a, 0x48, 0x2e}

// ErrOrderID is returned for a text that is no UUID in its 36-character form.
var ErrOrderID = errors.New("not an order id")

// ParseOrderID reads the 36-character form, in either case. It returns ErrOrderID.
func ParseOrderID[T string | []byte](s T) (id OrderID, err error) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return OrderID{}, ErrOrderID
	}
	at := 0
	for i := range id {
		if at == 8 || at == 13 || at == 18 || at == 23 {
			at++
		}
		hi, lo := unhex[s[at]], unhex[s[at+1]]
		if hi|lo > 15 {
			return OrderID{}, ErrOrderID
		}
		id[i] = hi<<4 | lo
		at += 2
	}
	return id, nil
}

var unhex = func() (v [256]byte) {
	for i := range v {
		v[i] = 0xff
	}
	for i := range byte(10) {
		v['0'+i] = i
	}
	for i := range byte(6) {
		v['a'+i], v['A'+i] = 10+i, 10+i
	}
	return v
}()

// AppendText appends the lowercase 36-character form.
func (id OrderID) AppendText(dst []byte) []byte {
	dst = hex.AppendEncode(dst, id[0:4])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, id[4:6])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, id[6:8])
	dst = append(dst, '-')
	dst = hex.AppendEncode(dst, id[8:10])
	dst = append(dst, '-')
	return hex.AppendEncode(dst, id[10:16])
}

// String is the lowercase 36-character form.
func (id OrderID) String() string { return string(id.AppendText(make([]byte, 0, 36))) }

// KeyedID is the id of the order that a buyer sent under an Idempotency-Key: the
// same buyer, product and key are the same order (P4), on every instance and
// after every restart.
func KeyedID(buyer Email, product ProductID, key string) OrderID {
	return derive(string(buyer) + "\n" + string(product) + "\n" + key)
}

// lineID is the id of an order that came without one: its place in the queue.
func lineID(epoch string, seq uint64, line int) OrderID {
	return derive(epoch + "\n" + strconv.FormatUint(seq, 10) + "\n" + strconv.Itoa(line))
}

func derive(name string) (id OrderID) {
	h := sha1.New() // what RFC 9562 5.5 asks for; nothing secret hangs on it
	h.Write(Namespace[:])
	h.Write([]byte(name))
	copy(id[:], h.Sum(nil))
	id[6] = id[6]&0x0f | 0x50
	id[8] = id[8]&0x3f | 0x80
	return id
}

// Order is a buyer's wish, as it stands in the queue.
type Order struct {
	ID       OrderID
	Email    Email
	Quantity int       // units, 1 to MaxQuantity
	PlacedAt time.Time // UTC, whole microseconds
}

// Instant is t as firstcome keeps times: UTC, whole microseconds, no monotonic part.
func Instant(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// Outcome is what became of an order.
type Outcome uint8

// The outcomes. Pending is the only one that changes. Duplicate and Dead are
// outcomes of a line in a message, never of an order: the first line of an order
// decides it (P4), and a line that cannot be read is no order.
const (
	Pending Outcome = iota
	Accepted
	SoldOut
	LimitReached
	Duplicate
	Dead
)

var outcomeNames = [...]string{"pending", "accepted", "sold_out", "limit_reached", "duplicate", "dead"}

// String is the name in JSON.
func (o Outcome) String() string { return outcomeNames[o] }

// Final tells whether an order keeps this outcome for good (P4).
func (o Outcome) Final() bool { return o == Accepted || o == SoldOut || o == LimitReached }

// Message is what a buyer is told.
func (o Outcome) Message() string {
	switch o {
	case Accepted:
		return "Your order has been approved"
	case SoldOut:
		return "Sorry, we are out of stock"
	case LimitReached:
		return "Sorry, you have reached the limit for this product"
	default:
		return "Your order is in the queue"
	}
}

func parseOutcome(s string) (Outcome, bool) {
	for o, name := range outcomeNames {
		if s == name {
			return Outcome(o), true
		}
	}
	return 0, false
}

// MarshalText writes the name.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads the name.
func (o *Outcome) UnmarshalText(b []byte) error {
	got, ok := parseOutcome(string(b))
	if !ok {
		return errors.New("unknown outcome " + strconv.Quote(string(b)))
	}
	*o = got
	return nil
}

// Status is what a buyer sees of an order.
type Status struct {
	Order
	Product   ProductID
	Outcome   Outcome   // Pending or a final one
	Place     uint64    // 1-based among all decided orders of the product; 0 while pending
	Turn      uint64    // while pending: 1 if the product's next decided order is this one; 0: unknown
	DecidedAt time.Time // zero while pending
}

// Rev rises with every change of the order, so that a reader who keeps the
// highest never goes back (P6).
func (s *Status) Rev() int {
	if s.Outcome == Pending {
		return 0
	}
	return 1
}

// AppendJSON appends the status as the API and the status subject show it. No
// field can hold a character that JSON would have to escape.
func (s *Status) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"id":"`...)
	dst = s.ID.AppendText(dst)
	dst = append(dst, `","product":"`...)
	dst = append(dst, s.Product...)
	dst = append(dst, `","email":"`...)
	dst = append(dst, s.Email...)
	dst = append(dst, `","quantity":`...)
	dst = strconv.AppendInt(dst, int64(s.Quantity), 10)
	dst = append(dst, `,"status":"`...)
	dst = append(dst, s.Outcome.String()...)
	dst = append(dst, `","message":"`...)
	dst = append(dst, s.Outcome.Message()...)
	dst = append(dst, '"')
	if s.Place > 0 {
		dst = append(dst, `,"place":`...)
		dst = strconv.AppendUint(dst, s.Place, 10)
	} else if s.Turn > 0 {
		dst = append(dst, `,"ahead":`...)
		dst = strconv.AppendUint(dst, s.Turn-1, 10)
	}
	dst = append(dst, `,"rev":`...)
	dst = strconv.AppendInt(dst, int64(s.Rev()), 10)
	dst = append(dst, `,"placed_at":"`...)
	dst = appendTime(dst, s.PlacedAt)
	if !s.DecidedAt.IsZero() {
		dst = append(dst, `","decided_at":"`...)
		dst = appendTime(dst, s.DecidedAt)
	}
	return append(dst, `"}`...)
}

func appendTime(dst []byte, t time.Time) []byte { return t.AppendFormat(dst, time.RFC3339Nano) }
