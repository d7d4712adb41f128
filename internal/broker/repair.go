package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// MakeConsumer makes a product's consumer if it does not exist.
func MakeConsumer(ctx context.Context, c *Conn, product sale.ProductID) error {
	return provisionConsumer(ctx, c, product)
}

// ErrHeld is wrapped where somebody has a message in hand that a repair needs.
var ErrHeld = errors.New("an instance has a message in hand")

// DropCovered acknowledges the product's first messages for which covered says yes, up to
// the first one for which it does not: the history has settled them. It returns how many.
func DropCovered(ctx context.Context, c *Conn, product sale.ProductID, covered func(seq uint64) bool) (dropped int, err error) {
	q := NewQueue(c, product, Witnesses{})
	defer func() { err = errors.Join(err, q.Leave(context.WithoutCancel(ctx))) }()
	for {
		waiting, cancel := context.WithTimeout(ctx, 2*c.timing.AckWait)
		d, err := q.Next(waiting)
		ended := err != nil && err == waiting.Err()
		cancel()
		switch {
		case ended && ctx.Err() == nil:
			hold, err := LookAtHold(ctx, c, product)
			if err == nil && !hold.Empty() {
				err = fmt.Errorf("product %s: %w", product, ErrHeld)
			}
			return dropped, err
		case err != nil:
			return dropped, err
		case !covered(d.Message().Seq):
			return dropped, nil // Leave hands it back
		}
		if err := d.Ack(); err != nil {
			return dropped, err
		}
		dropped++
	}
}

// RenewEpoch begins a new epoch of the queue, whose first sequence is that one: sequences
// that were given out before say nothing any more. No instance may decide meanwhile.
func RenewEpoch(ctx context.Context, c *Conn, first uint64) error {
	stream, err := c.stream(ctx, ordersStream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", ordersStream, err)
	}
	config := stream.CachedInfo().Config
	metadata := map[string]string{}
	for name, value := range config.Metadata {
		metadata[name] = value
	}
	epoch := NewEpoch()
	if was, err := time.Parse(time.RFC3339Nano, metadata[metaEpoch]); err == nil && !was.Before(time.Now()) {
		epoch = sale.Instant(was.Add(time.Microsecond)).Format(time.RFC3339Nano) // a clock that went back must not make an older queue of it
	}
	metadata[metaEpoch], metadata[metaFirst] = epoch, strconv.FormatUint(first, 10)
	config.Metadata = metadata
	_, err = ask(ctx, func(ctx context.Context) (jetstream.Stream, error) { return c.js.UpdateStream(ctx, config) })
	if err != nil {
		return fmt.Errorf("renew the epoch of stream %s: %w", ordersStream, err)
	}
	return nil
}
