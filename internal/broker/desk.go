package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// Steered is what became of desk lines: the link that settled them, and the one before.
type Steered struct {
	Before, After StoredLink
}

// ErrUndecided is wrapped where desk lines are in the queue, or may be, and no link has
// come: they count when their turn comes.
var ErrUndecided = errors.New("not decided yet")

// Steer puts lines before a product's worker, in one message, and waits for their link.
// Every line needs an id. It wraps ErrUndecided if none came before ctx ended, and
// sale.ErrUnknownProduct if no queue takes the product.
func Steer(ctx context.Context, c *Conn, product sale.ProductID, lines []sale.DeskLine) (Steered, error) {
	var data []byte
	for i := range lines {
		data = append(lines[i].AppendLine(data), '\n')
	}
	id := lines[0].ID.String()
	heard := make(chan *nats.Msg, 64) // what does not fit is found by a search
	sub, err := c.orders.ChanSubscribe(ledgerPrefix+string(product), heard)
	if err != nil {
		return Steered{}, fmt.Errorf("listen for the outcome: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is gone
	stream, err := c.stream(ctx, ordersStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return Steered{}, fmt.Errorf("%w: %s", sale.ErrUnknownProduct, product)
	}
	if err != nil {
		return Steered{}, fmt.Errorf("stream %s: %w", ordersStream, err)
	}
	at := sale.Position{Epoch: stream.CachedInfo().Config.Metadata[metaEpoch]}
	if !slices.Contains(stream.CachedInfo().Config.Subjects, deskSubject(product)) {
		return Steered{}, fmt.Errorf("%w: %s", sale.ErrUnknownProduct, product)
	}
	ack, err := c.js.Publish(ctx, deskSubject(product), data, jetstream.WithMsgID(id), jetstream.WithExpectStream(ordersStream))
	if errors.Is(err, context.DeadlineExceeded) || disconnected(err) {
		return Steered{}, fmt.Errorf("line %s may be in the queue: %w: %w", id, ErrUndecided, err)
	}
	if err != nil {
		return Steered{}, fmt.Errorf("line %s: %w", id, publishError(err))
	}
	at.Seq = ack.Sequence
	return await(ctx, NewHistory(c), product, at, id, heard)
}

// await searches whenever the history goes on, and every now and then: a copy may have
// been lost.
func await(ctx context.Context, history *History, product sale.ProductID, at sale.Position, id string, heard <-chan *nats.Msg) (Steered, error) {
	tick := time.NewTicker(searchEvery)
	defer tick.Stop()
	for {
		select {
		case msg := <-heard:
			link, err := sale.ReadLink(msg.Data)
			if err != nil || link.Queue.Epoch == at.Epoch && link.Queue.Seq < at.Seq {
				continue
			}
		case <-tick.C:
		case <-ctx.Done():
			return Steered{}, fmt.Errorf("line %s is in the queue: %w: %w", id, ErrUndecided, context.Cause(ctx))
		}
		searching, cancel := context.WithTimeout(ctx, searchEvery)
		after, found, err := history.SettledBy(searching, product, at)
		var before StoredLink
		if err == nil && found {
			before, err = history.Before(searching, after)
		}
		cancel()
		if err == nil && found {
			return Steered{Before: before, After: after}, nil
		}
	}
}
