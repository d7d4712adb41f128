package broker

import (
	"log/slog"
	"testing"
	"time"

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

// Orders gather for as long as decisions take, also while none is made.
func TestPatience(t *testing.T) {
	t.Parallel()
	const wait = 5 * time.Millisecond
	for _, test := range []struct {
		what      string
		pace, age time.Duration // decisions took, and the oldest group has waited
		least     time.Duration
		most      time.Duration
	}{
		{"fast decisions", time.Millisecond, 0, wait, wait},
		{"slow decisions", 40 * time.Millisecond, 0, 40 * time.Millisecond, 40 * time.Millisecond},
		{"none for a while", 0, 300 * time.Millisecond, 300 * time.Millisecond, maxPatience},
		{"none for long", 0, time.Minute, maxPatience, maxPatience},
		{"too slow decisions", time.Minute, 0, maxPatience, maxPatience},
	} {
		in := NewIntake(&Conn{log: slog.New(slog.DiscardHandler)}, sale.NewBook(10), nil, Grouping{MaxWait: wait})
		l := in.lane("shirt")
		l.pace = test.pace
		if test.age > 0 {
			l.stored = []stored{{seq: 7, sentAt: time.Now().Add(-test.age)}, {seq: 8, sentAt: time.Now()}}
		}
		if got := l.patience(); got < test.least || got > test.most {
			t.Errorf("%s: %v", test.what, got)
		}
	}
}
