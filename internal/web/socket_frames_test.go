package web

import (
	"strings"
	"testing"
	"time"

	"firstcome/internal/sale"
)

func FuzzReadStatus(f *testing.F) {
	at := sale.Instant(time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC))
	st := sale.Status{Order: sale.Order{ID: sale.KeyedID("a@b.de", "tshirt", "k"), Email: "a@b.de", Quantity: 1, PlacedAt: at}, Product: "tshirt"}
	f.Add(st.AppendJSON(nil))
	st.Outcome, st.Place, st.DecidedAt = sale.Accepted, 7, at
	f.Add(st.AppendJSON(nil))
	f.Add([]byte(`{"id":"`))
	f.Add([]byte(`{"id":"01900000-0000-7000-8000-000000000000","rev":}`))
	f.Add([]byte("garbage"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, rev, ok := readStatus(b); ok && (rev < 0 || !strings.Contains(strings.ToLower(string(b)), id.String())) {
			t.Fatalf("%q: %s %d", b, id, rev)
		}
	})
}

func TestReadStatus(t *testing.T) {
	st := sale.Status{Order: sale.Order{ID: sale.KeyedID("a@b.de", "tshirt", "k"), Email: "rev:1@b.de", Quantity: 1}, Product: "rev"}
	for _, outcome := range []sale.Outcome{sale.Pending, sale.Accepted, sale.SoldOut, sale.LimitReached} {
		st.Outcome = outcome
		id, rev, ok := readStatus(st.AppendJSON(nil))
		if !ok || id != st.ID || rev != st.Rev() {
			t.Errorf("%s: %s %d %v", st.AppendJSON(nil), id, rev, ok)
		}
	}
}
