package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// Worker and feed may tell of two links in the wrong order. What the later
// one settled stays settled, whichever comes last.
func TestDecisionsMayOvertake(t *testing.T) {
	t.Parallel()
	c := &Conn{log: slog.New(slog.DiscardHandler)}
	in := NewIntake(c, sale.NewBook(10), nil, nil, Grouping{MaxOrders: 10, InFlight: 4})
	l := in.lane("shirt")
	l.epoch = "old"
	for _, seq := range []uint64{4, 5} {
		l.flight = append(l.flight, &sent{seq: seq, orders: 1, over: make(chan struct{})})
		l.orders++
	}
	in.decided("shirt", sale.Head{N: 8, Queue: sale.Position{Epoch: "new", Seq: 5}})
	in.decided("shirt", sale.Head{N: 7, Queue: sale.Position{Epoch: "old", Seq: 9}})
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
			in.decided("shirt", sale.Head{N: 5, Queue: sale.Position{Epoch: "now", Seq: 8}})
		}, 1, 3},
		{"decided before the answer", func(in *Intake, l *lane, first, _ *sent) {
			in.decided("shirt", sale.Head{N: 5, Queue: sale.Position{Epoch: "now", Seq: 8}})
			l.noteStored(first, 8)
		}, 1, 3},
		{"another's decision", func(in *Intake, _ *lane, _, _ *sent) {
			in.decided("shirt", sale.Head{N: 5, Queue: sale.Position{Epoch: "now", Seq: 7}})
		}, 2, 5},
		{"not stored", func(_ *Intake, l *lane, first, _ *sent) { l.noteStored(first, 0) }, 1, 3},
		{"none stored", func(_ *Intake, l *lane, first, second *sent) {
			l.noteStored(first, 0)
			l.noteStored(second, 0)
		}, 0, 0},
		{"the queue made anew", func(in *Intake, l *lane, first, second *sent) {
			l.noteStored(first, 1001)
			l.noteStored(second, 1002)
			in.decided("shirt", sale.Head{N: 5, Queue: sale.Position{Epoch: "new", Seq: 1}})
		}, 0, 0},
	} {
		book := sale.NewBook(10)
		created := &sale.Link{N: 1, Change: sale.Created, Stock: sale.Stock{Product: "shirt"}, Queue: sale.Position{Epoch: "now", Seq: 6}}
		if err := book.Apply("shirt", 1, created.Encode()); err != nil {
			t.Fatal(err)
		}
		in := NewIntake(&Conn{log: slog.New(slog.DiscardHandler)}, book, nil, nil, Grouping{MaxOrders: 10, InFlight: 4})
		l := in.lane("shirt")
		first, second := &sent{orders: 2, over: make(chan struct{})}, &sent{orders: 3, over: make(chan struct{})}
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
		in := NewIntake(&Conn{log: slog.New(slog.DiscardHandler)}, sale.NewBook(10), nil, nil, Grouping{MaxWait: wait})
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
		in := NewIntake(&Conn{log: slog.New(slog.DiscardHandler)}, sale.NewBook(10), nil, nil, Grouping{})
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

// stored is an answer of the queue's that is there already.
type stored struct{ ok chan *jetstream.PubAck }

func (s stored) Ok() <-chan *jetstream.PubAck { return s.ok }
func (s stored) Err() <-chan error            { return nil }
func (s stored) Msg() *nats.Msg               { return nil }

// Orders are announced as pending only where their outcome is late, or never comes.
func TestPendingIsLeftOutWhereTheOutcomeIsThere(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		decided time.Duration // after the queue's answer; below 0: before it
		want    int
	}{
		"before the answer": {-1, 0},
		"at once":           {0, 0},
		"in time":           {pendingAfter - 1, 0},
		"late":              {pendingAfter + 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				announcer := &Announcer{}
				var pending []string
				announcer.To(func(token string, status []byte) { pending = append(pending, token) })
				in := NewIntake(&Conn{log: slog.New(slog.DiscardHandler)}, sale.NewBook(10), announcer, nil, Grouping{MaxOrders: 10, InFlight: 4})
				l := in.lane("shirt")
				s := &sent{at: time.Now(), orders: 2, over: make(chan struct{})}
				l.flight, l.orders = []*sent{s}, 2
				in.flying.Add(1)
				answer := stored{make(chan *jetstream.PubAck, 1)}
				g := &group{orders: []sale.Order{{Email: "a@x.com"}, {Email: "b@x.com"}}, done: make(chan struct{})}
				decide := func() { in.decided("shirt", sale.Head{N: 2, Queue: sale.Position{Epoch: "now", Seq: 7}}) }
				if test.decided < 0 {
					decide()
				}
				answer.ok <- &jetstream.PubAck{Sequence: 7}
				go l.await(g, s, nil, answer, nil)
				<-g.done // a buyer's 202 waits for none of it
				if time.Since(s.at) > 0 {
					t.Errorf("the buyer waited for %v", time.Since(s.at))
				}
				if test.decided >= 0 {
					time.Sleep(test.decided)
					decide()
				}
				in.flying.Wait()
				if len(pending) != test.want {
					t.Errorf("%v were told", pending)
				}
			})
		})
	}
}
