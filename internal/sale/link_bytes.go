package sale

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// Encode is the link as it is stored. It holds buyers as tokens, so no "@" but those
// that an operator writes. The fields' order is part of the layout: the bytes are what
// is hashed.
func (l *Link) Encode() []byte {
	b := make([]byte, 0, 512+256*len(l.Orders))
	b = append(b, `{"v":2,"product":"`...)
	b = append(b, l.Product...)
	b = append(b, `","n":`...)
	b = strconv.AppendUint(b, l.N, 10)
	b = append(b, `,"prev":"`...)
	b = append(b, l.Prev...)
	b = append(b, `","at":"`...)
	b = appendTime(b, l.At)
	b = append(b, `","by":"`...)
	b = append(b, l.By...)
	b = append(b, `","available":`...)
	b = strconv.AppendInt(b, l.Available, 10)
	b = append(b, `,"held":`...)
	b = strconv.AppendInt(b, l.Held, 10)
	b = append(b, `,"sold":`...)
	b = strconv.AppendInt(b, l.Sold, 10)
	b = append(b, `,"supplied":`...)
	b = strconv.AppendInt(b, l.Supplied, 10)
	b = append(b, `,"decided":`...)
	b = strconv.AppendUint(b, l.Decided, 10)
	b = append(b, `,"limit_per_buyer":`...)
	b = strconv.AppendInt(b, l.LimitPerBuyer, 10)
	b = append(b, `,"opens_at":`...)
	b = appendHour(b, l.OpensAt)
	b = append(b, `,"closes_at":`...)
	b = appendHour(b, l.ClosesAt)
	b = append(b, `,"paused":`...)
	b = strconv.AppendBool(b, l.Paused)
	b = append(b, `,"queue":{"epoch":"`...)
	b = append(b, l.Queue.Epoch...)
	b = append(b, `","seq":`...)
	b = strconv.AppendUint(b, l.Queue.Seq, 10)
	b = append(b, `},"change":"`...)
	b = append(b, l.Change...)
	b = append(b, '"')
	switch l.Change {
	case OrdersTaken:
		b = append(b, `,"orders":[`...)
		for i := range l.Orders {
			b = l.Orders[i].append(separated(b, i))
		}
		b = append(b, ']')
	case DeskTaken:
		b = append(b, `,"desk":[`...)
		for i := range l.Desk {
			b = l.Desk[i].append(separated(b, i))
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

func separated(b []byte, i int) []byte {
	if i > 0 {
		return append(b, ',')
	}
	return b
}

func appendHour(b []byte, t *time.Time) []byte {
	if t == nil {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = appendTime(b, *t)
	return append(b, '"')
}

func (o *DecidedOrder) append(b []byte) []byte {
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

func (l *DecidedLine) append(b []byte) []byte {
	b = l.DeskLine.append(b)
	if l.Refused != "" {
		b = append(b, `,"refused":"`...)
		b = append(b, l.Refused...)
		b = append(b, '"')
	}
	return append(b, '}')
}

// append leaves the object open.
func (l *DeskLine) append(b []byte) []byte {
	b = append(b, `{"id":"`...)
	b = l.ID.AppendText(b)
	b = append(b, `","do":"`...)
	b = append(b, l.Do...)
	b = append(b, '"')
	b = appendNumber(b, "units", l.Units)
	b = appendNumber(b, "available", l.Available)
	b = appendNumber(b, "limit_per_buyer", l.LimitPerBuyer)
	for _, h := range []struct {
		name string
		hour *Hour
	}{{"opens_at", l.OpensAt}, {"closes_at", l.ClosesAt}} {
		if h.hour != nil {
			b = appendHour(appendName(b, h.name), h.hour.At)
		}
	}
	if l.Paused != nil {
		b = strconv.AppendBool(appendName(b, "paused"), *l.Paused)
	}
	b = appendText(b, "by", l.By)
	return appendText(b, "why", l.Why)
}

func appendName(b []byte, name string) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	return append(b, '"', ':')
}

func appendNumber(b []byte, name string, n *int64) []byte {
	if n == nil {
		return b
	}
	return strconv.AppendInt(appendName(b, name), *n, 10)
}

func appendText(b []byte, name, text string) []byte {
	if text == "" {
		return b
	}
	quoted, _ := json.Marshal(text) // a string can always be written
	return append(appendName(b, name), quoted...)
}

// readOwnLink reads what Encode writes for orders, and tells whether it did: a million
// orders are read at start, and this is many times faster than the general reader. A
// fuzz test holds the two together.
func readOwnLink(b []byte, l *Link) bool {
	s := scan{b: b}
	s.lit(`{"v":2,"product":"`)
	l.Product = ProductID(s.plain())
	s.lit(`,"n":`)
	l.N = s.uint()
	s.lit(`,"prev":"`)
	l.Prev = s.plain()
	s.lit(`,"at":"`)
	l.At = s.time()
	s.lit(`,"by":"`)
	l.By = s.plain()
	s.lit(`,"available":`)
	l.Available = int64(s.uint())
	s.lit(`,"held":`)
	l.Held = int64(s.uint())
	s.lit(`,"sold":`)
	l.Sold = int64(s.uint())
	s.lit(`,"supplied":`)
	l.Supplied = int64(s.uint())
	s.lit(`,"decided":`)
	l.Decided = s.uint()
	s.lit(`,"limit_per_buyer":`)
	l.LimitPerBuyer = int64(s.uint())
	s.lit(`,"opens_at":`)
	l.OpensAt = s.hour()
	s.lit(`,"closes_at":`)
	l.ClosesAt = s.hour()
	s.lit(`,"paused":`)
	if l.Paused = s.has("true"); !l.Paused {
		s.lit("false")
	}
	s.lit(`,"queue":{"epoch":"`)
	l.Queue.Epoch = s.plain()
	s.lit(`,"seq":`)
	l.Queue.Seq = s.uint()
	s.lit(`},"change":"orders","orders":[`)
	l.Change = OrdersTaken
	if s.bad {
		return false
	}
	l.Orders = nil
	if n := bytes.Count(s.b, []byte(`{"id":"`)); n > 0 {
		l.Orders = make([]DecidedOrder, 0, n)
	}
	for !s.has("]") {
		if len(l.Orders) > 0 {
			s.lit(",")
		}
		var o DecidedOrder
		if !o.read(&s) {
			return false
		}
		l.Orders = append(l.Orders, o)
	}
	s.lit("}")
	return s.done()
}

func (o *DecidedOrder) read(s *scan) bool {
	s.lit(`{"id":"`)
	id := s.until('"')
	s.lit(`,"buyer":"`)
	buyer := s.until('"')
	s.lit(`,"quantity":`)
	o.Quantity = int(s.uint())
	s.lit(`,"placed_at":"`)
	o.PlacedAt = s.time()
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
	if o.Outcome, ok = parseOutcome(string(outcome)); !ok || !o.Outcome.Final() && o.Outcome != Duplicate {
		return false
	}
	var err error
	if o.ID, err = ParseOrderID(id); err != nil {
		return false
	}
	o.Email, err = ParseToken(string(buyer))
	return err == nil
}
