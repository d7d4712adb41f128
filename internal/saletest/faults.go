package saletest

import (
	"context"
	"errors"
	"sync"
	"time"

	"firstcome/internal/sale"
)

// Fault is what becomes of one call.
type Fault uint8

// The faults. A lost write and a lost reply look the same to the caller, and
// every contract but the queue's and the announcer's leaves it to look.
const (
	Pass        Fault = iota
	LoseWrite         // the call has no effect and fails
	LoseReply         // the call takes effect and fails
	LoseQuietly       // the call has no effect and reports success: an Ack or a broadcast may be lost so
	Late              // the call fails, and takes effect LateBy after that
	CrashBefore       // the process dies before the call: it and all later ones fail
	CrashAfter        // the process dies after it: it takes effect, all later ones fail
)

// The calls of a worker, by name. InProgress is none of them: it comes from a
// goroutine of its own, and is lost while a call is frozen or after a crash.
const (
	CallNext     = "Next" // of the queue
	CallAck      = "Ack"
	CallRead     = "Read" // of the history, its Next
	CallAppend   = "Append"
	CallAnnounce = "Announce"
	CallBury     = "Bury"
)

// Errors that faults make a call return.
var (
	ErrInjected = errors.New("injected fault")
	ErrCrashed  = errors.New("the process is dead")
)

// Faults injects failures into one worker's calls, whatever implements them. Its
// fields may not change once a call was made.
type Faults struct {
	// Plan gives the n-th call's fault, n counting from 1. Nil passes all.
	Plan func(n int, call string) Fault
	// Freeze tells how long the whole process stands still before and after the
	// n-th call. Nil never.
	Freeze func(n int, call string) (before, after time.Duration)
	// LateBy is how long a Late call takes.
	LateBy time.Duration
	// OnCrash is called at the crash.
	OnCrash func()

	mu     sync.Mutex
	calls  []string
	dead   bool
	frozen int
	late   sync.WaitGroup
}

// Calls are the names of the calls so far.
func (f *Faults) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

// Wait returns when every Late call has taken effect.
func (f *Faults) Wait() { f.late.Wait() }

func (f *Faults) next(call string) (fault Fault, before, after time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return CrashBefore, 0, 0
	}
	f.calls = append(f.calls, call)
	n := len(f.calls)
	if f.Plan != nil {
		fault = f.Plan(n, call)
	}
	if f.Freeze != nil {
		before, after = f.Freeze(n, call)
	}
	return fault, before, after
}

func (f *Faults) do(ctx context.Context, name string, call func(context.Context) error) error {
	fault, before, after := f.next(name)
	switch fault {
	case LoseWrite:
		return ErrInjected
	case LoseQuietly:
		return nil
	case CrashBefore:
		f.crash()
		return ErrCrashed
	case Late:
		if name == CallNext || name == CallRead {
			return ErrInjected // a reading takes no effect
		}
		ctx := context.WithoutCancel(ctx)
		f.late.Go(func() {
			time.Sleep(f.LateBy)
			_ = call(ctx) // its caller has gone
		})
		return ErrInjected
	}
	f.freeze(before)
	err := call(ctx)
	f.freeze(after)
	switch {
	case fault == CrashAfter:
		f.crash()
		return ErrCrashed
	case fault == LoseReply && err == nil:
		return ErrInjected
	}
	return err
}

func (f *Faults) crash() {
	f.mu.Lock()
	first := !f.dead
	f.dead = true
	f.mu.Unlock()
	if first && f.OnCrash != nil {
		f.OnCrash()
	}
}

// freeze stands still whatever the caller's context says: so does a stopped process.
func (f *Faults) freeze(d time.Duration) {
	if d <= 0 {
		return
	}
	f.mu.Lock()
	f.frozen++
	f.mu.Unlock()
	time.Sleep(d)
	f.mu.Lock()
	f.frozen--
	f.mu.Unlock()
}

func (f *Faults) still() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead || f.frozen > 0
}

// Queue puts the faults before a queue.
func (f *Faults) Queue(q sale.Queue) sale.Queue { return faultyQueue{f, q} }

type faultyQueue struct {
	f *Faults
	q sale.Queue
}

func (q faultyQueue) Next(ctx context.Context) (d sale.Delivery, err error) {
	err = q.f.do(ctx, CallNext, func(ctx context.Context) error {
		d, err = q.q.Next(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return faultyDelivery{d, q.f}, nil
}

type faultyDelivery struct {
	sale.Delivery
	f *Faults
}

func (d faultyDelivery) Ack() error {
	return d.f.do(context.Background(), CallAck, func(context.Context) error { return d.Delivery.Ack() })
}

func (d faultyDelivery) InProgress() error {
	if d.f.still() {
		return ErrInjected
	}
	return d.Delivery.InProgress()
}

// History puts the faults before a history.
func (f *Faults) History(h sale.History) sale.History { return faultyHistory{f, h} }

type faultyHistory struct {
	f *Faults
	h sale.History
}

func (h faultyHistory) Append(ctx context.Context, p sale.ProductID, after sale.Seq, revision []byte) (sale.Seq, error) {
	var stored sale.Seq
	err := h.f.do(ctx, CallAppend, func(ctx context.Context) error {
		seq, err := h.h.Append(ctx, p, after, revision)
		stored = seq
		return err
	})
	if err != nil {
		return 0, err // a late call may be writing stored just now
	}
	return stored, nil
}

func (h faultyHistory) Next(ctx context.Context, p sale.ProductID, after sale.Seq) (seq sale.Seq, value []byte, err error) {
	err = h.f.do(ctx, CallRead, func(ctx context.Context) error {
		seq, value, err = h.h.Next(ctx, p, after)
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	return seq, value, nil
}

// DeadLetters puts the faults before a store of dead letters.
func (f *Faults) DeadLetters(d sale.DeadLetters) sale.DeadLetters { return faultyDead{f, d} }

type faultyDead struct {
	f *Faults
	d sale.DeadLetters
}

func (d faultyDead) Bury(ctx context.Context, letter sale.DeadLetter) error {
	return d.f.do(ctx, CallBury, func(ctx context.Context) error { return d.d.Bury(ctx, letter) })
}

// Announcer puts the faults before an announcer.
func (f *Faults) Announcer(a sale.Announcer) sale.Announcer { return faultyAnnouncer{f, a} }

type faultyAnnouncer struct {
	f *Faults
	a sale.Announcer
}

func (a faultyAnnouncer) Announce(statuses []sale.Status) error {
	return a.f.do(context.Background(), CallAnnounce, func(context.Context) error { return a.a.Announce(statuses) })
}
