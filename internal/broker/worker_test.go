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

// unwatched is a sale.Observer that looks away.
type unwatched struct{}

func (unwatched) Decided(sale.ProductID, []sale.Outcome, time.Duration) {}
func (unwatched) Redelivered(sale.ProductID)                            {}
func (unwatched) Conflict(sale.ProductID)                               {}

// crew is what an instance's workers share.
type crew struct {
	conn   *broker.Conn
	stocks *broker.Stocks
	ledger *broker.Ledger
}

func newCrew(t testing.TB, c *broker.Conn) *crew {
	t.Helper()
	return &crew{c, openStocks(t, c), openLedger(t, c)}
}

func (c *crew) worker(p sale.ProductID, book *sale.Book, newest func(sale.ProductID) uint64) *sale.Worker {
	return &sale.Worker{
		Product: p, Queue: broker.NewQueue(c.conn, p), Stocks: c.stocks, Ledger: c.ledger, Book: book,
		Announcer: broker.NewAnnouncer(c.conn), DeadLetters: broker.NewDeadLetters(c.conn),
		Beat: broker.Beat, StepTimeout: 2 * time.Second, Now: time.Now, Observer: unwatched{},
		Newest: func() uint64 { return newest(p) }, Log: slog.New(slog.DiscardHandler),
	}
}

// work decides a product on another instance, until the test ends or stop is called.
func (w *world) work(t testing.TB, p sale.ProductID) (stop func()) {
	t.Helper()
	c := w.connect(t)
	r := follow(t, c)
	r.caughtUp(t)
	worker := newCrew(t, c).worker(p, r.book, r.shop.Entries)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { worker.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		q := worker.Queue.(*broker.Queue)
		q.Close()
		if err := q.Unpin(within(t)); err != nil {
			t.Errorf("unpin: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}
