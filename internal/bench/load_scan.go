package bench

import (
	"bytes"
	"strconv"

	"github.com/google/uuid"
)

// fields walks the members of one JSON object without decoding them: the
// generator needs three of a status's ten. It accepts every valid object and
// stops at the first thing that is none; it does not prove validity. Keys are
// compared as written, so an escaped key is not recognized.
type fields struct{ rest []byte }

// members starts a walk; anything but an object has no members.
func members(object []byte) fields {
	object = skipSpace(object)
	if len(object) == 0 || object[0] != '{' {
		return fields{}
	}
	return fields{rest: object[1:]}
}

// next returns the next member's key, without quotes, and its value as written.
func (f *fields) next() (key, value []byte, ok bool) {
	b := skipSpace(f.rest)
	if len(b) > 0 && b[0] == ',' {
		b = skipSpace(b[1:])
	}
	f.rest = nil
	n := stringEnd(b)
	if n == 0 {
		return nil, nil, false
	}
	key, b = b[1:n-1], skipSpace(b[n:])
	if len(b) == 0 || b[0] != ':' {
		return nil, nil, false
	}
	b = skipSpace(b[1:])
	n = valueEnd(b)
	if n == 0 {
		return nil, nil, false
	}
	f.rest = b[n:]
	return key, b[:n], true
}

func skipSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\n' || b[0] == '\t' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// stringEnd is the length of the string that b starts with, quotes included;
// 0: none.
func stringEnd(b []byte) int {
	if len(b) == 0 || b[0] != '"' {
		return 0
	}
	for i := 1; i < len(b); {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return 0
		}
		end := i + n
		slashes := 0
		for slashes < n && b[end-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return end + 1
		}
		i = end + 1
	}
	return 0
}

// valueEnd is the length of the value that b starts with; 0: none.
func valueEnd(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	if b[0] == '"' {
		return stringEnd(b)
	}
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			n := stringEnd(b[i:])
			if n == 0 {
				return 0
			}
			i += n - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // the end of a number or literal
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return 0
}

// outcome is an order's state as far as this package tells states apart.
type outcome uint8

const (
	unknown outcome = iota
	pending
	accepted
	soldOut
	limitReached
	outcomes // how many there are
)

func (o outcome) String() string {
	return [outcomes]string{"unknown", "pending", "accepted", "sold_out", "limit_reached"}[o]
}

func (o outcome) final() bool { return o > pending }

func parseOutcome(quoted []byte) outcome {
	switch string(quoted) {
	case `"pending"`:
		return pending
	case `"accepted"`:
		return accepted
	case `"sold_out"`:
		return soldOut
	case `"limit_reached"`:
		return limitReached
	}
	return unknown
}

// orderStatus is what the bench reads of a status object.
type orderStatus struct {
	id      uuid.UUID
	outcome outcome
	place   int64 // 0: none
}

// parseStatus reads a status object; without a readable id and state it is none.
func parseStatus(object []byte) (s orderStatus, ok bool) {
	var seen bool
	f := members(object)
	for {
		key, value, more := f.next()
		if !more {
			return s, seen && s.outcome != unknown
		}
		switch string(key) {
		case "id":
			if len(value) != 38 {
				return s, false
			}
			id, err := uuid.ParseBytes(value[1:37])
			if err != nil {
				return s, false
			}
			s.id, seen = id, true
		case "status":
			s.outcome = parseOutcome(value)
		case "place":
			n, err := strconv.ParseInt(string(value), 10, 64)
			if err != nil && string(value) != "null" {
				return s, false
			}
			s.place = n
		}
	}
}

// member returns one member's value as written, nil if there is none.
func member(object []byte, name string) []byte {
	f := members(object)
	for {
		key, value, more := f.next()
		if !more || string(key) == name {
			return value
		}
	}
}
