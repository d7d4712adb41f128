package sale

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// object reads one JSON object. A name that stands in it twice is an error: readers of
// other makes would take the one or the other.
func object(b []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	fields := map[string]json.RawMessage{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, errors.New("not a JSON object")
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, errors.New("not a JSON object")
		}
		key, _ := name.(string) // a name always is one
		if _, again := fields[key]; again {
			return nil, fmt.Errorf("%s is there twice", quoted(key))
		}
		fields[key] = value
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, errors.New("not a JSON object")
	}
	if d.More() || len(bytes.TrimSpace(b[d.InputOffset():])) > 0 {
		return nil, errors.New("something stands behind the JSON object")
	}
	return fields, nil
}

// quoted shows a name that somebody made up, cut to a length that a log can bear.
func quoted(name string) string {
	if len(name) > 40 {
		name = name[:40] + "…"
	}
	return strconv.Quote(name)
}

// reader reads the fields of an object. The first field that is missing or not what it
// should be is its error, and what is read after that is worthless.
type reader struct {
	fields map[string]json.RawMessage
	err    error
}

func read[T any](r *reader, name string, parse func(json.RawMessage) (T, error)) (v T) {
	if r.err != nil {
		return v
	}
	raw, ok := r.fields[name]
	if !ok {
		r.err = fmt.Errorf("%s is missing", name)
		return v
	}
	if v, r.err = parse(raw); r.err != nil {
		r.err = fmt.Errorf("%s: %w", name, r.err)
	}
	return v
}

func (r *reader) text(name string) string  { return read(r, name, parseText) }
func (r *reader) number(name string) int64 { return read(r, name, parseNumber) }
func (r *reader) flag(name string) bool    { return read(r, name, parseFlag) }

func (r *reader) count(name string) uint64 {
	return read(r, name, func(raw json.RawMessage) (uint64, error) {
		n, err := strconv.ParseUint(string(raw), 10, 64)
		if err != nil {
			return 0, errors.New("not a whole number from 0")
		}
		return n, nil
	})
}

func (r *reader) time(name string) time.Time {
	return read(r, name, func(raw json.RawMessage) (time.Time, error) {
		text, err := parseText(raw)
		if err != nil {
			return time.Time{}, err
		}
		return parseTime([]byte(text))
	})
}

// hour is nil for null.
func (r *reader) hour(name string) *time.Time {
	return read(r, name, func(raw json.RawMessage) (*time.Time, error) {
		h, err := parseHour(raw)
		return h.At, err
	})
}

func (r *reader) object(name string) *reader {
	return &reader{err: r.err, fields: read(r, name, func(raw json.RawMessage) (map[string]json.RawMessage, error) { return object(raw) })}
}

// list reads an array. An empty one is nil.
func list[T any](r *reader, name string, parse func(json.RawMessage) (T, error)) (items []T) {
	for i, raw := range read(r, name, parseList) {
		item, err := parse(raw)
		if err != nil {
			r.err = fmt.Errorf("%s: item %d: %w", name, i+1, err)
			return nil
		}
		items = append(items, item)
	}
	return items
}

func parseList(raw json.RawMessage) (items []json.RawMessage, err error) {
	if err := json.Unmarshal(raw, &items); err != nil || items == nil {
		return nil, errors.New("not an array")
	}
	return items, nil
}

func parseText(raw json.RawMessage) (s string, err error) {
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", errors.New("not a string")
	}
	return s, nil
}

func parseFlag(raw json.RawMessage) (bool, error) {
	switch string(raw) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errors.New("not true or false")
}

func parseNumber(raw json.RawMessage) (int64, error) {
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		return 0, errors.New("not a whole number")
	}
	return n, nil
}

// Hour is when a door opens or closes; the zero value is none.
type Hour struct{ At *time.Time }

// parseHour reads an RFC 3339 time in UTC of the years 1 to 9999, or null. A time with
// an offset is refused: 9999-12-31T23:59:59-05:00 could not be written again.
func parseHour(raw json.RawMessage) (Hour, error) {
	if string(raw) == "null" {
		return Hour{}, nil
	}
	text, err := parseText(raw)
	if err != nil {
		return Hour{}, errors.New("neither null nor a time")
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	switch _, offset := t.Zone(); {
	case err != nil:
		return Hour{}, errors.New("not an RFC 3339 time")
	case offset != 0:
		return Hour{}, errors.New("not in UTC")
	}
	return NewHour(t)
}

// NewHour is the hour t in UTC, to whole microseconds. It fails outside of the years 1
// to 9999, which RFC 3339 can write.
func NewHour(t time.Time) (Hour, error) {
	t = Instant(t)
	if y := t.Year(); y < 1 || y > 9999 {
		return Hour{}, errors.New("not in the years 1 to 9999")
	}
	return Hour{At: &t}, nil
}

// parseTime reads an RFC 3339 time of any offset, to whole microseconds UTC.
func parseTime(b []byte) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, string(b))
	if err != nil {
		return time.Time{}, errors.New("not an RFC 3339 time")
	}
	t = Instant(t)
	if y := t.Year(); y < 0 || y > 9999 { // an offset can push it out of RFC 3339
		return time.Time{}, errors.New("a time out of range")
	}
	return t, nil
}

// scan reads fixed JSON shapes. After a mismatch every step fails.
type scan struct {
	b   []byte
	bad bool
}

func (s *scan) lit(want string) {
	if s.bad || len(s.b) < len(want) || string(s.b[:len(want)]) != want {
		s.bad = true
		return
	}
	s.b = s.b[len(want):]
}

// until returns what stands before the next end, and steps over it.
func (s *scan) until(end byte) []byte {
	i := bytes.IndexByte(s.b, end)
	if s.bad || i < 0 {
		s.bad = true
		return nil
	}
	v := s.b[:i]
	s.b = s.b[i+1:]
	return v
}

// plain reads the rest of a string that stands for itself in JSON.
func (s *scan) plain() string {
	v := s.until('"')
	for _, c := range v {
		if c < ' ' || c > '~' || c == '\\' {
			s.bad = true
			return ""
		}
	}
	return string(v)
}

// time reads the rest of a string that is a time.
func (s *scan) time() time.Time {
	v := s.until('"')
	if s.bad {
		return time.Time{}
	}
	t, err := parseTime(v)
	s.bad = err != nil
	return t
}

func (s *scan) hour() *time.Time {
	if s.has("null") {
		return nil
	}
	s.lit(`"`)
	v := s.until('"')
	if s.bad || len(v) == 0 || v[len(v)-1] != 'Z' {
		s.bad = true
		return nil
	}
	t, err := parseTime(v)
	if s.bad = err != nil || t.Year() < 1; s.bad {
		return nil
	}
	return &t
}

// uint reads a whole number without leading zeros, of at most 14 digits, which do
// not overflow. MaxUnits has 13; a longer number is left to the general reader.
func (s *scan) uint() uint64 {
	i, n := 0, uint64(0)
	for i < len(s.b) && i < 14 && '0' <= s.b[i] && s.b[i] <= '9' {
		n = 10*n + uint64(s.b[i]-'0')
		i++
	}
	if s.bad || i == 0 || (i > 1 && s.b[0] == '0') {
		s.bad = true
		return 0
	}
	s.b = s.b[i:]
	return n
}

// has steps over want if it is next, and tells whether it was.
func (s *scan) has(want string) bool {
	if s.bad || len(s.b) < len(want) || string(s.b[:len(want)]) != want {
		return false
	}
	s.b = s.b[len(want):]
	return true
}

func (s *scan) done() bool { return !s.bad && len(s.b) == 0 }
