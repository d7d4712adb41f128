package sale

import (
	"bytes"
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

	// Owned by Run's goroutine.
	stock   Stock
	version Version
	held    bool   // stock and version are what the last call left
	entry   *Entry // of stock.Last, as decide left it; nil if it must be made again
	data    []byte // entry, encoded

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

// Stuck is why the message in hand could not be settled yet, nil while all is well.
func (w *Worker) Stuck() error {
	if err := w.stuck.Load(); err != nil {
		return *err
	}
	return nil
}

// Run decides messages until ctx ends, and finishes the one in hand then. It
// returns only when no goroutine of its own is left.
func (w *Worker) Run(ctx context.Context) {
	beating, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.beat(beating)
	}()
	defer func() { stop(); <-done }()

	for attempt := 0; ctx.Err() == nil; {
		d, err := w.Queue.Next(ctx)
		switch {
		case err == nil:
			attempt = 0
			w.handle(ctx, d)
		case ctx.Err() == nil:
			w.report("the queue cannot be read", err, attempt)
			pause(ctx, attempt)
			attempt++
		}
	}
}

// handle settles one delivery, however often that takes. Once ctx has ended it has
// finishTime for that, and before the point of no return a failure ends it: the
// queue delivers again.
func (w *Worker) handle(ctx context.Context, d Delivery) {
	w.inHand.Store(&d)
	defer w.inHand.Store(nil)
	began := time.Now()
	if d.Redelivered() {
		w.held = false // somebody else may have had it meanwhile
		w.Observer.Redelivered(w.Product)
	}
	lines := d.Message().Lines()
	lasting, cancel := outlive(ctx, finishTime)
	defer cancel()
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
	if !w.held {
		if err := w.load(ctx); err != nil {
			return false, err
		}
	}
	last, before := w.stock.applied(m.Epoch, m.Seq)
	if before {
		if err := w.settled(ctx, m, lines); err != nil {
			return false, err
		}
		return true, d.Ack()
	}
	if !last {
		if allDead(lines) {
			if err := w.bury(ctx, m, lines); err != nil {
				return false, err
			}
			return true, d.Ack()
		}
		if err := w.decide(ctx, m, lines); err != nil {
			return false, err
		}
		w.Observer.Decided(w.Product, w.stock.Last.Outcomes, time.Since(began))
	}
	// At this point the group's outcomes are final. What follows only tells of
	// them, and repeating it changes nothing.
	if err := w.finish(ctx, m, lines); err != nil {
		return true, err
	}
	return true, d.Ack()
}

func (w *Worker) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.StepTimeout)
	defer cancel()
	stock, version, err := w.Stocks.Load(ctx, w.Product)
	if err != nil {
		return fmt.Errorf("load the stock: %w", err)
	}
	w.stock, w.version, w.held, w.entry = stock, version, true, nil
	return nil
}

// decide applies the rule and swaps the stock value.
func (w *Worker) decide(ctx context.Context, m *Message, lines []Line) error {
	if err := w.warm(ctx); err != nil {
		return err
	}
	next, outcomes := Decide(w.stock, w.Book, lines)
	next.Entries++
	next.Last = &Last{
		Head: Head{Epoch: m.Epoch, Seq: m.Seq, N: next.Entries, Prev: w.stock.LedgerHead,
			Supplied: next.Supplied, Available: next.Available, Decided: next.Decided, DecidedAt: Instant(w.Now())},
		Outcomes: outcomes,
	}
	entry := newEntry(w.Product, next.Last, lines)
	data := entry.Encode()
	next.LedgerHead = hashEntry(data)

	ctx, cancel := context.WithTimeout(ctx, w.StepTimeout)
	defer cancel()
	version, err := w.Stocks.Replace(ctx, w.version, &next)
	if err != nil {
		w.Observer.Conflict(w.Product)
		return fmt.Errorf("replace the stock: %w", err)
	}
	w.stock, w.version = next, version
	w.entry, w.data = entry, data
	return nil
}

