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

// queued is a message as the queue's feed brings it.
type queued struct {
	m     Message
	lines []Line
}

// revision is a stored value, of no link if it was put by hand.
type revision struct {
	seq   Seq
	value []byte
	link  *Link
}

// sold is the queue of one product, in two epochs, and its history.
type sold struct {
	queue     []queued
	revisions []revision
}

// genSale draws a queue and its history. What the first queue held last was not decided
// when it was replaced, and comes again in the second one.
func genSale(product ProductID, ids, buyers int) *rapid.Generator[*sold] {
	return rapid.Custom(func(t *rapid.T) *sold {
		s := &sold{}
		past, head, at := &naivePast{product: product}, Head{Stock: Stock{Product: product}}, Seq(0)
		store := func(value []byte, link *Link) {
			at += Seq(rapid.IntRange(1, 3).Draw(t, "step")) // other products' revisions lie between
			s.revisions = append(s.revisions, revision{at, value, link})
		}
		foreign := func() {
			for rapid.IntRange(0, 7).Draw(t, "by hand") == 0 {
				values := [][]byte{nil, []byte("garbage")}
				for _, r := range s.revisions {
					values = append(values, r.value)
				}
				store(rapid.SampledFrom(values).Draw(t, "value"), nil)
			}
		}
		decide := func(q *queued) {
			foreign()
			link, _ := head.Decide(past, &q.m, q.lines, "a", genInstant().Draw(t, "decided at"))
			for _, o := range link.Orders {
				past.orders = append(past.orders, pastOrder{Order: o.Order, outcome: o.Outcome})
			}
			for _, d := range link.Desk {
				past.lines = append(past.lines, d.ID)
			}
			value := link.Encode()
			head.follow(link, HashOf(value))
			store(value, link)
		}
		foreign()
		first, err := NewProduct(product, rapid.Int64Range(0, 30).Draw(t, "supplied"), rapid.Int64Range(0, 4).Draw(t, "limit"), testEpoch, testTime)
		if err != nil {
			t.Fatal(err)
		}
		head.follow(first, HashOf(first.Encode()))
		store(first.Encode(), first)
		var lost []queued
		for _, epoch := range []string{testEpoch, laterEpoch}[:rapid.IntRange(1, 2).Draw(t, "epochs")] {
			seq := uint64(0)
			for range rapid.IntRange(0, 8).Draw(t, "messages") {
				var q queued
				if len(lost) > 0 {
					q, lost = lost[0], lost[1:]
					q.m.Epoch, seq = epoch, q.m.Seq
				} else {
					seq += rapid.Uint64Range(1, 3).Draw(t, "step") // other products' messages lie between
					q.m = Message{Product: product, Epoch: epoch, Seq: seq, Desk: rapid.IntRange(0, 3).Draw(t, "desk") == 0}
					if q.m.Desk {
						q.lines = genDeskLines(genDeskLine(5), 3).Draw(t, "lines")
					} else {
						q.lines = genLines(genOrder(ids, buyers, 3), 4).Draw(t, "lines")
					}
				}
				s.queue = append(s.queue, q)
			}
			n := len(s.queue)
			for n > 0 && s.queue[n-1].m.Epoch == epoch && rapid.IntRange(0, 2).Draw(t, "lost") == 0 {
				n--
			}
			lost = slices.Clone(s.queue[n:])
			for i := range s.queue[:n] {
				if s.queue[i].m.Epoch == epoch {
					decide(&s.queue[i])
				}
			}
		}
		foreign()
		return s
	})
}

// The queue's feed and the history's feed reach an instance in any interleaving, with
// repetitions, with gaps in the queue's, late or not at all; and its own worker brings
// links besides. After each step the book answers what the lists answer.
func TestBookIsTheNaiveBook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		products := []ProductID{"tshirt", "mug"}
		sales := map[ProductID]*sold{}
		expected, applied := map[ProductID]int{}, map[ProductID]int{}
		for _, p := range products {
			sales[p] = genSale(p, 14, 4).Draw(t, "sale")
		}
		book, naive := NewBook(10), newNaiveBook(products)
		var heard, want []string
		book.OnApply(func(p ProductID, h Head) { heard = append(heard, fmt.Sprintf("%s %d %s", p, h.N, h.Hash)) })
		book.OnForeign(func(p ProductID, seq Seq, err error) {
			heard = append(heard, fmt.Sprintf("%s at %d is foreign: %v", p, seq, errors.Is(err, ErrNoLink)))
		})
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			p := rapid.SampledFrom(products).Draw(t, "product")
			queue, revisions := sales[p].queue, sales[p].revisions
			bring := func(r revision) {
				var err error
				if r.link != nil && rapid.Bool().Draw(t, "own") {
					err = book.applyOwn(r.seq, r.link, HashOf(r.value))
				} else {
					err = book.Apply(p, r.seq, r.value)
				}
				if err != nil {
					t.Fatal(err)
				}
				if told := naive.apply(p, r); told != "" {
					want = append(want, told)
				}
			}
			switch rapid.IntRange(0, 20).Draw(t, "step") {
			case 0, 1, 2, 3, 4, 5, 6, 7: // the next message, now and then with one left out
				if next := expected[p] + rapid.IntRange(0, 3).Draw(t, "left out")/3; next < len(queue) {
					book.Expect(&queue[next].m, queue[next].lines)
					naive.expect(&queue[next].m, queue[next].lines)
					expected[p] = next + 1
				}
			case 8, 9: // an earlier one again, in the same epoch
				if n := expected[p]; n > 0 {
					again := rapid.IntRange(0, n-1).Draw(t, "again")
					if queue[again].m.Epoch == queue[n-1].m.Epoch {
						book.Expect(&queue[again].m, queue[again].lines)
						naive.expect(&queue[again].m, queue[again].lines)
					}
				}
			case 10: // word of the queue that is now
				book.Renew(laterEpoch)
				for _, p := range products {
					naive.renew(p, laterEpoch)
				}
			case 11, 12: // a revision again
				if n := applied[p]; n > 0 {
					bring(revisions[rapid.IntRange(0, n-1).Draw(t, "again")])
				}
			default:
				if n := applied[p]; n < len(revisions) {
					bring(revisions[n])
					applied[p]++
				}
			}
			if !slices.Equal(heard, want) {
				t.Fatalf("the book told of %q, want %q", heard, want)
			}
			compareBooks(t, book, naive, products)
			for _, q := range queue {
				if !naive.folds[p].known {
					break // nothing can be settled yet
				}
				got, unknown := book.Settled(&q.m, q.lines)
				if want, wantUnknown := naive.settled(&q.m, q.lines); unknown != wantUnknown || !sameStatuses(got, want) {
					t.Fatalf("message %+v came to %+v, line %d is unknown; want %+v, %d", q.m, got, unknown, want, wantUnknown)
				}
			}
		}
	})
}

