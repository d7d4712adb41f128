package sale

import (
	"context"
	"errors"
)

// The contracts between the rule and whatever keeps its data. Each has a real
// implementation and a fake, and both pass one conformance suite. Every call
// returns by the end of its context; an error that wraps none of the errors below
// is indeterminate: the call may have taken effect, and the caller must look.
var (
	// ErrConflict: somebody else replaced the stock value first; nothing was written.
	ErrConflict = errors.New("the stock was changed by somebody else")
	// ErrEntryTaken: the ledger has an entry under that number; nothing was written.
	ErrEntryTaken = errors.New("the ledger has that entry already")
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

// Version names a stored stock value for compare-and-swap. It is opaque: only the
// Stocks that gave it can tell what it means.
type Version uint64

// Stocks keeps one stock value per product.
type Stocks interface {
	// Load reads the newest value from the leader, never a stale replica's.
	// ErrNotFound if there is none.
	Load(ctx context.Context, product ProductID) (Stock, Version, error)
	// Replace stores next if the stored value is still the one that old names,
	// and is durable once it returns nil. ErrConflict if it is not.
	Replace(ctx context.Context, old Version, next *Stock) (Version, error)
}

// Ledger keeps every product's entries, each written once and never changed (P8).
type Ledger interface {
	// Append writes entry n of the product, and is durable once it returns nil.
	// ErrEntryTaken if there is an entry n, the same or another.
	Append(ctx context.Context, product ProductID, n uint64, entry []byte) error
	// Entry reads entry n. What it returns never changes; ErrNotFound may come from
	// a replica that lags behind.
	Entry(ctx context.Context, product ProductID, n uint64) ([]byte, error)
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
	Reason  string
	Raw     []byte
}

// DeadLetters keeps poison. Burying the same line again within minutes changes
// nothing; it is durable once Bury returns nil.
type DeadLetters interface {
	Bury(ctx context.Context, letter DeadLetter) error
}
