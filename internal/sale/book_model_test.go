package sale

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// naiveBook is the book as one would write it down: lists, searched through.
type naiveBook struct {
	orders  []*naiveOrder // as they were first heard of
	entries map[ProductID][]*Entry
	tickets map[ProductID][]ticket // of those who wait, first in line first
	expects map[ProductID]place    // the newest message expected
}

type naiveOrder struct {
	status Status
	void   bool
}

type ticket struct {
	place
	order *naiveOrder
}

// place is a message's.
type place struct {
	epoch string
	seq   uint64
}

func newNaiveBook() *naiveBook {
	return &naiveBook{entries: map[ProductID][]*Entry{}, tickets: map[ProductID][]ticket{}, expects: map[ProductID]place{}}
}

func (n *naiveBook) find(id OrderID, product ProductID) *naiveOrder {
	for _, o := range n.orders {
		if o.status.ID == id && o.status.Product == product && !o.void {
			return o
		}
	}
	return nil
}

func (n *naiveBook) push(o Order, product ProductID) *naiveOrder {
	added := &naiveOrder{status: Status{Order: o, Product: product}}
	n.orders = append(n.orders, added)
	return added
}

func (n *naiveBook) head(product ProductID) Head {
	if e := n.entries[product]; len(e) > 0 {
		return e[len(e)-1].Head
	}
	return Head{}
}

func (n *naiveBook) expect(m *Message, lines []Line) {
	if n.expects[m.Product].epoch != m.Epoch {
		n.expects[m.Product], n.tickets[m.Product] = place{m.Epoch, 0}, nil
	}
	head := n.head(m.Product)
	if m.Seq <= n.expects[m.Product].seq || head.Epoch == m.Epoch && m.Seq <= head.Seq {
		return
	}
	n.expects[m.Product] = place{m.Epoch, m.Seq}
	for _, l := range lines {
		if l.Err == nil && n.find(l.Order.ID, m.Product) == nil {
			n.tickets[m.Product] = append(n.tickets[m.Product], ticket{place{m.Epoch, m.Seq}, n.push(l.Order, m.Product)})
		}
	}
}

func (n *naiveBook) apply(e *Entry) {
	if e.N <= n.head(e.Product).N {
		return
	}
	for _, o := range e.Orders {
		known := n.find(o.ID, e.Product)
		if !o.Outcome.Final() || known != nil && known.status.Outcome != Pending {
			continue
		}
		if known != nil && known.status.Email != o.Email {
			known.void = true
			known = nil
		}
		if known == nil {
			known = n.push(o.Order, e.Product)
		}
		known.status = Status{o.Order, e.Product, o.Outcome, o.Place, e.DecidedAt}
	}
	n.entries[e.Product] = append(n.entries[e.Product], e)
	n.tickets[e.Product] = slices.DeleteFunc(n.tickets[e.Product], func(t ticket) bool { return t.epoch == e.Epoch && t.seq <= e.Seq })
}

func (n *naiveBook) newest(e Email) []Status {
	var found []Status
	for _, o := range slices.Backward(n.orders) {
		if o.status.Email == e && !o.void {
			found = append(found, o.status)
		}
	}
	return found
}

func (n *naiveBook) recent(e Email, max int) (found []Status) {
	for i, s := range n.newest(e) {
		if i < max || s.Outcome == Pending {
			found = append(found, s)
		}
	}
	slices.Reverse(found)
	return found
}

func (n *naiveBook) waits(e Email) map[ProductID]Wait {
	waits := map[ProductID]Wait{}
	for product, tickets := range n.tickets {
		for ahead, t := range tickets {
			if s := t.order.status; s.Email == e && s.Outcome == Pending && !t.order.void {
				waits[product] = Wait{product, uint64(ahead), n.head(product).Decided}
				break
			}
		}
	}
	return waits
}

func (n *naiveBook) got(e Email, product ProductID) (units int64) {
	for _, entry := range n.entries[product] {
		for _, o := range entry.Orders {
			if o.Email == e && o.Outcome == Accepted {
				units += int64(o.Quantity)
			}
		}
	}
	return units
}

func (n *naiveBook) decided(id OrderID, product ProductID) bool {
	for _, entry := range n.entries[product] {
		if slices.ContainsFunc(entry.Orders, func(o EntryOrder) bool { return o.ID == id && o.Outcome.Final() }) {
			return true
		}
	}
	return false
}

// queued is a message and what became of it: nil if all its lines are dead.
type queued struct {
	m     Message
	lines []Line
	entry *Entry
}

