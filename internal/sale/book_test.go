package sale

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
)

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
				if p, ok := book.Product("tshirt"); ok && (!p.addsUp() || p.Decided != size*(p.N-1)) {
					t.Errorf("the product is %+v", p)
				}
				book.Newest(e, 3)
				book.Queued()
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
	// Feed and worker bring the same links.
	for range 2 {
		feeds.Go(func() {
			head := Head{Stock: Stock{Product: "tshirt"}}
			first, err := NewProduct("tshirt", groups*size, 0, testEpoch, testTime)
			if err == nil {
				err = book.Apply("tshirt", 1, first.Encode())
			}
			head.follow(first, HashOf(first.Encode()))
			for n := uint64(1); n <= groups; n++ {
				m, lines := message(n)
				link, _ := head.Decide(&naivePast{}, m, lines, "a", testTime)
				value := link.Encode()
				head.follow(link, HashOf(value))
				err = errors.Join(err, book.Apply("tshirt", Seq(2*n), value))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	feeds.Wait()
	close(done)
	readers.Wait()
	if p, _ := book.Product("tshirt"); book.Len() != groups*size || p.Waiting != 0 || book.Queued() != 0 || book.Got(testBuyer(0), "tshirt") != groups {
		t.Errorf("%d orders, %d wait in %d messages, the first buyer got %d", book.Len(), p.Waiting, book.Queued(), book.Got(testBuyer(0), "tshirt"))
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

// A pause holds from when it is heard of until it is settled, and then as it was
// decided. A queue that is gone pauses nothing.
func TestPauseClosesTheDoorAtOnce(t *testing.T) {
	book := NewBook(10)
	head, past, at := Head{Stock: Stock{Product: "tshirt"}}, &naivePast{product: "tshirt"}, Seq(0)
	store := func(link *Link) {
		t.Helper()
		at++
		value := link.Encode()
		head.follow(link, HashOf(value))
		for _, d := range link.Desk {
			past.lines = append(past.lines, d.ID)
		}
		if err := book.Apply("tshirt", at, value); err != nil {
			t.Fatal(err)
		}
	}
	message := func(epoch string, seq uint64, lines string) (*Message, []Line) {
		m := &Message{Product: "tshirt", Desk: true, Epoch: epoch, Seq: seq, Data: []byte(lines)}
		return m, m.Lines()
	}
	want := func(state State, pausing bool, queued int64) {
		t.Helper()
		p, _ := book.Product("tshirt")
		if got := p.State(testTime); got != state || p.Pausing != pausing || book.Queued() != queued {
			t.Errorf("the product is %s, pausing %v, %d messages wait; want %s, %v, %d", got, p.Pausing, book.Queued(), state, pausing, queued)
		}
	}
	first, err := NewProduct("tshirt", 5, 0, testEpoch, testTime)
	if err != nil {
		t.Fatal(err)
	}
	store(first)
	want(StateOpen, false, 0)
	pause := fmt.Sprintf(`{"id":"%s","do":"terms","paused":true}`, testID(1))
	resume := fmt.Sprintf(`{"id":"%s","do":"terms","paused":false}`, testID(2))
	// The pause, a way back that counts from its link only, and the pause once more,
	// which will be a duplicate.
	for i, lines := range []string{`{"do":"supply","units":1}`, pause, resume, pause} {
		book.Expect(message(testEpoch, uint64(i+1), lines))
		want([]State{StateOpen, StatePaused, StatePaused, StatePaused}[i], i > 0, int64(i+1))
	}
	for i, lines := range []string{`{"do":"supply","units":1}`, pause, resume, pause} {
		m, read := message(testEpoch, uint64(i+1), lines)
		link, _ := head.Decide(past, m, read, "a", testTime)
		store(link)
		want([]State{StatePaused, StatePaused, StatePaused, StateOpen}[i], i < 3, int64(3-i))
	}
	book.Expect(message(testEpoch, 9, "garbage\n"+fmt.Sprintf(`{"id":"%s","do":"terms","limit_per_buyer":1,"paused":true}`, testID(3))))
	want(StatePaused, true, 1)
	book.Expect(message(laterEpoch, 1, resume))
	want(StateOpen, false, 1)
	// Other states go first, as with a pause that is decided.
	book.Expect(message(laterEpoch, 2, fmt.Sprintf(`{"id":"%s","do":"terms","paused":true}`, testID(4))))
	p, _ := book.Product("tshirt")
	p.OpensAt = &testTime
	if got := p.State(testTime.Add(-1)); got != StateNotOpen {
		t.Errorf("before it opens it is %s", got)
	}
	if p.Paused {
		t.Error("State changed the product")
	}
}

// A link that cannot be read stops the product, for good and alone.
func TestBookStops(t *testing.T) {
	book := NewBook(10)
	heard := 0
	book.OnApply(func(ProductID, Head) { heard++ })
	book.OnForeign(func(ProductID, Seq, error) { heard++ })
	var values [][]byte
	for _, p := range []ProductID{"tshirt", "mug"} {
		first, err := NewProduct(p, 5, 0, testEpoch, testTime)
		if err != nil {
			t.Fatal(err)
		}
		head := Head{Stock: Stock{Product: p}}
		head.follow(first, HashOf(first.Encode()))
		second, _ := head.Decide(&naivePast{}, &Message{Product: p, Epoch: testEpoch, Seq: 1}, nil, "a", testTime)
		newer := bytes.Replace(second.Encode(), []byte(`"v":2`), []byte(`"v":3`), 1)
		values = append(values, first.Encode(), second.Encode(), newer)
	}
	err := errors.Join(book.Apply("tshirt", 1, values[0]), book.Apply("mug", 2, values[3]))
	stop := book.Apply("tshirt", 3, values[2])
	if err != nil || !errors.Is(stop, ErrNewer) || !errors.Is(book.Stopped("tshirt"), ErrNewer) || book.Stopped("mug") != nil || book.Stopped("cup") != nil {
		t.Fatalf("%v; then %v, stopped is %v, the other product's %v", err, stop, book.Stopped("tshirt"), book.Stopped("mug"))
	}
	for seq, value := range [][]byte{values[0], nil, values[1], values[1]} {
		if err := book.Apply("tshirt", Seq(seq+2), value); !errors.Is(err, ErrNewer) {
			t.Errorf("then %v", err)
		}
	}
	if head, seen := book.Head("tshirt"); head.N != 1 || seen != 1 || book.Foreign("tshirt") != 0 {
		t.Errorf("it went on to link %d at revision %d", head.N, seen)
	}
	if err := book.Apply("mug", 9, values[4]); err != nil || heard != 3 {
		t.Errorf("the other product: %v, told %d times", err, heard)
	}
}
