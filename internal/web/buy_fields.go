package web

import (
	"encoding/json"
	"io"
	"net/url"
	"strconv"
	"strings"

	"firstcome/internal/sale"
)

// fields are the fields of an order as the body has them, with nothing checked but
// their JSON types. The texts are copies, or substrings of one, so they outlive the
// request.
type fields struct {
	email, product, quantity field
	key                      field // of forms alone
	form                     bool
}

type field struct {
	text  string
	given bool
}

func (f *fields) named(name string) *field {
	switch name {
	case "email":
		return &f.email
	case "product":
		return &f.product
	case "quantity":
		return &f.quantity
	case "key":
		if f.form {
			return &f.key
		}
	}
	return nil
}

// readFields reads a body, JSON or a form; the media type may carry parameters. Its
// errors are problems.
func readFields(mediaType, body []byte) (fields, error) {
	switch {
	case isType(mediaType, "application/json"):
		return readJSON(string(body))
	case isType(mediaType, "application/x-www-form-urlencoded"):
		return readForm(string(body))
	}
	return fields{}, errMediaType
}

func isType(got []byte, want string) bool {
	if string(got) == want {
		return true
	}
	name, _, _ := strings.Cut(string(got), ";")
	return strings.EqualFold(strings.TrimSpace(name), want)
}

func readJSON(body string) (fields, error) {
	if f, ok := scanJSON(body); ok {
		return f, nil
	}
	return parseJSON(body)
}

// scanJSON reads the common shape: an object of known fields in any order, each at
// most once, ASCII strings without escapes, plain digits. ok is false for any other
// body, which parseJSON then reads. A fuzz test holds the two together.
func scanJSON(body string) (f fields, ok bool) {
	i := skipSpace(body, 0)
	if i >= len(body) || body[i] != '{' {
		return f, false
	}
	for {
		var name, text string
		if name, i, ok = scanString(body, skipSpace(body, i+1)); !ok {
			return f, false
		}
		into := f.named(name)
		if into == nil || into.given {
			return f, false
		}
		if i = skipSpace(body, i); i >= len(body) || body[i] != ':' {
			return f, false
		}
		i = skipSpace(body, i+1)
		if into == &f.quantity {
			text, i, ok = scanDigits(body, i)
		} else {
			text, i, ok = scanString(body, i)
		}
		if !ok {
			return f, false
		}
		into.text, into.given = text, true
		switch i = skipSpace(body, i); {
		case i >= len(body):
			return f, false
		case body[i] == '}':
			return f, skipSpace(body, i+1) == len(body)
		case body[i] != ',':
			return f, false
		}
	}
}

func skipSpace(s string, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\r' || s[i] == '\t') {
		i++
	}
	return i
}

func scanString(s string, i int) (text string, next int, ok bool) {
	if i >= len(s) || s[i] != '"' {
		return "", i, false
	}
	i++
	for start := i; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return s[start:i], i + 1, true
		case c < 0x20, c == '\\', c >= 0x80:
			return "", i, false
		}
	}
	return "", i, false
}

func scanDigits(s string, i int) (text string, next int, ok bool) {
	start := i
	for i < len(s) && '0' <= s[i] && s[i] <= '9' {
		i++
	}
	return s[start:i], i, i > start && (s[start] != '0' || i == start+1)
}

// parseJSON is the strict reader: exactly one object, nothing after it, known fields
// only, in exactly their spelling, each at most once and of its type.
func parseJSON(body string) (fields, error) {
	var f fields
	if !json.Valid([]byte(body)) {
		return f, errBody.because("The body is not valid JSON.")
	}
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return f, errBody
	}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return f, errBody
		}
		into, err := f.take(name)
		if err != nil {
			return f, err
		}
		if t, err = d.Token(); err != nil {
			return f, errBody
		}
		number := into == &f.quantity
		switch v := t.(type) {
		case json.Number:
			into.text, ok = v.String(), number
		case string:
			into.text, ok = v, !number
		default: // null, true, false, { or [
			ok = false
		}
		if !ok && number {
			return f, invalid(name, "must be a whole number")
		} else if !ok {
			return f, invalid(name, "must be a string")
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return f, errBody
	}
	if _, err := d.Token(); err != io.EOF {
		return f, errBody.because("The body goes on after the JSON object.")
	}
	return f, nil
}

// readForm reads application/x-www-form-urlencoded by the same rules.
func readForm(body string) (fields, error) {
	f := fields{form: true}
	values, err := url.ParseQuery(body)
	if err != nil {
		return f, errBody.because("The body is not a valid form.")
	}
	for name, v := range values {
		into, err := f.take(name)
		if err != nil {
			return f, err
		}
		if len(v) > 1 {
			return f, invalid(name, "is given more than once")
		}
		into.text = v[0]
	}
	return f, nil
}

func (f *fields) take(name string) (*field, error) {
	into := f.named(name)
	if into == nil {
		if len(name) > 64 {
			name = strings.ToValidUTF8(name[:64], "") + "…"
		}
		return nil, errField.because("The field " + strconv.Quote(name) + " is not known.")
	}
	if into.given {
		return nil, invalid(name, "is given more than once")
	}
	into.given = true
	return into, nil
}

func invalid(name, why string) error { return errField.because("The field " + name + " " + why + ".") }

// draft is an order that is checked and not placed yet.
type draft struct {
	email    sale.Email
	product  sale.ProductID // "": not named
	quantity int
}

// check applies the rules of the fields. An empty field is not a missing one. Its
// errors are problems.
func (f *fields) check() (draft, error) {
	d := draft{quantity: 1}
	var err error
	if !f.email.given {
		return d, invalid("email", "is missing")
	}
	if d.email, err = sale.ParseEmail(f.email.text); err != nil {
		p := errField.because("The field email is " + err.Error() + ".")
		if f.form {
			p = p.because(p.detail + aboutPlus(f.email.text))
		}
		return d, p
	}
	if f.product.given {
		if d.product, err = sale.ParseProductID(f.product.text); err != nil {
			return d, invalid("product", "is "+err.Error())
		}
	}
	if f.quantity.given {
		if d.quantity, err = sale.ParseQuantity(f.quantity.text); err != nil {
			return d, invalid("quantity", "is "+err.Error())
		}
	}
	return d, nil
}
