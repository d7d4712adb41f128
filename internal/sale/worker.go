package sale

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Worker decides the messages of one product, one at a time. Several may run for the
// same product, on several machines: correctness rests on History.Append alone, and
// all but one of them lose it.
type Worker struct {
	Product     ProductID
	Name        string // of the instance, as links show it
	Queue       Queue
	History     History
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
	sure bool   // the book holds the newest revision, as far as this worker can know
	sent *group // appended by this worker, and not seen in the history yet

	inHand atomic.Pointer[Delivery] // read by the beat
	stuck  atomic.Pointer[error]
}

// group is a link that this worker appended, or tried to.
type group struct {
	hash     string
	outcomes []Outcome
}

const (
	// finishTime is how long a message in hand may go on after Run was told to stop.
	finishTime = 10 * time.Second
	// idleTime is how long one wait for a message takes. A queue may need a good part of
	// it to notice a lost server.
	idleTime = 3 * time.Second
	// silenceTime is how long queue or history may be out of reach before the product
	// counts as stuck: longer than an election takes.
	silenceTime = 10 * time.Second
	// worrying is the failure in a row from which on the log warns: the ones before look
	// like a change of leader.
	worrying = 5
)

// Busy tells whether the worker has a message in hand.
func (w *Worker) Busy() bool { return w.inHand.Load() != nil }

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
	var beat sync.WaitGroup
	beat.Go(func() { w.beat(beating) })
	defer beat.Wait()
	defer stop()
	attempt, since := 0, time.Time{}
	for ctx.Err() == nil {
		waiting, stop := context.WithTimeout(ctx, idleTime)
		d, err := w.Queue.Next(waiting)
		idle := err != nil && err == waiting.Err() // wrapped, it is a queue that does not answer
		stop()
		if err == nil || idle {
			if attempt > 0 {
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
		if time.Since(since) > silenceTime || errors.Is(err, ErrBehind) || errors.Is(err, ErrNewer) {
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
		w.sure = false // another worker may have had it meanwhile
		w.Observer.Redelivered(w.Product)
	}
	lines := d.Message().Lines()
	if w.ProcessingTime > 0 && !d.Message().Desk {
		working, stop := context.WithTimeout(lasting, w.ProcessingTime)
		<-working.Done()
		stop()
	}
	var since time.Time // the first failure
	var lost Seq        // where the conflict before was
	for attempt := 0; ; attempt++ {
		committed, err := w.settle(lasting, d, lines, began)
		if err == nil {
			w.stuck.Store(nil)
			return
		}
		w.sure = false // whatever happened: look, never guess
		if attempt == 0 {
			since = time.Now()
		}
		if errors.Is(err, ErrConflict) {
			_, seen := w.Book.Head(w.Product)
			if attempt == 0 {
				lost = seen
				continue
			}
			if seen == lost { // a server that failed to write answers so until it is started again
				err = fmt.Errorf("%w, and it holds nothing newer: can its server still write?", err)
			}
			lost = seen
		}
		w.report("a message cannot be settled yet", err, attempt)
		if time.Since(since) > silenceTime || errors.Is(err, ErrNewer) {
			w.stuck.Store(&err)
		}
		if ctx.Err() != nil && (!committed || lasting.Err() != nil) {
			return
		}
		pause(lasting, attempt)
	}
}

// settle takes a message from wherever the history says it is to its acknowledgement:
// a new one, one that another worker decided before it died, and one that is stale all
// walk this road. It tells whether the point of no return lies behind.
func (w *Worker) settle(ctx context.Context, d Delivery, lines []Line, began time.Time) (committed bool, err error) {
	m := d.Message()
	if err := w.catchUp(ctx); err != nil {
		return false, err
	}
	head, seen := w.Book.Head(w.Product)
	if !head.Queue.covers(m) && !w.outlived(&head, m, lines) {
		if err := w.decide(ctx, &head, seen, m, lines); err != nil {
			return false, err
		}
	}
	// At this point the message's outcomes are final and durable. What follows only
	// tells of them, and repeating it changes nothing.
	w.observe(began)
	told, unknown := w.Book.Settled(m, lines)
	if unknown > 0 {
		// Its position is covered, yet it was never decided: the queue lost its memory of
		// sequences that it had given out. Acknowledging it would lose its orders (P3).
		return true, fmt.Errorf("message %d comes after message %d, which was decided, and its line %d never was: the queue's sequences went back",
			m.Seq, head.Queue.Seq, unknown)
	}
	if err := w.Announcer.Announce(told); err != nil {
		w.Log.Warn("statuses were not broadcast; sockets read them from the book", "product", w.Product, "err", err)
	}
	if err := w.bury(ctx, m, lines); err != nil {
		return true, err
	}
	return true, d.Ack()
}

// catchUp brings the book to the product's newest revision by the history's own word,
// unless nothing has happened since the last time that could have left it behind. The
// feed may do the same meanwhile. Its error wraps ErrNewer if the history goes on in a
// layout that is not known here.
func (w *Worker) catchUp(ctx context.Context) error {
	for read := Seq(0); !w.sure; {
		_, seen := w.Book.Head(w.Product)
		seen = max(seen, read) // the book keeps nothing of values before the first link
		step, cancel := context.WithTimeout(ctx, w.StepTimeout)
		seq, value, err := w.History.Next(step, w.Product, seen)
		cancel()
		switch {
		case errors.Is(err, ErrNotFound):
			w.sure = true
		case err != nil:
			return fmt.Errorf("read the history after revision %d: %w", seen, err)
		default:
			if err := w.Book.Apply(w.Product, seq, value); err != nil {
				return err
			}
			read = seq
		}
	}
	if err := w.Book.Stopped(w.Product); err != nil {
		return err
	}
	if head, _ := w.Book.Head(w.Product); head.N == 0 {
		return fmt.Errorf("history of %s: %w", w.Product, ErrNotFound)
	}
	return nil
}

// Newest is the position of the product's newest link, by the history's own word: what
// a queue that is opened is compared with. It is called by Next, on Run's goroutine.
func (w *Worker) Newest(ctx context.Context) (Position, error) {
	w.sure = false
	if err := w.catchUp(ctx); err != nil {
		return Position{}, err
	}
	head, _ := w.Book.Head(w.Product)
	return head.Queue, nil
}

// decide makes the next link and appends it: the point of no return.
func (w *Worker) decide(ctx context.Context, head *Head, seen Seq, m *Message, lines []Line) error {
	link, outcomes := head.Decide(w.Book, m, lines, w.Name, w.Now())
	value := link.Encode()
	w.sent = &group{hash: HashOf(value), outcomes: outcomes}
	ctx, cancel := context.WithTimeout(ctx, w.StepTimeout)
	defer cancel()
	seq, err := w.History.Append(ctx, w.Product, seen, value)
	if err != nil {
		w.Observer.Conflict(w.Product)
		return fmt.Errorf("append link %d: %w", link.N, err)
	}
	return w.Book.applyOwn(seq, link, w.sent.hash)
}

// observe counts what this worker decided, also where its append only seemed to fail.
func (w *Worker) observe(began time.Time) {
	if w.sent == nil {
		return
	}
	if head, _ := w.Book.Head(w.Product); head.Hash == w.sent.hash {
		w.Observer.Decided(w.Product, w.sent.outcomes, time.Since(began))
	}
	w.sent = nil
}

// outlived tells of a message whose queue was replaced while this worker stood still,
// and which another one decided before that: another link would come after those of
// the new queue (P2).
func (w *Worker) outlived(head *Head, m *Message, lines []Line) bool {
	if !older(m.Epoch, head.Queue.Epoch) {
		return false
	}
	_, unknown := w.Book.Settled(m, lines)
	return unknown == 0
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

// report logs a failure: the first in a row look like a change of leader and are logged
// at debug, later ones as warnings at every doubling.
func (w *Worker) report(what string, err error, attempt int) {
	level := slog.LevelDebug
	if failures := attempt + 1; failures >= worrying && attempt&(attempt-1) == 0 {
		level = slog.LevelWarn
	}
	w.Log.Log(context.Background(), level, what, "product", w.Product, "attempt", attempt+1, "err", err)
}
