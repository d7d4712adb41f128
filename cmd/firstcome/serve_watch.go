package main

import (
	"context"
	"errors"
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
	after    time.Duration // stuckAfter and the time that work on an order takes
	log      *slog.Logger

	idle map[sale.ProductID]time.Time // since when this instance's worker has nothing in hand
}

func newStuckWatch(conn *broker.Conn, book *sale.Book, deciders *deciders, processing time.Duration, log *slog.Logger) *stuckWatch {
	return &stuckWatch{conn: conn, book: book, deciders: deciders, after: stuckAfter + processing, log: log,
		idle: map[sale.ProductID]time.Time{}}
}

// look goes through all products once.
func (w *stuckWatch) look(ctx context.Context) {
	for _, p := range w.book.Products() {
		why, lasting := w.why(ctx, &p)
		switch {
		case why != "" && p.Stuck == "":
			w.log.Error("a product is stuck: orders get 503 until it goes on", "product", p.Product, "cause", why)
		case why == "" && p.Stuck != "":
			w.log.Info("a product goes on", "product", p.Product)
		}
		w.book.SetStuck(p.Product, why, lasting)
	}
}

// why is the reason why nothing is decided, "" if none is known. The next link does not
// end a lasting one.
func (w *stuckWatch) why(ctx context.Context, p *sale.Product) (why string, lasting bool) {
	err, busy, mine := w.deciders.state(p.Product)
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
	asking, cancel := context.WithTimeout(ctx, keepUp)
	defer cancel()
	hold, err := broker.LookAtHold(asking, w.conn, p.Product)
	switch {
	case err != nil && time.Since(p.Since) < w.after:
		return "", false
	case err != nil:
		return err.Error(), false
	case hold.Empty():
		if n := w.book.Vanished(p.Product, hold.Position); n > 0 {
			w.log.Error("messages left the queue and were never decided; run firstcome audit", "product", p.Product, "messages", n)
		}
		return "", false
	case hold.Outstanding > 0 && hold.Paused.IsZero() && w.lost(p.Product):
		w.log.Warn("a message was handed out and came back to nobody: the queue's consumer is made again", "product", p.Product)
		if err := broker.RemakeConsumer(asking, w.conn, p.Product); err != nil {
			return err.Error(), false
		}
		delete(w.idle, p.Product)
		return "", false
	case time.Since(p.Since) < w.after:
		return "", false
	}
	return hold.String(), false
}

// lostAfter is when a message in nobody's hand should have come again.
func (w *stuckWatch) lostAfter() time.Duration { return 2 * w.conn.AckWait() }

// lost tells whether a message that is outstanding will not come again by itself: this
// instance has the only server and the only worker, and that has long been idle by the
// monotonic clock. The server counts by a clock that may have gone back.
func (w *stuckWatch) lost(product sale.ProductID) bool {
	idle := w.idle[product]
	return w.conn.Embedded() && !idle.IsZero() && time.Since(idle) > w.lostAfter()
}
