package sale

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestSupplyKeepsTheSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sold := rapid.Int64Range(0, 20).Draw(t, "sold")
		s := Stock{Product: "tshirt", Available: rapid.Int64Range(0, 20).Draw(t, "available"), Sold: sold}
		s.Supplied = s.Available + s.Sold
		units := rapid.OneOf(rapid.Int64Range(-30, 30), rapid.Int64()).Draw(t, "units")
		next, err := s.Supply(units)
		possible := units <= MaxUnits-s.Supplied && units >= -s.Available
		if (err == nil) != possible {
			t.Fatalf("%+v and %d more: %v", s, units, err)
		}
		if err != nil {
			return
		}
		if next.Check() != nil || next.Sold != sold || next.Supplied != s.Supplied+units || next.Available != s.Available+units {
			t.Fatalf("%+v and %d more is %+v", s, units, next)
		}
	})
}

func TestStockCheck(t *testing.T) {
	early, late := testTime, testTime.Add(1)
	for name, s := range map[string]Stock{
		"more sold than supplied":    {Available: -1, Sold: 2, Supplied: 1},
		"units from nowhere":         {Available: 2, Sold: 0, Supplied: 1},
		"units gone":                 {Available: 1, Sold: 0, Supplied: 2},
		"nothing can be sold back":   {Available: 2, Sold: -1, Supplied: 1},
		"too many":                   {Available: MaxUnits + 1, Supplied: MaxUnits + 1},
		"a sum that overflows":       {Available: 1<<62 + 1<<61, Sold: 1<<62 + 1<<61, Supplied: -(1 << 62)},
		"a negative limit":           {LimitPerBuyer: -1},
		"a limit out of range":       {LimitPerBuyer: MaxUnits + 1},
		"closes before it opens":     {OpensAt: &late, ClosesAt: &early},
		"closes at the time it does": {OpensAt: &early, ClosesAt: &early},
	} {
		if s.Check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := (&Stock{Available: 3, Sold: 2, Supplied: 5, LimitPerBuyer: 1, OpensAt: &early, ClosesAt: &late}).Check(); err != nil {
		t.Error(err)
	}
}

// A sequence says nothing across epochs: a recreated queue counts from 1 again.
func TestApplied(t *testing.T) {
	s := Stock{Last: &Last{Head: Head{Epoch: "new", Seq: 5}}}
	for _, test := range []struct {
		epoch        string
		seq          uint64
		last, before bool
	}{
		{"new", 4, false, true}, {"new", 5, true, false}, {"new", 6, false, false},
		{"old", 4, false, false}, {"old", 5, false, false}, {"", 5, false, false},
	} {
		if last, before := s.applied(test.epoch, test.seq); last != test.last || before != test.before {
			t.Errorf("message %d of %q: last %v, before %v", test.seq, test.epoch, last, before)
		}
	}
	if last, before := (&Stock{}).applied("", 0); last || before {
		t.Error("a new product has decided something")
	}
}

func TestStockRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Stock{Product: genProduct().Draw(t, "product"), Sold: rapid.Int64Range(0, 1e6).Draw(t, "sold"),
			Available: rapid.Int64Range(0, 1e6).Draw(t, "available"), Paused: rapid.Bool().Draw(t, "paused"),
			LimitPerBuyer: rapid.Int64Range(0, MaxUnits).Draw(t, "limit"), Decided: rapid.Uint64().Draw(t, "decided"),
			Entries: rapid.Uint64().Draw(t, "entries"), LedgerHead: hashEntry(nil)}
		s.Supplied = s.Available + s.Sold
		if rapid.Bool().Draw(t, "opens") {
			at := genInstant().Draw(t, "opens at")
			s.OpensAt = &at
		}
		if rapid.Bool().Draw(t, "decided once") {
			outcome := rapid.SampledFrom([]Outcome{Accepted, SoldOut, LimitReached, Duplicate, Dead})
			outcomes := rapid.SliceOfN(outcome, 1, 9).Draw(t, "outcomes")
			lines := make([]Line, len(outcomes))
			for i := range lines {
				lines[i].Order = genOwnOrder().Draw(t, "order")
			}
			s.Last = &Last{Head: genHead().Draw(t, "last"), Outcomes: outcomes, Orders: entryOrders(lines, outcomes, 9)}
		}
		got, err := DecodeStock(s.Encode())
		if err != nil || !reflect.DeepEqual(got, s) {
			t.Fatalf("%s became %+v, %v", s.Encode(), got, err)
		}
	})
}

// The value's names are a contract: the nats CLI's users and newer instances read it.
func TestStockNames(t *testing.T) {
	s := Stock{Product: "tshirt", Last: &Last{Head: Head{DecidedAt: testTime}, Outcomes: []Outcome{Accepted, SoldOut, LimitReached, Duplicate, Dead}}}
	const want = `{"product":"tshirt","available":0,"sold":0,"supplied":0,"decided":0,"entries":0,"limit_per_buyer":0,` +
		`"opens_at":null,"closes_at":null,"paused":false,"last":{"epoch":"","seq":0,"n":0,"prev":"","supplied":0,"available":0,` +
		`"decided":0,"decided_at":"2026-03-01T09:00:00Z","outcomes":["accepted","sold_out","limit_reached","duplicate","dead"],"orders":[]},"ledger_head":""}`
	if got := string(s.Encode()); got != want {
		t.Errorf("the value is\n%s\nwant\n%s", got, want)
	}
}

func FuzzDecodeStock(f *testing.F) {
	full := Stock{Product: "tshirt", Available: 4, Sold: 1, Supplied: 5, Decided: 1, Entries: 1, OpensAt: &testTime,
		Last: &Last{Head: Head{Epoch: testEpoch, Seq: 2, N: 1, DecidedAt: testTime}, Outcomes: []Outcome{Accepted, Dead},
			Orders: []EntryOrder{{Order{testID(1), "a@b.c", 1, testTime}, 1, Accepted}}}}
	f.Add(full.Encode())
	for _, s := range []string{`{}`, `null`, `{"product":"tshirt"}`, `{"product":"tshirt","last":{"outcomes":"yMjI"}}`,
		`{"product":"tshirt","last":{"outcomes":[null]}}`, `{"product":"tshirt","available":9223372036854775807,"sold":1}`,
		strings.Replace(string(full.Encode()), "09:00:00Z", "09:00:00+23:59", 1)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		NewAudit("tshirt", data).Finish() // reads more than DecodeStock does, and never panics
		s, err := DecodeStock(data)
		if err != nil {
			return
		}
		if err := s.Check(); err != nil {
			t.Fatalf("%q was taken: %v", data, err)
		}
		again, err := DecodeStock(s.Encode())
		if err != nil || again.Product != s.Product || string(again.Encode()) != string(s.Encode()) {
			t.Fatalf("%q is %+v, encoded and read again %+v, %v", data, s, again, err)
		}
		if !json.Valid(s.Encode()) {
			t.Fatalf("%q is stored as %q", data, s.Encode())
		}
	})
}
