package bench

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// answer is what matters of an HTTP/1.1 response.
type answer struct {
	status int
	body   []byte
	closes bool // the server ends the connection after it
}

// parseAnswer reads one response from the start of b. size is its length, 0
// while bytes are missing. Only bodies with a Content-Length are understood,
// which is what every answer of the contract has.
func parseAnswer(b []byte) (a answer, size int, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return a, 0, nil
	}
	head := b[:end]
	line, rest, _ := bytes.Cut(head, []byte("\r\n"))
	// HTTP/1.1 202 …
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) || len(line) > 12 && line[12] != ' ' {
		return a, 0, fmt.Errorf("not an HTTP/1.1 answer: %.40q", line)
	}
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil || a.status < 200 || a.status > 599 {
		return a, 0, fmt.Errorf("not a final HTTP status: %.40q", line)
	}
	length := -1
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, found := bytes.Cut(line, []byte(":"))
		if !found {
			return a, 0, fmt.Errorf("not a header line: %.40q", line)
		}
		switch {
		case is(name, "content-length"):
			n, err := strconv.Atoi(string(bytes.TrimSpace(value)))
			if err != nil || n < 0 || length >= 0 && n != length {
				return a, 0, fmt.Errorf("content length %.40q", value)
			}
			length = n
		case is(name, "transfer-encoding"):
			return a, 0, errors.New("the answer has a Transfer-Encoding; the bench reads answers with a Content-Length only")
		case is(name, "connection"):
			a.closes = bytes.EqualFold(bytes.TrimSpace(value), []byte("close"))
		}
	}
	if length < 0 {
		return a, 0, errors.New("the answer has no Content-Length")
	}
	if length > maxAnswer {
		return a, 0, fmt.Errorf("answer longer than %d bytes", maxAnswer)
	}
	size = end + 4 + length
	if len(b) < size {
		return a, 0, nil
	}
	a.body = b[end+4 : size]
	return a, size, nil
}

func is(name []byte, lower string) bool {
	return len(name) == len(lower) && bytes.EqualFold(name, []byte(lower))
}

// uncertain tells whether an order that got this answer may have been stored all
// the same. The problem types that say otherwise are part of the contract; what
// is not known, such as a proxy's answer, leaves it open.
func (a answer) uncertain() bool {
	if a.status != 503 {
		return a.status >= 500
	}
	switch string(member(a.body, "type")) {
	case `"urn:firstcome:shutting-down"`, `"urn:firstcome:queue-full"`, `"urn:firstcome:shop-full"`, `"urn:firstcome:stuck"`:
		return false
	}
	return true
}

// limited tells of a refusal (409) that it is the buyer's limit and not the sale that
// kept the order out: units may be left.
func (a answer) limited() bool {
	return string(member(a.body, "type")) == `"urn:firstcome:limit-reached"`
}

// refusedAs is the line of the error table that an answer belongs to which is
// neither an order nor a refusal at the door.
func (a answer) refusedAs() string {
	detail := member(a.body, "detail")
	if len(detail) < 2 || len(detail) > 120 {
		return fmt.Sprintf("answer %d", a.status)
	}
	return fmt.Sprintf("answer %d: %s", a.status, detail[1:len(detail)-1])
}
