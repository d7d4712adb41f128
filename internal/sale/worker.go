package sale

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// Worker decides the orders of one product, one message at a time. Several may
// run for the same product, on several machines: correctness rests on the swap of
// the stock value alone, and all but one of them lose it.
type Worker struct {
	Product     ProductID
	Queue       Queue
	Stocks      Stocks
	Ledger      Ledger
	Book        *Book
	Announcer   Announcer
	DeadLetters DeadLetters

	// ProcessingTime imitates slow work on every message before its decision.
	ProcessingTime time.Duration
	// Beat is how often a message in hand is reported as in progress: well below
	// the queue's time to redelivery.
	Beat time.Duration
	// StepTimeout bounds every call to a contract.
	StepTimeout time.Duration
	Now         func() time.Time
	Observer    Observer
	Log         *slog.Logger

	// Newest is how many entries the stock value counts, as far as this instance
	// has heard: as long as the ledger is not known to have them all, a worker may
	// have died between the two.
	Newest func() uint64

	// Owned by Run's goroutine.
	stock   Stock
	version Version
	held    bool       // stock and version are what the last call left
	written uint64     // entries that the ledger has for certain
	writing chan error // the entry after those is being written; nil: none is
	tried   string     // hash of the entry whose swap was sent, and not seen to have won
	untidy  int        // failures in a row to tidy up

	inHand atomic.Pointer[Delivery] // read by the beat
	stuck  atomic.Pointer[error]
}

// Observer is told what happens, for metrics. Its methods must not block.
type Observer interface {
	// Decided: a group got its outcomes, so long after its delivery.
	Decided(product ProductID, outcomes []Outcome, took time.Duration)
	// Redelivered: a message was handed out again.
	Redelivered(product ProductID)
	// Conflict: a compare-and-swap was lost, or its end unknown.
	Conflict(product ProductID)
}

// finishTime is how long a message in hand may go on after Run was told to stop.
const finishTime = 10 * time.Second

// idleTime is how often a worker without a message looks whether another one left
// something behind. A queue may need a good part of it to notice a lost server.
const idleTime = 3 * time.Second

// silenceTime is how long a queue may be out of reach before the product counts as
// stuck: longer than an election takes.
const silenceTime = 10 * time.Second

// worrying is the failure in a row from which on the product counts as stuck: the
// ones before look like a change of leader.
const worrying = 5

// Stuck is why the product cannot go on just now, nil while all is well.
func (w *Worker) Stuck() error {
	if err := w.stuck.Load(); err != nil {
		return *err
	}
	return nil
}

// Run decides messages until ctx ends, and finishes the one in hand then. It
// returns only when no goroutine of its own is left.
func (w *Worker) Run(ctx context.Context) {
	lasting, cancel := outlive(ctx, finishTime)
	defer cancel()
	beating, stop := context.WithCancel(lasting)
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.beat(beating)
	}()
	defer func() {
		if err := w.flush(context.WithoutCancel(ctx)); err != nil { // bounded by StepTimeout
			w.report("the last entry is left for the next worker to write", err, 0)
		}
		stop()
		<-done
	}()

	idle, seen := true, w.Newest() // seen before the last wait
	attempt, since := 0, time.Time{}
	for ctx.Err() == nil {
		// An entry that is still missing after a whole wait is nobody's any more.
		// Elsewhere the one who decides is about to write it.
		newest := w.Newest()
		if w.failed() || w.untidy > 0 || idle && newest == seen && newest > w.written {
			w.tidyUp(lasting)
		}
		seen = newest
		waiting, stop := context.WithTimeout(ctx, idleTime)
		d, err := w.Queue.Next(waiting)
		idle = err != nil && err == waiting.Err() // wrapped, it is a queue that does not answer
		stop()
		if err == nil || idle {
			if attempt > 0 && w.untidy == 0 {
				w.stuck.Store(nil)
			}
			attempt = 0
			if err == nil {
				w.handle(ctx, lasting, d)
			}
			continue
		}
		if attempt == 0 {
			since = time.Now()
		}
		w.report("the queue cannot be read", err, attempt)
		if time.Since(since) > silenceTime {
			w.stuck.Store(&err)
		}
		pause(ctx, attempt)
		attempt++
	}
}

