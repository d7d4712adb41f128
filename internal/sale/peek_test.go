package sale

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What the door reads quickly is what the whole value says.
func TestPeekStockReadsTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPast(rapid.Int64Range(0, 30).Draw(t, "supplied"), rapid.Int64Range(0, 4).Draw(t, "limit"))
		for range rapid.IntRange(0, 2).Draw(t, "groups") {
			p.settle(genLines(genOrder(9, 3, 4), 6).Draw(t, "lines"))
		}
		p.stock.Paused = rapid.Bool().Draw(t, "paused")
		for _, hour := range []**time.Time{&p.stock.OpensAt, &p.stock.ClosesAt} {
			if rapid.Bool().Draw(t, "an hour") {
				at := genInstant().Draw(t, "hour")
				*hour = &at
			}
		}
		value := p.stock.Encode()
		want, wantErr := DecodeStock(value) // it may close before it opens
		want.Last, want.LedgerHead = nil, ""
		got, err := PeekStock(value)
		if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Fatalf("%s\nis at a glance %+v, %v; and read whole %+v, %v", value, got, err, want, wantErr)
		}
		var quick Stock
		if !readOwnStock(value, &quick) {
			t.Fatalf("the quick reader does not take %s", value)
		}
	})
}

func TestPeekStockRefusesWhatBreaksTheRules(t *testing.T) {
	for _, bad := range []string{"", "garbage", "null", "{}",
		`{"product":"tshirt","available":2,"sold":0,"supplied":1,"decided":0,"entries":0,"limit_per_buyer":0,"opens_at":null,"closes_at":null,"paused":false,"last":null,"ledger_head":""}`,
		`{"product":"T","available":0,"sold":0,"supplied":0,"decided":0,"entries":0,"limit_per_buyer":0,"opens_at":null,"closes_at":null,"paused":false,"last":null,"ledger_head":""}`,
	} {
		if s, err := PeekStock([]byte(bad)); err == nil {
			t.Errorf("%s is %+v", bad, s)
		}
	}
}
