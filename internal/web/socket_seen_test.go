package web

import (
	"fmt"
	"testing"

	"firstcome/internal/sale"
)

func TestSeenIsBounded(t *testing.T) {
	var s seen
	id := func(n int) sale.OrderID { return sale.KeyedID("a@b.de", "tshirt", fmt.Sprint(n)) }
	known := map[sale.OrderID]bool{}
	decided := func(id sale.OrderID) bool { return known[id] }
	for n := range 2 * maxSeenFinal {
		if !s.news(id(n), 0, decided) || s.news(id(n), 0, decided) || !s.news(id(n), 1, decided) || s.news(id(n), 1, decided) || s.news(id(n), 0, decided) {
			t.Fatalf("order %d", n)
		}
		known[id(n)] = true
	}
	if s.news(id(0), 0, decided) {
		t.Error("an order whose outcome was sent long ago is pending again")
	}
	if !s.news(id(2*maxSeenFinal-1), 2, decided) {
		t.Error("a higher revision is no news")
	}
	for n := range 2 * maxSeenPending {
		if news := s.news(id(-n-1), 0, decided); news != (n < maxSeenPending) {
			t.Fatalf("pending order %d: %v", n, news)
		}
	}
	if len(s.final) != maxSeenFinal || len(s.order) != maxSeenFinal || len(s.pending) != maxSeenPending {
		t.Errorf("%d, %d, %d", len(s.final), len(s.order), len(s.pending))
	}
}