// genSale is the queue of one product, in two epochs, with its ledger.
func genSale(product ProductID, ids, buyers int) *rapid.Generator[[]queued] {
	return rapid.Custom(func(t *rapid.T) []queued {
		stock, err := NewStock(product, rapid.Int64Range(0, 30).Draw(t, "supplied"), rapid.Int64Range(0, 4).Draw(t, "limit"))
		if err != nil {
			t.Fatal(err)
		}
		past := history{product: product}
		var sale []queued
		for epoch := range rapid.IntRange(1, 2).Draw(t, "epochs") {
			seq := uint64(0)
			for range rapid.IntRange(0, 8).Draw(t, "messages") {
				seq += rapid.Uint64Range(1, 3).Draw(t, "step") // other products' messages lie between
				q := queued{m: Message{Product: product, Epoch: fmt.Sprintf("epoch %d", epoch), Seq: seq},
					lines: genLines(genOrder(ids, buyers, 3), 4).Draw(t, "lines")}
				if !allDead(q.lines) {
					next, outcomes := Decide(stock, &past, q.lines)
					next.Entries++
					head := Head{Epoch: q.m.Epoch, Seq: seq, N: next.Entries, Prev: stock.LedgerHead, Supplied: next.Supplied,
						Available: next.Available, Decided: next.Decided, DecidedAt: genInstant().Draw(t, "decided at")}
					next.Last = &Last{Head: head, Outcomes: outcomes, Orders: entryOrders(q.lines, outcomes, next.Decided)}
					q.entry = next.Entry()
					next.LedgerHead = hashEntry(q.entry.Encode())
					for i, o := range outcomes {
						if o.Final() {
							past.orders = append(past.orders, decidedOrder{Order: q.lines[i].Order, outcome: o})
						}
					}
					stock = next
				}
				sale = append(sale, q)
			}
		}
		return sale
	})
}

// The queue's feed and the ledger's feed reach an instance in any interleaving,
// with repetitions, with gaps in the queue's, late or not at all. After each step
// the book answers what the lists answer.
func TestBookIsTheNaiveBook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		products := []ProductID{"tshirt", "mug"}
		sales := map[ProductID][]queued{}
		expected, applied := map[ProductID]int{}, map[ProductID]int{}
		for _, p := range products {
			sales[p] = genSale(p, 14, 4).Draw(t, "sale")
		}
		book, naive := NewBook(10), newNaiveBook()
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			p := rapid.SampledFrom(products).Draw(t, "product")
			queue := sales[p]
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0, 1, 2, 3: // the next message, now and then with one left out
				if next := expected[p] + rapid.IntRange(0, 3).Draw(t, "left out")/3; next < len(queue) {
					book.Expect(&queue[next].m, queue[next].lines)
					naive.expect(&queue[next].m, queue[next].lines)
					expected[p] = next + 1
				}
			case 4: // an earlier one again, in the same epoch
				if n := expected[p]; n > 0 {
					again := rapid.IntRange(0, n-1).Draw(t, "again")
					if queue[again].m.Epoch == queue[n-1].m.Epoch {
						book.Expect(&queue[again].m, queue[again].lines)
						naive.expect(&queue[again].m, queue[again].lines)
					}
				}
			case 5: // an entry again
				if n := applied[p]; n > 0 {
					if e := queue[rapid.IntRange(0, n-1).Draw(t, "again")].entry; e != nil {
						apply(t, book, naive, e)
					}
				}
			default:
				if n := applied[p]; n < len(queue) {
					if e := queue[n].entry; e != nil {
						apply(t, book, naive, e)
					}
					applied[p]++
				}
			}
			compareBooks(t, book, naive, products)
		}
	})
}

func apply(t *rapid.T, book *Book, naive *naiveBook, e *Entry) {
	if err := book.Apply(e); err != nil {
		t.Fatal(err)
	}
	naive.apply(e)
}

