package sale

import (
	"errors"
	"fmt"
	"time"
)

// ErrBehind is wrapped where queue and history contradict each other: one of them has
// lost what the other one has seen. Going on could sell twice or lose an order, so the
// product waits for an operator (P3).
var ErrBehind = errors.New("run firstcome repair")

// Witness is what the queue says of one product, by its leader's word. Acked must be
// read before the product's newest link, and Last after it.
type Witness struct {
	Epoch string
	First uint64 // the epoch's first sequence; 0: unknown
	Acked uint64 // every message of the product up to it was acknowledged; 0: none was
	Last  uint64 // the last sequence that the queue has given out
	Mark  uint64 // the highest one that it is known to have given out in this epoch; 0: unknown
}

// Check compares the queue with the newest link's position. Its error wraps ErrBehind
// and says which side is behind, and by how many messages. Sequences of another epoch
// prove nothing, save that the queue is older than the history, or that the history has
// lost every link of this epoch.
func (w Witness) Check(newest Position) error {
	switch {
	case w.Mark > w.Last:
		return fmt.Errorf("the queue is behind: it ends at message %d and had confirmed message %d, %d more: %w", w.Last, w.Mark, w.Mark-w.Last, ErrBehind)
	case older(w.Epoch, newest.Epoch):
		return fmt.Errorf("the queue is behind: it is of %s, and the history has settled messages of %s: %w", w.Epoch, newest.Epoch, ErrBehind)
	case w.Epoch != newest.Epoch && w.First > 0 && w.Acked >= w.First:
		return fmt.Errorf("the history is behind: it has nothing of the queue since message %d and message %d was settled, %d more: %w", w.First, w.Acked, w.Acked-w.First+1, ErrBehind)
	case w.Epoch != newest.Epoch:
		return nil
	case w.Acked > newest.Seq:
		return fmt.Errorf("the history is behind: it ends at message %d and message %d was settled, %d more: %w", newest.Seq, w.Acked, w.Acked-newest.Seq, ErrBehind)
	case newest.Seq > w.Last:
		return fmt.Errorf("the queue is behind: it ends at message %d and the history has settled message %d, %d more: %w", w.Last, newest.Seq, newest.Seq-w.Last, ErrBehind)
	}
	return nil
}

// older tells whether epoch a is of an earlier time than b. One that is no time is not.
func older(a, b string) bool {
	x, err := time.Parse(time.RFC3339Nano, a)
	y, err2 := time.Parse(time.RFC3339Nano, b)
	return err == nil && err2 == nil && x.Before(y)
}