// handle settles one delivery, however often that takes. Once ctx has ended, and
// before the point of no return, a failure ends it: the queue delivers again.
func (w *Worker) handle(ctx, lasting context.Context, d Delivery) {
	w.inHand.Store(&d)
	defer w.inHand.Store(nil)
	began := time.Now()
	if d.Redelivered() {
		w.held = false // somebody else may have had it meanwhile
		w.Observer.Redelivered(w.Product)
	}
	lines := d.Message().Lines()
	if w.ProcessingTime > 0 {
		working, stop := context.WithTimeout(lasting, w.ProcessingTime)
		<-working.Done()
		stop()
	}
	for attempt := 0; ; attempt++ {
		committed, err := w.settle(lasting, d, lines, began)
		if err == nil {
			w.stuck.Store(nil)
			return
		}
		w.held = false // whatever happened: look, never guess
		if errors.Is(err, ErrConflict) && attempt == 0 {
			continue
		}
		if w.report("a message cannot be settled yet", err, attempt) {
			w.stuck.Store(&err)
		}
		if ctx.Err() != nil && (!committed || lasting.Err() != nil) {
			return
		}
		pause(lasting, attempt)
	}
}

// settle takes a message from wherever the stock value says it is to its
// acknowledgement. It tells whether the point of no return lies behind.
func (w *Worker) settle(ctx context.Context, d Delivery, lines []Line, began time.Time) (committed bool, err error) {
	m := d.Message()
	if err := w.ready(ctx); err != nil {
		return false, err
	}
	last, before := w.stock.applied(m.Epoch, m.Seq)
	if before {
		if err := w.settled(m, lines); err != nil {
			return false, err
		}
		return true, d.Ack()
	}
	switch {
	case last:
		w.announce(w.stock.Entry()) // whoever decided it may have died before
	case !allDead(lines) && !w.outlived(m, lines):
		if err := w.decide(ctx, m, lines); err != nil {
			return false, err
		}
	}
	if w.tried != "" && w.tried == w.stock.LedgerHead { // now, or by a swap that seemed to fail
		w.Observer.Decided(w.Product, w.stock.Last.Outcomes, time.Since(began))
		w.tried = ""
	}
	// At this point the group's outcomes are final and its entry is safe in the
	// stock value. What follows only tells of them, and repeating it changes nothing.
	if err := w.bury(ctx, m, lines); err != nil {
		return true, err
	}
	return true, d.Ack()
}

// ready makes sure that this worker knows the newest stock value, that the ledger
// has every entry before its last, and that the book holds exactly what the value
// was decided on.
func (w *Worker) ready(ctx context.Context) error {
	if !w.held {
		if err := w.load(ctx); err != nil {
			return err
		}
	}
	if n := w.Book.Entries(w.Product); n != w.stock.Entries {
		return fmt.Errorf("%w: the book is at entry %d, the stock at %d", ErrConflict, n, w.stock.Entries)
	}
	return nil
}

// decide applies the rule and swaps the stock value. The entry is written to the
// ledger while the next message is on its way, and is there before the next swap.
func (w *Worker) decide(ctx context.Context, m *Message, lines []Line) error {
	next, outcomes := Decide(w.stock, w.Book, lines)
	next.Entries++
	next.Last = &Last{
		Head: Head{Epoch: m.Epoch, Seq: m.Seq, N: next.Entries, Prev: w.stock.LedgerHead,
			Supplied: next.Supplied, Available: next.Available, Decided: next.Decided, DecidedAt: Instant(w.Now())},
		Outcomes: outcomes,
		Orders:   entryOrders(lines, outcomes, next.Decided),
	}
	entry := next.Entry()
	data, orders := entry.encode()
	next.Last.encoded = orders
	next.LedgerHead = hashEntry(data)

	ctx, cancel := context.WithTimeout(ctx, w.StepTimeout)
	defer cancel()
	if err := w.flush(ctx); err != nil {
		return err
	}
	w.tried = next.LedgerHead
	version, err := w.Stocks.Replace(ctx, w.version, &next)
	if err != nil {
		w.Observer.Conflict(w.Product)
		return fmt.Errorf("replace the stock: %w", err)
	}
	w.stock, w.version = next, version
	w.write(entry.N, data)
	if err := w.Book.Apply(entry); err != nil {
		return err
	}
	w.announce(entry)
	return nil
}

