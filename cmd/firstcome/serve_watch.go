package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// stuckAfter is how long a message may wait, with no link coming meanwhile, until its
// product counts as stuck. Elections and hand-overs are shorter.
const stuckAfter = 15 * time.Second

// stuckWatch looks after products of which nothing is decided. It tells the book, which
// closes their doors: an order that is let in would wait for nobody knows how long.
type stuckWatch struct {
	conn     *broker.Conn
	book     *sale.Book
	deciders *deciders
	mark     *broker.QueueMark           // nil on a cluster
	catchUp  func(context.Context) error // brings the book up to date
	work     time.Duration               // on an order
	after    time.Duration               // stuckAfter and that
	log      *slog.Logger

	told    map[sale.ProductID]bool // the log says that it is stuck
	witness map[sale.ProductID]*broker.Queue
	behind  map[sale.ProductID]error     // what the witnesses said when they were last asked
	idle    map[sale.ProductID]time.Time // since when this instance's worker has nothing in hand
}

func (in *instance) newStuckWatch() *stuckWatch {
	return &stuckWatch{conn: in.conn, book: in.book, deciders: in.deciders, catchUp: in.feed.CatchUp,
		work: in.cfg.Worker.ProcessingTime, after: in.stuckAfter + in.cfg.Worker.ProcessingTime, log: in.log,
		told: map[sale.ProductID]bool{}, witness: map[sale.ProductID]*broker.Queue{}, behind: map[sale.ProductID]error{},
		idle: map[sale.ProductID]time.Time{}, mark: in.mark}
}

// look goes through all products once. What it asks takes no longer than keepUp in all.
func (w *stuckWatch) look(ctx context.Context) {
	asking, cancel := context.WithTimeout(ctx, keepUp)
	defer cancel()
	for _, p := range w.book.Products() {
		why, lasting := w.why(asking, &p)
		if ctx.Err() != nil {
			return // what was not answered is no reason
		}
		if now, _ := w.book.Product(p.Product); now.N > p.N && !lasting {
			why = "" // it has gone on meanwhile
		}
		w.book.SetStuck(p.Product, why, lasting)
		switch told := w.told[p.Product]; {
		case why != "" && !told:
			w.log.Error("a product is stuck: orders get 503 until it goes on", "product", p.Product, "cause", why)
		case why == "" && told:
			w.log.Info("a product goes on", "product", p.Product)
		}
		w.told[p.Product] = why != ""
	}
}

// why is the reason why nothing is decided, "" if none is known. The next link does not
// end a lasting one.
func (w *stuckWatch) why(ctx context.Context, p *sale.Product) (why string, lasting bool) {
	if err := w.book.Stopped(p.Product); err != nil {
		return err.Error(), true
	}
	if err := w.contradicted(ctx, p.Product); err != nil {
		return err.Error(), true
	}
	mine, busy, err := w.deciders.state(p.Product)
	if err != nil {
		return err.Error(), errors.Is(err, sale.ErrBehind) || errors.Is(err, sale.ErrNewer)
	}
	switch idle := w.idle[p.Product]; {
	case busy || !mine:
		delete(w.idle, p.Product)
	case idle.IsZero():
		w.idle[p.Product] = time.Now()
	}
	if p.Since.IsZero() || time.Since(p.Since) < min(w.after, w.lostAfter()) {
		return "", false
	}
	hold, err := broker.LookAtHold(ctx, w.conn, p.Product)
	if err == nil && hold.Empty() {
		if err = w.passedOver(ctx, p.Product); err == nil {
			err = w.vanished(ctx, p.Product, hold.Position)
		}
		if err == nil {
			return "", false
		}
	}
	if err == nil && hold.Outstanding > 0 && hold.Paused.IsZero() && w.lost(p.Product) {
		w.log.Warn("a message was handed out and came back to nobody: the queue's consumer is made again", "product", p.Product)
		err = broker.RemakeConsumer(ctx, w.conn, p.Product)
		delete(w.idle, p.Product)
	}
	switch {
	case time.Since(p.Since) < w.after:
		return "", false
	case err != nil:
		return err.Error(), false
	}
	return hold.String(), false
}

