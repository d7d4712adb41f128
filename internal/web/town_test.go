package web

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"firstcome/internal/sale"
)

const testEpoch = "2026-01-01T00:00:00Z"

// town stands in for all that is behind a server: a queue, a feed and a worker for a
// few products, with a real book. Several servers may share it.
type town struct {
	book *sale.Book

	mu       sync.Mutex
	placed   []sale.Message
	expected int      // of placed, how many the book has heard of
	decided  int      // of placed, how many are decided
	stored   sale.Seq // revisions
	deaf     bool     // the book hears of messages only when it catches up
	placeErr error
	reachErr error
	reached  int           // calls of CatchUp
	gate     chan struct{} // if not nil, Place waits for it
	placing  atomic.Int64  // calls of Place
}

func newTown(t testing.TB, products ...sale.ProductID) *town {
	t.Helper()
	return newTownOf(t, sale.NewBook(1_000_000), products...)
}

// newTownOf has five units of each product.
func newTownOf(t testing.TB, book *sale.Book, products ...sale.ProductID) *town {
	t.Helper()
	w := &town{book: book}
	for _, id := range products {
		link, err := sale.NewProduct(id, 5, 0, testEpoch, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		w.apply(t, link)
	}
	return w
}

// apply stores a link and folds it into the book.
func (w *town) apply(t testing.TB, link *sale.Link) {
	t.Helper()
	w.stored++
	if err := w.book.Apply(link.Product, w.stored, link.Encode()); err != nil {
		t.Fatal(err)
	}
	if head, seen := w.book.Head(link.Product); seen != w.stored || head.N != link.N {
		t.Fatalf("link %d of %s is none", link.N, link.Product)
	}
}

func (w *town) Place(_ context.Context, product sale.ProductID, o sale.Order) error {
	w.mu.Lock()
	gate := w.gate
	w.placing.Add(1)
	w.mu.Unlock()
	if gate != nil {
		<-gate
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.placeErr != nil {
		return w.placeErr
	}
	w.store(sale.Message{Product: product, StoredAt: o.PlacedAt, Data: o.AppendLine(nil)})
	return nil
}

// store appends to the queue.
func (w *town) store(m sale.Message) {
	m.Epoch, m.Seq = testEpoch, uint64(len(w.placed)+1)
	w.placed = append(w.placed, m)
	if !w.deaf {
		w.expect()
	}
}

func (w *town) expect() {
	for ; w.expected < len(w.placed); w.expected++ {
		m := &w.placed[w.expected]
		w.book.Expect(m, m.Lines())
	}
}

func (w *town) CatchUp(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reached++
	if w.reachErr != nil {
		return w.reachErr
	}
	w.expect()
	return nil
}

// queueDesk puts a desk line into the queue.
func (w *town) queueDesk(id sale.ProductID, line sale.DeskLine) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.store(deskMessage(id, line))
}

// steer decides a desk line at once, before the messages that wait.
func (w *town) steer(t testing.TB, id sale.ProductID, line sale.DeskLine) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	head, _ := w.book.Head(id)
	m := deskMessage(id, line)
	m.Epoch, m.Seq = head.Queue.Epoch, head.Queue.Seq
	link, _ := head.Decide(w.book, &m, m.Lines(), "test", time.Now())
	if len(link.Desk) != 1 || link.Desk[0].Refused != "" {
		t.Fatalf("%s came to %+v", m.Data, link.Desk)
	}
	w.apply(t, link)
}

func deskMessage(id sale.ProductID, line sale.DeskLine) sale.Message {
	line.ID = sale.OrderID(uuid.New())
	return sale.Message{Product: id, Desk: true, Data: line.AppendLine(nil)}
}

// left is a desk line that leaves that many units.
func left(units int64) sale.DeskLine { return sale.DeskLine{Do: sale.DoSupply, Available: &units} }

// paused is a desk line that pauses a product, or ends its pause.
func paused(is bool) sale.DeskLine { return sale.DeskLine{Do: sale.DoTerms, Paused: &is} }

// hours is a desk line that sets the hours of a product; nil is none.
func hours(opens, closes *time.Time) sale.DeskLine {
	return sale.DeskLine{Do: sale.DoTerms, OpensAt: &sale.Hour{At: opens}, ClosesAt: &sale.Hour{At: closes}}
}

// decide decides every message that waits, as the worker would, and returns the
// outcomes, which it does not broadcast.
func (w *town) decide(t testing.TB) []sale.Status {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expect()
	var all []sale.Status
	for ; w.decided < len(w.placed); w.decided++ {
		m := &w.placed[w.decided]
		head, _ := w.book.Head(m.Product)
		link, _ := head.Decide(w.book, m, m.Lines(), "test", time.Now())
		w.apply(t, link)
		all = slices.Concat(all, link.Statuses())
	}
	return all
}

// decideOne decides the message that waits first, at that time.
func (w *town) decideOne(t testing.TB, at time.Time) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expect()
	m := &w.placed[w.decided]
	w.decided++
	head, _ := w.book.Head(m.Product)
	link, _ := head.Decide(w.book, m, m.Lines(), "test", at)
	w.apply(t, link)
}

func (w *town) fail(place, reach error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.placeErr, w.reachErr = place, reach
}

// orders is how many messages were placed.
func (w *town) orders() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.placed)
}

// catchUps is how often the leader was asked.
func (w *town) catchUps() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reached
}

// handClock is a clock that a test sets while servers read it.
type handClock struct {
	start time.Time
	later atomic.Int64
}

func newHandClock() *handClock { return &handClock{start: sale.Instant(time.Now())} }

func (c *handClock) now() time.Time { return c.start.Add(time.Duration(c.later.Load())) }

func (c *handClock) set(at time.Time) { c.later.Store(int64(at.Sub(c.start))) }

func (c *handClock) pass(d time.Duration) { c.later.Add(int64(d)) }
