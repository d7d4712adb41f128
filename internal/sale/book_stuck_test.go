package sale

import (
	"testing"
	"testing/synctest"
	"time"
)

// stuckBook is a book with one product that is open, and what takes the next message
// with one order to its link.
func stuckBook(t *testing.T) (book *Book, expect func(), link func()) {
	t.Helper()
	book, head, seq := NewBook(100), Head{Stock: Stock{Product: "tshirt"}}, uint64(0)
	store := func(l *Link, err error) {
		t.Helper()
		value := l.Encode()
		if err == nil {
			_, err = head.Continue(value)
		}
		if err == nil {
			err = book.Apply("tshirt", Seq(head.N), value)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	store(NewProduct("tshirt", 100, 0, testEpoch, testTime))
	message := func(seq uint64) (*Message, []Line) {
		return &Message{Product: "tshirt", Epoch: testEpoch, Seq: seq}, []Line{{N: 1, Order: Order{testID(int(seq)), testBuyer(1), 1, testTime}}}
	}
	expect = func() {
		seq++
		book.Expect(message(seq))
	}
	link = func() {
		t.Helper()
		m, lines := message(head.Queue.Seq + 1)
		next, _ := head.Decide(book, m, lines, "test", testTime)
		store(next, nil)
	}
	return book, expect, link
}

// A product that is stuck says so where it would be open. The next link ends that, unless
// what is wrong stays wrong.
func TestBookStuck(t *testing.T) {
	t.Parallel()
	book, _, link := stuckBook(t)
	want := func(state State, why string) {
		t.Helper()
		p, _ := book.Product("tshirt")
		if p.State(testTime) != state || p.Stuck != why {
			t.Errorf("the product is %s, stuck %q; want %s, %q", p.State(testTime), p.Stuck, state, why)
		}
	}
	want(StateOpen, "")
	book.SetStuck("nobody", "unknown products do not matter", true)
	book.SetStuck("tshirt", "paused", false)
	want(StateStuck, "paused")
	if p, _ := book.Product("tshirt"); p.State(testTime) == StateStuck {
		p.Paused = true
		if state := p.State(testTime); state != StatePaused {
			t.Errorf("paused and stuck, it is %s", state)
		}
	}
	link()
	want(StateOpen, "")
	book.SetStuck("tshirt", "behind", true)
	link()
	want(StateStuck, "behind")
	book.SetStuck("tshirt", "", false)
	want(StateOpen, "")
}

// Since counts from the oldest message that waits, or from the newest link after it.
func TestBookTellsSinceWhenNothingIsDecided(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		book, expect, link := stuckBook(t)
		want := func(since time.Time) {
			t.Helper()
			if p, _ := book.Product("tshirt"); !p.Since.Equal(since) {
				t.Errorf("nothing is decided since %v, want %v", p.Since, since)
			}
		}
		want(time.Time{})
		first := time.Now()
		expect()
		time.Sleep(time.Second)
		expect()
		want(first)
		link()
		want(time.Now())
		link()
		want(time.Time{})
	})
}

// Messages that left the queue undecided wait no more, and their tickets hold nobody up.
func TestBookVanished(t *testing.T) {
	t.Parallel()
	book, expect, _ := stuckBook(t)
	for range 3 {
		expect()
	}
	if n := book.Vanished("tshirt", Position{Epoch: testEpoch, Seq: 2}); n != 2 {
		t.Errorf("%d messages vanished, want 2", n)
	}
	if n := book.Vanished("nobody", Position{Epoch: testEpoch, Seq: 2}); n != 0 {
		t.Errorf("%d messages of nobody vanished", n)
	}
	p, _ := book.Product("tshirt")
	if p.Waiting != 1 || book.Queued() != 1 || p.Since.IsZero() {
		t.Errorf("%d orders and %d messages wait, since %v", p.Waiting, book.Queued(), p.Since)
	}
	book.Vanished("tshirt", Position{Epoch: testEpoch, Seq: 3})
	if p, _ := book.Product("tshirt"); p.Waiting != 0 || book.Queued() != 0 || !p.Since.IsZero() {
		t.Errorf("%d orders and %d messages wait, since %v", p.Waiting, book.Queued(), p.Since)
	}
}