// warm waits until the book holds exactly what the stock value was decided on. A
// worker that takes a product over has nothing to read: its book follows already.
func (w *Worker) warm(ctx context.Context) error {
	if w.Book.Entries(w.Product) == w.stock.Entries {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.StepTimeout)
	defer cancel()
	if err := w.Book.AwaitEntries(ctx, w.Product, w.stock.Entries); err != nil {
		return err
	}
	if n := w.Book.Entries(w.Product); n != w.stock.Entries {
		return fmt.Errorf("%w: the ledger is at entry %d, the stock at %d", ErrConflict, n, w.stock.Entries)
	}
	return nil
}

// finish writes the ledger entry, broadcasts the statuses and buries dead lines.
func (w *Worker) finish(ctx context.Context, m *Message, lines []Line) error {
	if w.entry == nil {
		if err := w.remake(lines); err != nil {
			return err
		}
	}
	if err := w.append(ctx); err != nil {
		return err
	}
	if err := w.follow(ctx); err != nil {
		return err
	}
	if err := w.Announcer.Announce(w.entry.Statuses()); err != nil {
		w.Log.Warn("statuses were not broadcast; sockets read them from the book", "product", w.Product, "err", err)
	}
	return w.bury(ctx, m, lines)
}

// remake makes the entry again from the stock value and the redelivered message.
func (w *Worker) remake(lines []Line) error {
	last := w.stock.Last
	if len(last.Outcomes) != len(lines) {
		return fmt.Errorf("the stock has %d outcomes for a message of %d lines", len(last.Outcomes), len(lines))
	}
	entry := newEntry(w.Product, last, lines)
	data := entry.Encode()
	if hash := hashEntry(data); hash != w.stock.LedgerHead {
		return fmt.Errorf("entry %d hashes to %s, the stock says %s", entry.N, hash, w.stock.LedgerHead)
	}
	w.entry, w.data = entry, data
	return nil
}

// append writes the entry, once. Finding it there already is how a repetition
// ends; finding another one there would be the end of P8.
func (w *Worker) append(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.StepTimeout)
	defer cancel()
	err := w.Ledger.Append(ctx, w.Product, w.entry.N, w.data)
	if errors.Is(err, ErrEntryTaken) {
		stored, readErr := w.Ledger.Entry(ctx, w.Product, w.entry.N)
		switch {
		case readErr != nil:
			err = readErr
		case !bytes.Equal(stored, w.data):
			return fmt.Errorf("the ledger holds another entry %d of %s than the one decided", w.entry.N, w.Product)
		default:
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("append entry %d: %w", w.entry.N, err)
	}
	return nil
}

// settled checks that a message from before the last decided one was decided
// itself. It always was, unless the queue lost its memory of sequences that it had
// given out; acknowledging it then would lose its orders (P3).
func (w *Worker) settled(ctx context.Context, m *Message, lines []Line) error {
	if err := w.warm(ctx); err != nil {
		return err
	}
	for i := range lines {
		if l := &lines[i]; l.Err == nil && !w.Book.Decided(l.Order.ID, w.Product) {
			return fmt.Errorf("message %d comes after message %d, which was decided, and its order %s never was: the queue's sequences went back",
				m.Seq, w.stock.Last.Seq, l.Order.ID)
		}
	}
	return nil
}

// follow puts the entry into this instance's book without waiting for the feed.
func (w *Worker) follow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.StepTimeout)
	defer cancel()
	if err := w.Book.AwaitEntries(ctx, w.Product, w.entry.N-1); err != nil {
		return err
	}
	return w.Book.Apply(w.entry)
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
	if attempt >= 4 && attempt&(attempt-1) == 0 {
		level = slog.LevelWarn
	}
	w.Log.Log(context.Background(), level, what, "product", w.Product, "attempt", attempt+1, "err", err)
	return attempt >= 4
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
