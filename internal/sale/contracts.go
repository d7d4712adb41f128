package sale

import (
	"context"
	"errors"
	"time"
)

// The contracts between the rule and whatever keeps its data. Each has a real
// implementation and a fake, and both pass one conformance suite. Every call
// returns by the end of its context; an error that wraps none of the errors below
// is indeterminate: the call may have taken effect, and the caller must look.
var (
	// ErrConflict: the product's newest revision is another one; nothing was written.
	ErrConflict = errors.New("the history was continued by somebody else")
	// ErrQueueFull: the queue holds as many messages as it may; nothing was stored.
	ErrQueueFull = errors.New("the queue is full")
	// ErrUnavailable: the queue cannot be reached, or its answer did not come in
	// time. The order may have been stored all the same.
	ErrUnavailable = errors.New("the queue cannot be reached")
	// ErrNotFound: there is nothing under that name.
	ErrNotFound = errors.New("not found")
)

// Queue delivers the messages of one product, strictly in sequence: the next one
// only after the one before was acknowledged (P2). A message that is not
// acknowledged is delivered again, to this holder or another, for ever (P3).
type Queue interface {
	// Next waits for the next delivery. It returns ctx.Err() itself when none came
	// before ctx ended, and another error when the queue could not be reached;
	// calling it again goes on where it was.
	Next(ctx context.Context) (Delivery, error)
}

// Delivery is one message in hand.
type Delivery interface {
	Message() *Message
	// Redelivered tells that it was handed out before, to anyone.
	Redelivered() bool
	// InProgress asks for more time before a redelivery. It may be lost.
	InProgress() error
	// Ack lets the queue forget the message and deliver the next. It may be lost,
	// and an acknowledgement by an earlier holder counts: it is no fencing token.
	Ack() error
}

// History keeps every revision of each product's value, and lets go of none: this is
// the ledger (P8).
type History interface {
	// Append stores the product's next revision if the newest one stored is still
	// after, 0 if there is none; it is durable once Append returns nil (P1).
	// ErrConflict: nothing was written.
	Append(ctx context.Context, product ProductID, after Seq, revision []byte) (Seq, error)
	// Next reads the first revision of the product stored after that one, by the
	// leader's word, never a stale replica's. What it returns never changes.
	// ErrNotFound: there is none.
	Next(ctx context.Context, product ProductID, after Seq) (Seq, []byte, error)
}

// Announcer broadcasts statuses: at once, at most once. What is lost here, a
// reader finds in the book (P6).
type Announcer interface {
	Announce(statuses []Status) error
}

// DeadLetter is a line that could not be read, as it came.
type DeadLetter struct {
	Product ProductID
	Epoch   string
	Seq     uint64
	Line    int
	Reason  string // a line of some hundred bytes at most, whatever Raw is
	Raw     []byte
}

// DeadLetters keeps poison. Burying the same line again within minutes changes
// nothing; it is durable once Bury returns nil.
type DeadLetters interface {
	Bury(ctx context.Context, letter DeadLetter) error
}

// Observer is told what happens, for metrics. Its methods must not block.
type Observer interface {
	// Decided: a message got its outcomes, one a line and none of a desk message's, so
	// long after its delivery.
	Decided(product ProductID, outcomes []Outcome, took time.Duration)
	// Redelivered: a message was handed out again.
	Redelivered(product ProductID)
	// Conflict: an append was lost to another worker, or its end is unknown.
	Conflict(product ProductID)
}
