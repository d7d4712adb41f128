package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// deciders are the workers of this instance, one per product. A nil one has none.
type deciders struct {
	decidersConfig
	history *broker.History
	dead    *broker.DeadLetters

	ctx     context.Context // ends when the workers shall
	end     context.CancelFunc
	working sync.WaitGroup

	mu      sync.Mutex
	workers map[sale.ProductID]*sale.Worker
}

// decidersConfig is what workers are made of.
type decidersConfig struct {
	name       string        // of the instance
	processing time.Duration // imitated work for each message
	conn       *broker.Conn
	mark       *broker.QueueMark // nil on a cluster
	book       *sale.Book
	announcer  *broker.Announcer
	observer   sale.Observer
	log        *slog.Logger
}

func newDeciders(c decidersConfig) *deciders {
	d := &deciders{decidersConfig: c, history: broker.NewHistory(c.conn), dead: broker.NewDeadLetters(c.conn),
		workers: map[sale.ProductID]*sale.Worker{}}
	d.ctx, d.end = context.WithCancel(context.Background())
	return d
}

// decide starts a worker for each product that has none yet.
func (d *deciders) decide(products []sale.Product) {
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range products {
		if id := products[i].Product; d.workers[id] == nil && d.ctx.Err() == nil {
			d.start(id)
		}
	}
}

// start begins to decide a product. The caller holds mu.
func (d *deciders) start(product sale.ProductID) {
	w := &sale.Worker{
		Product: product, Name: d.name, History: d.history, Book: d.book,
		Announcer: d.announcer, DeadLetters: d.dead,
		ProcessingTime: d.processing, Beat: d.conn.Beat(), StepTimeout: 2 * time.Second,
		Now: time.Now, Observer: d.observer, Log: d.log,
	}
	queue := broker.NewQueue(d.conn, product, broker.Witnesses{Newest: w.Newest, Mark: d.mark.Seq})
	w.Queue = queue
	d.workers[product] = w
	d.working.Go(func() {
		w.Run(d.ctx)
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := queue.Leave(ctx); err != nil {
			d.log.Debug("the product was not given back; its pin runs out", "product", product, "err", err)
		}
	})
}

// state is what this instance's worker says of a product: whether there is one, whether
// it has a message in hand, and why it cannot go on.
func (d *deciders) state(product sale.ProductID) (there, busy bool, stuck error) {
	if d == nil {
		return false, false, nil
	}
	d.mu.Lock()
	w := d.workers[product]
	d.mu.Unlock()
	if w == nil {
		return false, false, nil
	}
	return true, w.Busy(), w.Stuck()
}

// stop lets every worker finish its message, gives the products back, and waits.
func (d *deciders) stop() {
	if d == nil {
		return
	}
	d.mu.Lock()
	d.end()
	d.mu.Unlock()
	d.working.Wait() // a worker bounds what it does after its end
}