func (w *Worker) announce(entry *Entry) {
	if err := w.Announcer.Announce(entry.Statuses()); err != nil {
		w.Log.Warn("statuses were not broadcast; sockets read them from the book", "product", w.Product, "err", err)
	}
}

// settled checks that a message from before the last decided one was decided
// itself. It always was, unless the queue lost its memory of sequences that it had
// given out; acknowledging it then would lose its orders (P3).
func (w *Worker) settled(m *Message, lines []Line) error {
	if o := w.undecided(lines); o != nil {
		return fmt.Errorf("message %d comes after message %d, which was decided, and its order %s never was: the queue's sequences went back",
			m.Seq, w.stock.Last.Seq, o.ID)
	}
	return nil
}

// outlived tells of a message whose queue was replaced while this worker stood
// still, and which somebody else decided before that: another entry would come
// after those of the new queue (P2).
func (w *Worker) outlived(m *Message, lines []Line) bool {
	if w.stock.Last == nil {
		return false
	}
	mine, err := time.Parse(time.RFC3339Nano, m.Epoch)
	newest, err2 := time.Parse(time.RFC3339Nano, w.stock.Last.Epoch)
	return err == nil && err2 == nil && mine.Before(newest) && w.undecided(lines) == nil
}

// undecided is the first order of the lines that was not decided yet.
func (w *Worker) undecided(lines []Line) *Order {
	for i := range lines {
		if l := &lines[i]; l.Err == nil && !w.Book.Decided(l.Order.ID, w.Product) {
			return &l.Order
		}
	}
	return nil
}

func (w *Worker) bury(ctx context.Context, m *Message, lines []Line) error {
	for i := range lines {
		if lines[i].Err == nil {
			continue
		}
		step, cancel := context.WithTimeout(ctx, w.StepTimeout)
		err := w.DeadLetters.Bury(step, DeadLetter{Product: m.Product, Epoch: m.Epoch, Seq: m.Seq,
			Line: lines[i].N, Reason: lines[i].Err.Error(), Raw: lines[i].Raw})
		cancel()
		if err != nil {
			return fmt.Errorf("bury line %d: %w", lines[i].N, err)
		}
	}
	return nil
}

func allDead(lines []Line) bool {
	for i := range lines {
		if lines[i].Err == nil {
			return false
		}
	}
	return true
}

// beat reports the message in hand as in progress.
func (w *Worker) beat(ctx context.Context) {
	tick := time.NewTicker(w.Beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if d := w.inHand.Load(); d != nil {
			if err := (*d).InProgress(); err != nil {
				w.Log.Debug("progress was not reported", "product", w.Product, "err", err)
			}
		}
	}
}

// report logs a failure, and tells whether it is one to worry about: the first in
// a row look like a change of leader, so they are whispered; later ones are said
// aloud at every doubling.
func (w *Worker) report(what string, err error, attempt int) (worry bool) {
	level := slog.LevelDebug
	if failures := attempt + 1; failures >= worrying && attempt&(attempt-1) == 0 {
		level = slog.LevelWarn
	}
	w.Log.Log(context.Background(), level, what, "product", w.Product, "attempt", attempt+1, "err", err)
	return attempt+1 >= worrying
}

// pause waits before the next attempt: 20 ms, doubling to 1 s.
func pause(ctx context.Context, attempt int) {
	ctx, cancel := context.WithTimeout(ctx, min(time.Second, 20*time.Millisecond<<min(attempt, 6)))
	defer cancel()
	<-ctx.Done()
}

// outlive returns a context that ends some time after parent does.
func outlive(parent context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() {
		timer := time.AfterFunc(by, cancel)
		context.AfterFunc(ctx, func() { timer.Stop() })
	})
	return ctx, func() { stop(); cancel() }
}
