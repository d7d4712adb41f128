package broker

import (
	"log/slog"
	"testing"

	"firstcome/internal/sale"
)

// Worker and follower may tell of two entries in the wrong order. What the later
// one settled stays settled, whichever comes last.
func TestDecisionsMayOvertake(t *testing.T) {
	t.Parallel()
	c := &Conn{log: slog.New(slog.DiscardHandler)}
	in := NewIntake(c, sale.NewBook(10), nil, Grouping{MaxOrders: 10, InFlight: 4})
	l := in.lane("shirt")
	l.epoch = "old"
	for _, seq := range []uint64{4, 5} {
		l.stored = append(l.stored, stored{seq: seq, orders: 1})
		l.orders++
	}
	in.decided("shirt", sale.Head{Epoch: "new", Seq: 5, N: 8})
	in.decided("shirt", sale.Head{Epoch: "old", Seq: 9, N: 7})
	if l.epoch != "new" || l.settled != 5 || l.orders != 0 || len(l.stored) != 0 {
		t.Errorf("%d orders in %d groups are undecided after %d of %s", l.orders, len(l.stored), l.settled, l.epoch)
	}
}