func compareBooks(t *rapid.T, book *Book, naive *naiveBook, products []ProductID) {
	if book.Len() != len(naive.orders) || book.Full() != (len(naive.orders) >= 10) {
		t.Fatalf("%d orders, full %v; want %d", book.Len(), book.Full(), len(naive.orders))
	}
	queued, listed := 0, []Product{}
	for _, p := range slices.Sorted(slices.Values(products)) {
		f, newest := naive.folds[p], naive.newestLink(p)
		queued += len(f.waiting)
		head, seen := book.Head(p)
		if head.N != newest.N || seen != f.seen || head.Queue != newest.Queue || !reflect.DeepEqual(head.Stock, newest.Stock) || !head.At.Equal(newest.At) || head.By != newest.By {
			t.Fatalf("%s is at revision %d, %+v; want %d, %+v", p, seen, head, f.seen, newest)
		}
		if book.Foreign(p) != f.foreign || book.Stopped(p) != nil {
			t.Fatalf("%s has %d foreign values, want %d; it is stopped: %v", p, book.Foreign(p), f.foreign, book.Stopped(p))
		}
		want := Product{Stock: newest.Stock, N: newest.N, Revision: f.at, Queue: newest.Queue, Waiting: uint64(len(f.tickets)),
			Pausing: slices.ContainsFunc(f.waiting, func(m naiveMessage) bool { return m.pauses })}
		got, known := book.Product(p)
		if known && got.Since.IsZero() != (len(f.waiting) == 0) {
			t.Fatalf("%d messages of %s wait since %v", len(f.waiting), p, got.Since)
		}
		want.Since = got.Since // the clock's
		if known != (newest.N > 0) || known && !reflect.DeepEqual(got, want) {
			t.Fatalf("the product is %+v, %v; want %+v", got, known, want)
		}
		if known {
			listed = append(listed, want)
		}
		for id := range 14 {
			if got, want := book.Decided(testID(id), p), naive.decided(testID(id), p); got != want {
				t.Fatalf("order %d of %s is decided: %v, want %v", id, p, got, want)
			}
			if id := testID(1000 + id); book.Steered(id, p) != naive.steered(id, p) {
				t.Fatalf("line %s of %s is steered: %v", id, p, book.Steered(id, p))
			}
		}
	}
	if got := book.Products(); !reflect.DeepEqual(got, listed) {
		t.Fatalf("the products are %+v, want %+v", got, listed)
	}
	if only, one := book.Only(); one != (len(listed) == 1) || one && !reflect.DeepEqual(only, listed[0]) {
		t.Fatalf("the only product is %+v, %v", only, one)
	}
	if book.Queued() != int64(queued) {
		t.Fatalf("%d messages wait, want %d", book.Queued(), queued)
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
			want = naive.statusOf(o)
			all[want.Email] = append(all[want.Email], want)
		}
		if got, known := book.Taken(id, p); got != want || known != (o != nil) {
			t.Fatalf("order %s of %s is %+v, %v; want %+v", id, p, got, known, want)
		}
		if got := book.Turn(id, p); got != want.Turn {
			t.Fatalf("the turn of order %s of %s is %d, want %d", id, p, got, want.Turn)
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
		s := genSale("tshirt", 100, 4).Draw(t, "sale")
		book, next := NewBook(1000), 0
		apply := func() {
			if err := book.Apply("tshirt", s.revisions[next].seq, s.revisions[next].value); err != nil {
				t.Fatal(err)
			}
			next++
		}
		for i := range s.queue {
			if s.queue[i].m.Epoch != testEpoch {
				return // what the old queue held is not decided any more
			}
			book.Expect(&s.queue[i].m, s.queue[i].lines)
			for next < len(s.revisions) && rapid.Bool().Draw(t, "decide") {
				if l := s.revisions[next].link; l != nil && (l.Queue.Epoch != testEpoch || l.Queue.Seq > s.queue[i].m.Seq) {
					break
				}
				apply()
			}
			var pending uint64
			for buyer := range 4 {
				for _, s := range book.Newest(testBuyer(buyer), 1000) {
					if s.Outcome == Pending {
						pending++
					}
				}
			}
			if got, known := book.Product("tshirt"); known && got.Waiting != pending {
				t.Fatalf("%d wait, %d are undecided", got.Waiting, pending)
			}
		}
	})
}
