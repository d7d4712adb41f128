package sale

import (
	"errors"
	"net/mail"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseEmailKnowsTheGrammar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := genAddress().Draw(t, "address")
		e, err := ParseEmail(s)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if string(e) != strings.ToLower(s) {
			t.Fatalf("%q became %q", s, e)
		}
		if again, err := ParseEmail(string(e)); err != nil || again != e {
			t.Fatalf("%q read again is %q, %v", e, again, err)
		}
	})
}

func TestTokenRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genEmail().Draw(t, "email")
		token := e.Token()
		checkToken(t, token)
		back, err := ParseToken(token)
		if err != nil || back != e {
			t.Fatalf("%q has token %q, which is of %q, %v", e, token, back, err)
		}
	})
}

// checkToken holds a token to what NATS takes as one literal subject token, and
// what the contract promises of it.
func checkToken(t interface{ Fatalf(string, ...any) }, token string) {
	if token == "" || strings.ContainsAny(token, ".*>@ \t\r\n\x00") {
		t.Fatalf("token %q is no literal subject token", token)
	}
	for _, c := range []byte(token) {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789_-=ABCDEF", rune(c)) {
			t.Fatalf("token %q has %q", token, c)
		}
	}
}

func TestParseEmailTable(t *testing.T) {
	label63, local64 := strings.Repeat("a", 63), strings.Repeat("l", 64)
	domain189 := label63 + "." + label63 + "." + strings.Repeat("b", 57) + ".com"
	for _, good := range []string{
		"laskar@mail.com", "A@B.C", "*@x.com", "a.b.c@x.com", "o'brien+t-shirt@sub.example.co.uk", "a@1.2.3.4a",
		"#!$%&'*+-/=?^_`{|}~@x.com", "a@" + label63 + ".com", local64 + "@x.com", "a@" + domain189, "a@x--y.com", "a@xn--p1ai.xn--p1ai",
	} {
		if _, err := ParseEmail(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "a", "@", "a@", "@b.c", "a@b", "a@.b", "a@b.", "a@b..c", ".a@b.c", "a.@b.c", "a..b@c.d", "a@b@c.d", " a@b.c", "a@b.c ",
		"Bob <a@b.c>", "<a@b.c>", `"a b"@c.d`, `"<img>"@x.com`, "a(comment)@b.c", "a@[127.0.0.1]", "a@b.1", "a@127.0.0.1", "a@-b.c", "a@b-.c",
		"a@b.c\r\n", "a\x00@b.c", "a@b.c\x00", "ü@b.c", "a@ü.c", "a@b.ＣＯＭ", "a@b_c.d", "a,b@c.d", "a;b@c.d", `a\b@c.d`, "a\u0130@b.c",
		local64 + "l@x.com", "a@" + label63 + "a.com", "a@b" + domain189, strings.Repeat("a", 300) + "@b.c",
	} {
		if e, err := ParseEmail(bad); !errors.Is(err, ErrEmail) {
			t.Errorf("%q became %q, %v", bad, e, err)
		}
	}
}

// A refusal says what to write instead where a keyboard or a domain is not English.
func TestParseEmailNamesWhatIsForeign(t *testing.T) {
	for address, want := range map[string]string{
		"ann＠example.com": "full-width", "ann@bücher.example": "punycode", "jörg@example.com": "before the @ that is not ASCII",
	} {
		if _, err := ParseEmail(address); !errors.Is(err, ErrEmail) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", address, err, want)
		}
	}
}

func TestTokenTable(t *testing.T) {
	for email, token := range map[Email]string{
		"laskar@mail.com": "laskar=40mail=2Ecom",
		"*@x.com":         "=2A=40x=2Ecom",
		"a=b@x.com":       "a=3Db=40x=2Ecom",
		"a_b-c@x.com":     "a_b-c=40x=2Ecom",
	} {
		if got := email.Token(); got != token {
			t.Errorf("%q has token %q, want %q", email, got, token)
		}
	}
	for _, bad := range []string{
		"", "a", "=", "=4", "a=40b=2", "a=40b=2e", "a=40b.com", "a@b.c", "=61=40b=2Ecom", "A=40b=2Ecom", "=41=40b=2Ecom", "a=40b=2Ecom=00",
		"a=40b", strings.Repeat("a", 400),
	} {
		if e, err := ParseToken(bad); !errors.Is(err, ErrEmail) {
			t.Errorf("token %q is of %q, %v", bad, e, err)
		}
	}
}

// FuzzParseEmail has net/mail as an oracle for one side: it takes far more.
func FuzzParseEmail(f *testing.F) {
	for _, s := range []string{"laskar@mail.com", "*@x.com", "Bob <a@b.c>", "a@b", "ü@b.c", "a..b@c.d", "a@b.c\r\n", `"q"@b.c`, "a@-b.c", "a=40b@C.D"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseEmail(s)
		if err != nil {
			if e != "" || !errors.Is(err, ErrEmail) {
				t.Fatalf("%q is refused as %q, %v", s, e, err)
			}
			return
		}
		if a, err := mail.ParseAddress(s); err != nil || a.Address != s || a.Name != "" {
			t.Fatalf("net/mail reads %q as %v, %v", s, a, err)
		}
		if len(e) > maxLocal+1+maxDomain || string(e) != strings.ToLower(s) {
			t.Fatalf("%q became %q", s, e)
		}
		token := e.Token()
		checkToken(t, token)
		if back, err := ParseToken(token); err != nil || back != e {
			t.Fatalf("%q has token %q, which is of %q, %v", e, token, back, err)
		}
	})
}

func FuzzParseToken(f *testing.F) {
	for _, s := range []string{"laskar=40mail=2Ecom", "=2A=40x=2Ecom", "=", "=4", "a=40b=2ecom", "=61=40b=2Ecom", "A=40b=2Ecom"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseToken(s)
		if err != nil {
			return
		}
		if e.Token() != s { // one address, one token: nobody hears on another's subject (P7)
			t.Fatalf("token %q is of %q, which has token %q", s, e, e.Token())
		}
	})
}