// begin asks the witnesses of every product, before any door opens. A further attempt
// goes on where the one before ended: with many products one may be too short for all.
func (w *stuckWatch) begin(ctx context.Context) error {
	for _, p := range w.book.Products() {
		if err, asked := w.behind[p.Product]; asked && err == nil {
			continue
		}
		if err := w.ask(ctx, p.Product); err != nil {
			return fmt.Errorf("product %s: %w", p.Product, err)
		}
	}
	w.look(ctx)
	return nil
}

// contradicted tells what queue and history say against each other. It asks again while
// something is wrong, and of products that are new: workers ask for themselves, whenever
// they open their queue.
func (w *stuckWatch) contradicted(ctx context.Context, product sale.ProductID) error {
	if err, asked := w.behind[product]; !asked || err != nil {
		if err := w.ask(ctx, product); err != nil {
			w.log.Debug("queue and history could not be compared", "product", product, "err", err)
		}
	}
	return w.behind[product]
}

// ask notes what the witnesses say. It fails if they could not be heard.
func (w *stuckWatch) ask(ctx context.Context, product sale.ProductID) error {
	err := w.queue(product).Examine(ctx)
	passing := !errors.Is(err, sale.ErrBehind) && !errors.Is(err, sale.ErrNewer) && !errors.Is(err, broker.ErrMissing) && !errors.Is(err, broker.ErrDrift)
	if err != nil && passing {
		return err
	}
	w.behind[product] = err
	return nil
}

// queue is the product's, to be looked at only.
func (w *stuckWatch) queue(product sale.ProductID) *broker.Queue {
	q := w.witness[product]
	if q == nil {
		history := broker.NewHistory(w.conn)
		q = broker.NewQueue(w.conn, product, broker.Witnesses{Mark: w.mark.Seq, Newest: func(ctx context.Context) (sale.Position, error) {
			link, err := history.Newest(ctx, product)
			if err != nil {
				return sale.Position{}, err
			}
			return link.Queue, nil
		}})
		w.witness[product] = q
	}
	return q
}

// passedOver tells of messages that are in the queue although its consumer counts none:
// somebody has edited it. Where the server is this instance's own, the consumer is made
// again, and hands out all that is undecided.
func (w *stuckWatch) passedOver(ctx context.Context, product sale.ProductID) error {
	err := w.queue(product).Reaches(ctx)
	if w.conn.Alone() && (errors.Is(err, broker.ErrDrift) || errors.Is(err, sale.ErrBehind)) {
		w.log.Warn("the queue's consumer passes over messages and is made again", "product", product, "err", err)
		return errors.Join(err, broker.RemakeConsumer(ctx, w.conn, product))
	}
	return err
}

// vanished lets messages wait no more that are not in the queue, once the book has heard
// of everything that was decided.
func (w *stuckWatch) vanished(ctx context.Context, product sale.ProductID, upTo sale.Position) error {
	if err := w.catchUp(ctx); err != nil {
		return err
	}
	if n := w.book.Vanished(product, upTo); n > 0 {
		w.log.Error("messages left the queue and were never decided; run firstcome audit", "product", product, "messages", n)
	}
	return nil
}

// lostAfter is when a message in nobody's hand should have come again.
func (w *stuckWatch) lostAfter() time.Duration { return 2*w.conn.AckWait() + w.work }

// lost tells whether a message that is outstanding will not come again by itself: the
// server is this instance's own, and the worker here has long been idle by the monotonic
// clock. The server counts by a clock that may have gone back. Where another instance has
// the message in hand after all, it is decided once all the same.
func (w *stuckWatch) lost(product sale.ProductID) bool {
	idle := w.idle[product]
	return w.conn.Alone() && !idle.IsZero() && time.Since(idle) > w.lostAfter()
}
