package sale

import (
	"errors"
	"fmt"
	"strings"
)

// Email is a buyer's address in the one form in which it is compared, stored and
// shown: lowercased as a whole, a dot-atom at a host name. Only ParseEmail and
// ParseToken make one.
type Email string

// Limits of an address, in bytes. RFC 5321 4.5.3.1 allows 64 for the local part
// and 254 for a whole forward path; the domain takes what is left.
const (
	maxLocal  = 64
	maxDomain = 189
	maxLabel  = 63
)

// ErrEmail is wrapped by every refusal of an address.
var ErrEmail = errors.New("not an email address")

func badEmail(why string) error { return fmt.Errorf("%w: %s", ErrEmail, why) }

// atext is RFC 5322 3.2.3: what a dot-atom is made of besides its dots.
var atext = func() (ok [256]bool) {
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~" {
		ok[c] = true
	}
	return ok
}()

// ParseEmail reads an address: an RFC 5322 dot-atom, "@", and at least two labels
// of letters, digits and inner hyphens, the last not all digits. No quotes,
// comments, literals, display names or surrounding space. It wraps ErrEmail.
func ParseEmail(s string) (Email, error) {
	at := strings.IndexByte(s, '@')
	switch {
	case s == "":
		return "", badEmail("it is empty")
	case at < 0 && strings.Contains(s, "＠"):
		return "", badEmail("its ＠ is the full-width one: write @")
	case at < 0:
		return "", badEmail("it has no @")
	case at > maxLocal:
		return "", badEmail("more than 64 bytes before the @")
	case len(s)-at-1 > maxDomain:
		return "", badEmail("more than 189 bytes after the @")
	}
	if err := checkLocal(s[:at]); err != nil {
		return "", err
	}
	if err := checkDomain(s[at+1:]); err != nil {
		return "", err
	}
	return Email(strings.ToLower(s)), nil
}

func checkLocal(local string) error {
	if local == "" {
		return badEmail("nothing before the @")
	}
	dot := true // a dot may not come first, last or twice
	for i := 0; i < len(local); i++ {
		if local[i] == '.' {
			if dot {
				return badEmail("a misplaced dot before the @")
			}
			dot = true
			continue
		}
		if local[i] >= 0x80 {
			return badEmail("a character before the @ that is not ASCII")
		}
		if !atext[local[i]] {
			return badEmail("a character before the @ that is not allowed")
		}
		dot = false
	}
	if dot {
		return badEmail("a misplaced dot before the @")
	}
	return nil
}

func checkDomain(domain string) error {
	labels := 0
	for rest, more := domain, true; more; labels++ {
		var label string
		label, rest, more = strings.Cut(rest, ".")
		if err := checkLabel(label, !more); err != nil {
			return err
		}
	}
	if labels < 2 {
		return badEmail("the domain needs a dot")
	}
	return nil
}

func checkLabel(label string, last bool) error {
	if label == "" || len(label) > maxLabel {
		return badEmail("a domain label is empty or over 63 bytes")
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return badEmail("a domain label begins or ends with a hyphen")
	}
	digits := 0
	for i := 0; i < len(label); i++ {
		switch c := label[i]; {
		case '0' <= c && c <= '9':
			digits++
		case c >= 0x80:
			return badEmail("a character in the domain that is not ASCII: write the domain in punycode (xn--…)")
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '-':
		default:
			return badEmail("a character in the domain that is not allowed")
		}
	}
	if last && digits == len(label) {
		return badEmail("the last domain label is all digits")
	}
	return nil
}

const upperHex = "0123456789ABCDEF"

// plainToken are the bytes that stand for themselves in a Token.
var plainToken = func() (ok [256]bool) {
	for _, c := range "abcdefghijklmnopqrstuvwxyz0123456789_-" {
		ok[c] = true
	}
	return ok
}()

// Token is the address as one NATS subject token and KV key: every byte outside
// [a-z0-9_-] as "=XX". No address, not even "*@x.com", has a wildcard's effect.
func (e Email) Token() string { return string(e.AppendToken(nil)) }

// AppendToken appends Token to dst.
func (e Email) AppendToken(dst []byte) []byte {
	for i := 0; i < len(e); i++ {
		if c := e[i]; plainToken[c] {
			dst = append(dst, c)
		} else {
			dst = append(dst, '=', upperHex[c>>4], upperHex[c&15])
		}
	}
	return dst
}

// ParseToken is the inverse of Email.Token. It wraps ErrEmail.
func ParseToken(token string) (Email, error) {
	var buf [maxLocal + 1 + maxDomain]byte
	plain := buf[:0]
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c == '=' {
			if i+2 >= len(token) {
				return "", badEmail("a token cut short")
			}
			hi, lo := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
			if hi < 0 || lo < 0 || plainToken[hi<<4|lo] {
				return "", badEmail("a token with a bad escape")
			}
			c = byte(hi<<4 | lo)
			i += 2
		} else if !plainToken[c] {
			return "", badEmail("a token with a bare character")
		}
		if len(plain) == len(buf) {
			return "", badEmail("a token that is too long")
		}
		plain = append(plain, c)
	}
	s := string(plain)
	e, err := ParseEmail(s)
	if err == nil && string(e) != s {
		return "", badEmail("a token with uppercase letters")
	}
	return e, err
}
