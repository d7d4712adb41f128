package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// Hold is what the queue says of a product of which nothing is decided.
type Hold struct {
	Position    sale.Position // of the queue's end, read before the rest
	Paused      time.Time     // until when somebody has paused the consumer; zero: not paused
	Outstanding int           // messages handed out and not acknowledged
	Undelivered uint64        // messages that wait to be handed out
}

// LookAtHold asks the queue's leader what holds a product up.
func LookAtHold(ctx context.Context, c *Conn, product sale.ProductID) (h Hold, err error) {
	stream, err := c.stream(ctx, ordersStream)
	if err != nil {
		return h, fmt.Errorf("stream %s: %w", ordersStream, err)
	}
	info, err := head(ctx, stream)
	if err != nil {
		return h, err
	}
	h.Position = sale.Position{Epoch: info.Config.Metadata[metaEpoch], Seq: info.State.LastSeq}
	consumer, err := c.consumer(ctx, product)
	if err != nil {
		return h, fmt.Errorf("consumer %s of %s: %w", product, ordersStream, err)
	}
	state := consumer.CachedInfo()
	h.Outstanding, h.Undelivered = state.NumAckPending, state.NumPending
	if until := state.Config.PauseUntil; until != nil && time.Now().Before(*until) {
		h.Paused = *until
	}
	return h, nil
}

// Empty tells that the queue has nothing of the product.
func (h Hold) Empty() bool { return h.Outstanding == 0 && h.Undelivered == 0 }

// String says what holds the product up.
func (h Hold) String() string {
	switch {
	case !h.Paused.IsZero():
		return fmt.Sprintf("somebody paused the queue's consumer until %s", h.Paused.UTC().Format(time.RFC3339))
	case h.Outstanding > 0:
		return "a message was handed out and is not acknowledged"
	case h.Undelivered > 0:
		return fmt.Sprintf("%d messages wait and none is handed out", h.Undelivered)
	}
	return "the queue has nothing of the product"
}

// RemakeConsumer makes a product's consumer again: the server then hands out whatever is in
// the queue. It is for a server that waits for a time that has gone back, and for a repair;
// decisions do not rest on the consumer. It may be repeated after an error.
func RemakeConsumer(ctx context.Context, c *Conn, product sale.ProductID) error {
	err := c.js.DeleteConsumer(ctx, ordersStream, string(product))
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("remove consumer %s: %w", product, err)
	}
	return provisionConsumer(ctx, c, product)
}
