package sale

import (
	"strings"
	"testing"
)

// What Encode could not write again as it was is no stock value of ours, and nothing
// is decided on it (P8).
func TestStockThatCouldNotBeWrittenAgainIsRefused(t *testing.T) {
	good := string((&Stock{Product: "tshirt", Available: 4, Sold: 1, Supplied: 5, Decided: 1, Entries: 1, OpensAt: &testTime,
		LedgerHead: hashEntry(nil), Last: &Last{Head: Head{Epoch: testEpoch, Seq: 2, N: 1, Prev: hashEntry(nil), DecidedAt: testTime},
			Outcomes: []Outcome{Accepted, Dead}, Orders: []EntryOrder{{Order{testID(1), "a@b.c", 1, testTime}, 1, Accepted}}}}).Encode())
	if _, err := DecodeStock([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string][2]string{
		"a head with a quote":         {`"ledger_head":"`, `"ledger_head":"\"`},
		"a head that is not ASCII":    {`"ledger_head":"`, `"ledger_head":"ü`},
		"an epoch with a quote":       {`"epoch":"`, `"epoch":"\"`},
		"a previous head with quotes": {`"prev":"`, `"prev":"\"`},
		"an hour before year 0":       {`"opens_at":"2026-03-01T09:00:00Z"`, `"opens_at":"0000-01-01T00:00:00+23:00"`},
		"an outcome too many":         {`["accepted","dead"]`, `["accepted","accepted"]`},
		"an outcome too few":          {`["accepted","dead"]`, `["dead"]`},
		"another outcome":             {`["accepted","dead"]`, `["sold_out","dead"]`},
		"an outcome of no line":       {`["accepted","dead"]`, `["accepted","pending"]`},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if bad == good {
			t.Fatalf("%s: %s", what, good)
		}
		if s, err := DecodeStock([]byte(bad)); err == nil {
			t.Errorf("%s: read as %+v", what, s)
		}
	}
}
