package main

import (
	"context"
	"sync"
	"time"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// crew is the workers of this instance, one per product.
type crew struct {
	in     *instance
	stocks *broker.Stocks
	ledger *broker.Ledger
	dead   *broker.DeadLetters

	ctx     context.Context // ends when the workers shall
	end     context.CancelFunc
	working sync.WaitGroup

	mu      sync.Mutex
	workers map[sale.ProductID]*sale.Worker
}

func newCrew(ctx context.Context, in *instance) (*crew, error) {
	stocks, err := broker.OpenStocks(ctx, in.conn)
	if err != nil {
		return nil, err
	}
	ledger, err := broker.OpenLedger(ctx, in.conn)
	if err != nil {
		return nil, err
	}
	c := &crew{in: in, stocks: stocks, ledger: ledger, dead: broker.NewDeadLetters(in.conn),
		workers: map[sale.ProductID]*sale.Worker{}}
	c.ctx, c.end = context.WithCancel(context.WithoutCancel(ctx))
	return c, nil
}

// hire puts a worker to a product. Called for every product that appears.
func (c *crew) hire(product sale.ProductID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.workers[product] != nil || c.ctx.Err() != nil {
		return
	}
	queue := broker.NewQueue(c.in.conn, product)
	w := &sale.Worker{
		Product: product, Queue: queue, Stocks: c.stocks, Ledger: c.ledger, Book: c.in.book,
		Announcer: c.in.tell, DeadLetters: c.dead,
		ProcessingTime: c.in.cfg.Worker.ProcessingTime, Beat: broker.Beat, StepTimeout: 2 * time.Second,
		Newest: func() uint64 { return c.in.shop.Entries(product) },
		Now:    time.Now, Observer: c.in.metrics, Log: c.in.log,
	}
	c.workers[product] = w
	c.working.Go(func() {
		w.Run(c.ctx)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := queue.Leave(ctx); err != nil {
			c.in.log.Debug("the product was not given back; its pin runs out", "product", product, "err", err)
		}
	})
}

// stuck is why nothing can be decided, nil while some product can: an instance that
// sells the others well must not be taken out for one.
func (c *crew) stuck() (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.workers {
		if err = w.Stuck(); err == nil {
			return nil
		}
	}
	return err
}

// stuckProducts tells of each product whether it cannot be decided.
func (c *crew) stuckProducts() map[sale.ProductID]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	stuck := make(map[sale.ProductID]bool, len(c.workers))
	for p, w := range c.workers {
		stuck[p] = w.Stuck() != nil
	}
	return stuck
}

// stop lets every worker finish its message, gives the products back, and waits.
func (c *crew) stop() {
	c.mu.Lock()
	c.end()
	c.mu.Unlock()
	c.working.Wait() // a worker bounds what it does after its end
}
