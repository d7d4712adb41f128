package sale

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAwaitEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := NewBook(10)
		entry := func(n uint64) *Entry { return &Entry{Product: "tshirt", Head: Head{Epoch: testEpoch, Seq: n, N: n}} }
		if err := book.AwaitEntries(t.Context(), "tshirt", 0); err != nil {
			t.Error(err)
		}
		reached := make(chan error)
		for range 2 {
			go func() { reached <- book.AwaitEntries(t.Context(), "tshirt", 2) }()
		}
		for n := uint64(1); n <= 2; n++ {
			synctest.Wait()
			select {
			case <-reached:
				t.Errorf("waited for entry 2, was told at %d", n-1)
			default:
			}
			if err := book.Apply(entry(n)); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := <-reached; err != nil {
				t.Error(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := book.AwaitEntries(ctx, "tshirt", 3); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waited in vain: %v", err)
		}
		if err := book.AwaitEntries(ctx, "tshirt", 2); err != nil {
			t.Errorf("what is there needs no waiting: %v", err)
		}
	})
}

// Readers and the two feeds use the book at once; the race detector looks on.
func TestBookUnderReaders(t *testing.T) {
	const groups, size = 200, 5
	book := NewBook(1 << 20)
	done := make(chan struct{})
	var readers, feeds sync.WaitGroup
	for i := range 2 {
		readers.Go(func() {
			e := testBuyer(i)
			for {
				select {
				case <-done:
					return
				default:
				}
				for _, s := range book.Recent(e, 20) {
					if s.Email != e {
						t.Errorf("%s is shown an order of %s", e, s.Email) // P7
					}
					book.Status(s.ID, e)
				}
				book.Waits(e)
				book.Waiting("tshirt")
				book.Newest(e, 3)
			}
		})
	}
	message := func(n uint64) (*Message, []Line) {
		lines := make([]Line, size)
		for i := range lines {
			lines[i].Order = Order{testID(int(n)*size + i), testBuyer(i), 1, testTime}
		}
		return &Message{Product: "tshirt", Epoch: testEpoch, Seq: n}, lines
	}
	feeds.Go(func() {
		for n := uint64(1); n <= groups; n++ {
			book.Expect(message(n))
		}
	})
	feeds.Go(func() {
		for n := uint64(1); n <= groups; n++ {
			_, lines := message(n)
			outcomes := make([]Outcome, size)
			for i := range outcomes {
				outcomes[i] = Accepted
			}
			err := book.Apply(&Entry{Product: "tshirt", Head: Head{Epoch: testEpoch, Seq: n, N: n, Decided: n * size},
				Orders: entryOrders(lines, outcomes, n*size)})
			if err != nil {
				t.Error(err)
			}
		}
	})
	feeds.Wait()
	close(done)
	readers.Wait()
	if book.Len() != groups*size || book.Waiting("tshirt") != 0 || book.Got(testBuyer(0), "tshirt") != groups {
		t.Errorf("%d orders, %d wait, the first buyer got %d", book.Len(), book.Waiting("tshirt"), book.Got(testBuyer(0), "tshirt"))
	}
}

// The index must hold far more than one part's first slots.
func TestBookFindsAll(t *testing.T) {
	const orders = 50_000
	book := NewBook(orders)
	lines := make([]Line, orders)
	for i := range lines {
		lines[i].Order = Order{testID(i), Email(fmt.Sprintf("buyer%d@example.com", i/2)), 1, testTime}
	}
	book.Expect(&Message{Product: "tshirt", Epoch: testEpoch, Seq: 1}, lines)
	for i := range lines {
		s, ok := book.Status(testID(i), lines[i].Order.Email)
		if !ok || s.Order != lines[i].Order {
			t.Fatalf("order %d is %+v, %v", i, s, ok)
		}
		if n := len(book.Newest(s.Email, 9)); n != 2 {
			t.Fatalf("%s has %d orders", s.Email, n)
		}
	}
	if _, ok := book.Status(testID(orders), testBuyer(0)); ok || len(book.Newest("nobody@example.com", 9)) != 0 || !book.Full() {
		t.Error("the book knows an order that nobody placed, or is not full")
	}
}

// One buyer's many orders do not hold the book for everyone: lines are looked for
// as far back as undecided orders are.
func TestWaitsLookNoFurtherThanTheirReach(t *testing.T) {
	book, e := NewBook(1<<20), testBuyer(1)
	expect := func(product ProductID, seq uint64, orders int) {
		lines := make([]Line, orders)
		for i := range lines {
			lines[i].Order = Order{testID(int(seq)*recentReach + i), e, 1, testTime}
		}
		book.Expect(&Message{Product: product, Epoch: testEpoch, Seq: seq}, lines)
	}
	want := func(waits ...Wait) {
		t.Helper()
		if got := book.Waits(e); !slices.Equal(got, waits) {
			t.Errorf("the buyer waits %+v, want %+v", got, waits)
		}
	}
	expect("mug", 1, 1)
	expect("tshirt", 2, recentReach-1)
	want(Wait{Product: "tshirt"}, Wait{Product: "mug"})
	expect("tshirt", 3, 1)
	want(Wait{Product: "tshirt"}) // the mug is out of reach
	expect("tshirt", 4, 5)
	want(Wait{Product: "tshirt", Ahead: 5}) // so are the first five shirts, which are ahead
}
