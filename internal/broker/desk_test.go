package broker_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

func supply(units int64) sale.DeskLine {
	return sale.DeskLine{ID: newOrder("x@x.com").ID, Do: sale.DoSupply, Units: &units, By: "ann", Why: `a "second" delivery`}
}

// steered is what a call of Steer came to.
type steered struct {
	broker.Steered
	err error
}

func steering(ctx context.Context, c *broker.Conn, lines ...sale.DeskLine) <-chan steered {
	done := make(chan steered, 1)
	go func() {
		s, err := broker.Steer(ctx, c, "shirt", lines)
		done <- steered{s, err}
	}()
	return done
}

// want wants the lines decided in one link, with these refusals.
func (s steered) want(t testing.TB, lines []sale.DeskLine, refused ...sale.Refusal) {
	t.Helper()
	if s.err != nil {
		t.Fatal(s.err)
	}
	if s.After.Change != sale.DeskTaken || len(s.After.Desk) != len(lines) {
		t.Fatalf("%d lines are decided by %+v", len(lines), s.After.Link)
	}
	for i, l := range s.After.Desk {
		if l.ID != lines[i].ID || l.By != lines[i].By || l.Why != lines[i].Why || l.Refused != refused[i] {
			t.Errorf("line %d is decided as %+v, want %+v, refused %q", i+1, l, lines[i], refused[i])
		}
	}
	if s.Before.N+1 != s.After.N || sale.HashOf(s.Before.Value) != s.After.Prev {
		t.Errorf("link %d is before link %d", s.Before.N, s.After.N)
	}
}

func TestSteer(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		c := w.sell(t, 1, "shirt")
		w.work(t, "shirt")
		paused := true
		for _, test := range []struct {
			lines   []sale.DeskLine
			refused []sale.Refusal
			left    int64
		}{
			{[]sale.DeskLine{supply(4)}, []sale.Refusal{""}, 5},
			{[]sale.DeskLine{supply(-9)}, []sale.Refusal{sale.NotEnough}, 5},
			{[]sale.DeskLine{supply(1), supply(-99), supply(2)}, []sale.Refusal{"", sale.NotEnough, ""}, 8},
			{[]sale.DeskLine{{ID: newOrder("x@x.com").ID, Do: sale.DoTerms, Paused: &paused}}, []sale.Refusal{""}, 8},
		} {
			s := receive(t, steering(within(t), c, test.lines...))
			s.want(t, test.lines, test.refused...)
			if s.After.Available != test.left {
				t.Errorf("%d are left, want %d", s.After.Available, test.left)
			}
		}
		if link := newest(t, c, "shirt"); !link.Paused || link.N != 5 {
			t.Errorf("the product is at link %d, paused: %v", link.N, link.Paused)
		}
	})
}

// What the desk says beside a flow of orders is answered with its own link and the one
// before it, by an instance whose feeds are lost, too.
func TestSteerWhileOrdersFlow(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		c := w.sell(t, 1, "shirt")
		w.work(t, "shirt")
		g := w.gate()
		g.losing(isCopy)
		conns := []*broker.Conn{c, dial(t, w.options(t, g))}
		defer w.flow(t, func(uint64) {})()
		for i := range 6 {
			lines := []sale.DeskLine{supply(int64(i + 1))}
			s := receive(t, steering(within(t), conns[i%2], lines...))
			s.want(t, lines, "")
			if s.After.Supplied != s.Before.Supplied+int64(i+1) || s.After.Decided != s.Before.Decided {
				t.Errorf("before %+v, after %+v", s.Before.Stock, s.After.Stock)
			}
		}
	})
}

// A line that is sent again is found where it was decided: the queue knows its id, and
// when it has forgotten that, the history does.
func TestSteerAgain(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 1, "shirt")
	w.work(t, "shirt")
	lines := []sale.DeskLine{supply(4)}
	first := receive(t, steering(within(t), c, lines...))
	first.want(t, lines, "")
	other := []sale.DeskLine{supply(1)}
	receive(t, steering(within(t), c, other...)).want(t, other, "")
	again := receive(t, steering(within(t), c, lines...))
	again.want(t, lines, "")
	if again.After.Revision != first.After.Revision {
		t.Errorf("it was decided at revision %d, and again at %d", first.After.Revision, again.After.Revision)
	}
	later := []sale.DeskLine{supply(2), lines[0]}
	s := receive(t, steering(within(t), c, later...))
	s.want(t, later, "", sale.DuplicateLine)
	if s.After.Available != 1+4+1+2 || s.After.N != 4 {
		t.Errorf("after link %d %d are left", s.After.N, s.After.Available)
	}
}

func TestSteerUndecided(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 1, "shirt")
	lines := []sale.DeskLine{supply(4)}
	id := lines[0].ID.String()
	time := newTerm(t)
	done := steering(time, c, lines...)
	queued := w.queued(t)
	eventually(t, "it is queued", func() bool { return queued() == 1 })
	close(time.over)
	if s := receive(t, done); !errors.Is(s.err, broker.ErrUndecided) || !strings.Contains(s.err.Error(), "line "+id+" is in the queue") {
		t.Errorf("without a worker it says %v", s.err)
	}

	// Its answer may be lost, and then nobody knows.
	g := w.gate()
	g.losing(isStored)
	time = newTerm(t)
	done = steering(time, dial(t, w.options(t, g)), lines...)
	eventually(t, "the answer is lost", func() bool { return g.lost() > 0 })
	close(time.over)
	if s := receive(t, done); !errors.Is(s.err, broker.ErrUndecided) || !strings.Contains(s.err.Error(), "line "+id+" may be in the queue") {
		t.Errorf("without an answer it says %v", s.err)
	}
	if n := queued(); n != 1 {
		t.Errorf("the queue holds it %d times", n)
	}

	// Asked again under the same id, it is the line that was queued first.
	done = steering(within(t), c, lines...)
	w.work(t, "shirt")
	receive(t, done).want(t, lines, "")
}

func TestSteerWhatNobodySells(t *testing.T) {
	w := on(t, one)
	c := w.connect(t)
	for _, when := range []string{"without a queue", "without the product"} {
		if s := receive(t, steering(within(t), c, supply(1))); !errors.Is(s.err, sale.ErrUnknownProduct) {
			t.Errorf("%s: %v", when, s.err)
		}
		w.sell(t, 1, "mug")
	}
}

func TestSteerAFullQueue(t *testing.T) {
	w := on(t, one)
	c := w.connect(t)
	layout := w.layout(5, "shirt")
	layout.MaxMessages = 1
	if err := broker.Provision(within(t), c, layout); err != nil {
		t.Fatal(err)
	}
	publish(t, w.admin(t), "shirt", []byte("waits"))
	if s := receive(t, steering(within(t), c, supply(1))); !errors.Is(s.err, sale.ErrQueueFull) || errors.Is(s.err, broker.ErrUndecided) {
		t.Errorf("of a full queue it says %v", s.err)
	}
}

// The link before is the one that is continued, whatever was written by hand in between.
func TestSteerBehindAValueByHand(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 1, "shirt")
	w.work(t, "shirt")
	for range 2 {
		put(t, w.bucket(t), "shirt", []byte("garbage"))
		put(t, w.bucket(t), "shirt", nth(t, c, 1))
		lines := []sale.DeskLine{supply(4)}
		receive(t, steering(within(t), c, lines...)).want(t, lines, "")
	}
}
