package sale

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var productGrammar = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

func TestParseProductIDKnowsTheGrammar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(
			rapid.StringMatching(`[a-z0-9_-]{0,66}`),
			rapid.StringMatching(`[a-zA-Z0-9_. *>-]{0,6}`),
			rapid.String(),
		).Draw(t, "text")
		checkProduct(t, s)
	})
}

func checkProduct(t interface{ Fatalf(string, ...any) }, s string) {
	p, err := ParseProductID(s)
	legal := productGrammar.MatchString(s) && !strings.HasSuffix(s, "\n")
	if (err == nil) != legal {
		t.Fatalf("%q: %v", s, err)
	}
	if err == nil && string(p) != s || err != nil && p != "" {
		t.Fatalf("%q became %q, %v", s, p, err)
	}
}

func FuzzParseProductID(f *testing.F) {
	for _, s := range []string{"tshirt", "t-shirt_2", "-a", "_a", "", "T", "a.b", "*", "a\n", strings.Repeat("a", 63), strings.Repeat("a", 64), "ü"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { checkProduct(t, s) })
}

func TestState(t *testing.T) {
	now := testTime
	before, after := now.Add(-time.Second), now.Add(time.Second)
	for _, test := range []struct {
		name  string
		stock Stock
		want  State
	}{
		{"open", Stock{Available: 1}, StateOpen},
		{"nothing left", Stock{}, StateSoldOut},
		{"paused", Stock{Available: 1, Paused: true}, StatePaused},
		{"paused and nothing left", Stock{Paused: true}, StatePaused},
		{"opens later", Stock{Available: 1, OpensAt: &after, Paused: true}, StateNotOpen},
		{"opens now", Stock{Available: 1, OpensAt: &now}, StateOpen},
		{"closes later", Stock{Available: 1, OpensAt: &before, ClosesAt: &after}, StateOpen},
		{"closes now", Stock{Available: 1, ClosesAt: &now}, StateClosed},
		{"closed and paused", Stock{Available: 1, ClosesAt: &before, Paused: true}, StateClosed},
	} {
		if got := test.stock.State(now); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}
