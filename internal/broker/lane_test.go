package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
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
		l.flight = append(l.flight, &sent{seq: seq, orders: 1})
		l.orders++
	}
	in.decided("shirt", sale.Head{Epoch: "new", Seq: 5, N: 8})
	in.decided("shirt", sale.Head{Epoch: "old", Seq: 9, N: 7})
	if l.epoch != "new" || l.settled != 5 || l.orders != 0 || len(l.flight) != 0 {
		t.Errorf("%d orders in %d groups are undecided after %d of %s", l.orders, len(l.flight), l.settled, l.epoch)
	}
}

// A lane counts what is undecided exactly, whatever comes first: the queue's answer,
// or a decision, of this group or of another.
func TestUndecided(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		what   string
		events func(in *Intake, l *lane, first, second *sent)
		groups int // undecided then
		orders int
	}{
		{"sent", func(*Intake, *lane, *sent, *sent) {}, 2, 5},
		{"stored", func(_ *Intake, l *lane, first, _ *sent) { l.noteStored(first, 8) }, 2, 5},
		{"stored and decided", func(in *Intake, l *lane, first, second *sent) {
			l.noteStored(first, 8)
			l.noteStored(second, 9)
			in.decided("shirt", sale.Head{Epoch: "now", Seq: 8, N: 5})
		}, 1, 3},
		{"decided before the answer", func(in *Intake, l *lane, first, _ *sent) {
			in.decided("shirt", sale.Head{Epoch: "now", Seq: 8, N: 5})
			l.noteStored(first, 8)
		}, 1, 3},
		{"another's decision", func(in *Intake, _ *lane, _, _ *sent) {
			in.decided("shirt", sale.Head{Epoch: "now", Seq: 7, N: 5})
		}, 2, 5},
		{"not stored", func(_ *Intake, l *lane, first, _ *sent) { l.noteStored(first, 0) }, 1, 3},
		{"none stored", func(_ *Intake, l *lane, first, second *sent) {
			l.noteStored(first, 0)
			l.noteStored(second, 0)
		}, 0, 0},
		{"the queue made anew", func(in *Intake, l *lane, first, second *sent) {
			l.noteStored(first, 1001)
			l.noteStored(second, 1002)
			in.decided("shirt", sale.Head{Epoch: "new", Seq: 1, N: 5})
		}, 0, 0},
	} {
		book := sale.NewBook(10)
		if err := book.Apply(&sale.Entry{Product: "shirt", Head: sale.Head{Epoch: "now", Seq: 6, N: 1}}); err != nil {
			t.Fatal(err)
		}
		in := NewIntake(&Conn{log: slog.New(slog.DiscardHandler)}, book, nil, Grouping{MaxOrders: 10, InFlight: 4})
		l := in.lane("shirt")
		first, second := &sent{orders: 2}, &sent{orders: 3}
		l.flight, l.orders = []*sent{first, second}, 5
		test.events(in, l, first, second)
		if len(l.flight) != test.groups || l.orders != test.orders {
			t.Errorf("%s: %d orders in %d groups are undecided, want %d in %d", test.what, l.orders, len(l.flight), test.orders, test.groups)
		}
	}
}

// Orders gather for as long as decisions take, also while none is made.
func TestPatience(t *testing.T) {
	t.Parallel()
	const wait = 5 * time.Millisecond
	for _, test := range []struct {
		what      string
		seq       uint64        // of the oldest group, 0: not stored yet
		pace, age time.Duration // decisions took, and the oldest group has waited
		least     time.Duration
		most      time.Duration
	}{
		{"fast decisions", 0, time.Millisecond, 0, wait, wait},
		{"slow decisions", 0, 40 * time.Millisecond, 0, 40 * time.Millisecond, 40 * time.Millisecond},
		{"none for a while", 7, 0, 300 * time.Millisecond, 300 * time.Millisecond, maxPatience},
		{"not even stored for a while", 0, 0, 300 * time.Millisecond, 300 * time.Millisecond, maxPatience},
		{"none for long", 7, 0, time.Minute, maxPatience, maxPatience},
		{"too slow decisions", 0, time.Minute, 0, maxPatience, maxPatience},
	} {
		in := NewIntake(&Conn{log: slog.New(slog.DiscardHandler)}, sale.NewBook(10), nil, Grouping{MaxWait: wait})
		l := in.lane("shirt")
		l.pace = test.pace
		if test.age > 0 {
			l.flight = []*sent{{seq: test.seq, at: time.Now().Add(-test.age)}, {at: time.Now()}}
		}
		if got := l.patience(); got < test.least || got > test.most {
			t.Errorf("%s: %v", test.what, got)
		}
	}
}

// An intake is failing once nothing was stored for longer than an election takes, and
// tries again after a rest.
func TestFailing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		in := NewIntake(&Conn{log: slog.New(slog.DiscardHandler)}, sale.NewBook(10), nil, Grouping{})
		want := func(when string, failing bool) {
			t.Helper()
			if err := in.Failing(); (err != nil) != failing || failing && !errors.Is(err, sale.ErrUnavailable) {
				t.Errorf("%s: %v", when, err)
			}
		}
		fail := func(after time.Duration) {
			time.Sleep(after)
			in.noteFailure(fmt.Errorf("%w: no space left", sale.ErrUnavailable))
		}
		want("at first", false)
		fail(0)
		want("after one failure", false)
		fail(3 * time.Second)
		want("during an election", false)
		fail(3 * time.Second)
		want("after it", true)
		in.noteFailure(sale.ErrQueueFull)
		want("with a queue that answers", false)
		fail(time.Second)
		fail(failTime)
		want("failing again", true)
		time.Sleep(forgetTime)
		want("after a rest", false)
		fail(0)
		want("after one failure more", false)
	})
}