func compareBooks(t *rapid.T, book *Book, naive *naiveBook, products []ProductID) {
	if book.Len() != len(naive.orders) || book.Full() != (len(naive.orders) >= 10) {
		t.Fatalf("%d orders, full %v; want %d", book.Len(), book.Full(), len(naive.orders))
	}
	for _, p := range products {
		head := naive.head(p)
		epoch, seq := book.Settled(p)
		if book.Entries(p) != head.N || epoch != head.Epoch || seq != head.Seq {
			t.Fatalf("%s is at entry %d, message %d of %q; want %+v", p, book.Entries(p), seq, epoch, head)
		}
		if got, want := book.Waiting(p), uint64(len(naive.tickets[p])); got != want {
			t.Fatalf("%d wait for %s, want %d", got, p, want)
		}
		for id := range 14 {
			if got, want := book.Decided(testID(id), p), naive.decided(testID(id), p); got != want {
				t.Fatalf("order %d of %s is decided: %v, want %v", id, p, got, want)
			}
		}
	}
	for id := range 14 {
		compareStatus(t, book, naive, testID(id), products)
	}
	for buyer := range 4 {
		e := testBuyer(buyer)
		all := naive.newest(e)
		for _, max := range []int{0, 1, 3, 100} {
			if got, want := book.Newest(e, max), all[:min(max, len(all))]; !sameStatuses(got, want) {
				t.Fatalf("the newest %d of %s are\n%+v, want\n%+v", max, e, got, want)
			}
			if got, want := book.Recent(e, max), naive.recent(e, max); !sameStatuses(got, want) {
				t.Fatalf("the recent %d of %s are\n%+v, want\n%+v", max, e, got, want)
			}
		}
		waits := map[ProductID]Wait{}
		for _, w := range book.Waits(e) {
			waits[w.Product] = w
		}
		if want := naive.waits(e); !reflect.DeepEqual(waits, want) {
			t.Fatalf("%s waits %+v, want %+v", e, waits, want)
		}
		for _, p := range products {
			if got, want := book.Got(e, p), naive.got(e, p); got != want {
				t.Fatalf("%s got %d of %s, want %d", e, got, p, want)
			}
		}
	}
}

func compareStatus(t *rapid.T, book *Book, naive *naiveBook, id OrderID, products []ProductID) {
	all := map[Email][]Status{}
	for _, p := range products {
		var want Status
		o := naive.find(id, p)
		if o != nil {
			want = o.status
			all[want.Email] = append(all[want.Email], want)
		}
		if got, known := book.Taken(id, p); got != want || known != (o != nil) {
			t.Fatalf("order %s of %s is %+v, %v; want %+v", id, p, got, known, want)
		}
	}
	for n := range 4 {
		e := testBuyer(n)
		var want Status
		for i, s := range all[e] {
			if i == 0 || told(s, want) < 0 {
				want = s
			}
		}
		if got, known := book.Status(id, e); got != want || known != (len(all[e]) > 0) {
			t.Fatalf("order %s of %s is %+v, %v; want %+v", id, e, got, known, want)
		}
	}
}

// told compares orders of one buyer under one id: below zero if a is the one that
// the buyer is told of.
func told(a, b Status) int {
	undecided := func(s Status) int {
		if s.Outcome == Pending {
			return 1
		}
		return 0
	}
	return cmp.Or(undecided(a)-undecided(b), a.DecidedAt.Compare(b.DecidedAt), cmp.Compare(a.Product, b.Product))
}

func sameStatuses(a, b []Status) bool { return len(a) == 0 && len(b) == 0 || slices.Equal(a, b) }

// When nothing is left out, the tickets are exactly the undecided orders.
func TestWaitingIsExactWithoutGaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		queue := genSale("tshirt", 100, 4).Draw(t, "sale")
		book, next := NewBook(1000), 0
		for i := range queue {
			book.Expect(&queue[i].m, queue[i].lines)
			for rapid.Bool().Draw(t, "decide") && next <= i {
				if e := queue[next].entry; e != nil && e.Epoch == queue[i].m.Epoch {
					if err := book.Apply(e); err != nil {
						t.Fatal(err)
					}
				} else if e != nil {
					break // what the old queue held is not decided any more
				}
				next++
			}
			var pending uint64
			for buyer := range 4 {
				for _, s := range book.Newest(testBuyer(buyer), 1000) {
					if s.Outcome == Pending {
						pending++
					}
				}
			}
			if i == 0 || queue[0].m.Epoch == queue[i].m.Epoch {
				if got := book.Waiting("tshirt"); got != pending {
					t.Fatalf("%d wait, %d are undecided", got, pending)
				}
			}
		}
	})
}

func TestBookRefusesAGap(t *testing.T) {
	book := NewBook(10)
	var heard []uint64
	book.OnApply(func(_ ProductID, h Head) { heard = append(heard, h.N) })
	entry := func(n uint64) *Entry {
		return &Entry{Product: "tshirt", Head: Head{Epoch: testEpoch, Seq: n, N: n},
			Orders: []EntryOrder{{Order{testID(int(n)), "a@b.c", 1, testTime}, n, Accepted}}}
	}
	err := errors.Join(book.Apply(entry(1)), book.Apply(entry(1)), book.Apply(entry(2)))
	if gap := book.Apply(entry(4)); err != nil || gap == nil {
		t.Errorf("in order: %v; with a gap: %v", err, gap)
	}
	if book.Len() != 2 || book.Entries("tshirt") != 2 || book.Got("a@b.c", "tshirt") != 2 || !slices.Equal(heard, []uint64{1, 2}) {
		t.Errorf("%d orders, %d entries, heard of %v", book.Len(), book.Entries("tshirt"), heard)
	}
}
