package broker_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// unwatched is a sale.Observer that notes nothing.
type unwatched struct{}

func (unwatched) Decided(sale.ProductID, []sale.Outcome, time.Duration) {}
func (unwatched) Redelivered(sale.ProductID)                            {}
func (unwatched) Conflict(sale.ProductID)                               {}

// newWorker makes a product's worker, and its queue with the witnesses that an instance
// gives it.
func newWorker(c *broker.Conn, p sale.ProductID, book *sale.Book) (*sale.Worker, *broker.Queue) {
	w := &sale.Worker{
		Product: p, Name: "test", History: broker.NewHistory(c), Book: book,
		Announcer: broker.NewAnnouncer(c), DeadLetters: broker.NewDeadLetters(c),
		Beat: c.Beat(), StepTimeout: 2 * time.Second, Now: time.Now, Observer: unwatched{}, Log: slog.New(slog.DiscardHandler),
	}
	q := broker.NewQueue(c, p, broker.Witnesses{Newest: w.Newest})
	w.Queue = q
	return w, q
}

// work decides a product on another instance, until the test ends or stop is called.
func (w *world) work(t testing.TB, p sale.ProductID) (stop func()) {
	t.Helper()
	c := w.connect(t)
	r := follow(t, c)
	r.caughtUp(t)
	return workOn(t, c, p, r.book)
}

// workOn decides a product on this connection and book.
func workOn(t testing.TB, c *broker.Conn, p sale.ProductID, book *sale.Book) (stop func()) {
	t.Helper()
	worker, q := newWorker(c, p, book)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { worker.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		q.Close()
		if err := q.Unpin(within(t)); err != nil {
			t.Errorf("unpin: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}
