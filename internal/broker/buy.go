package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// Heard is a status as it was broadcast.
type Heard struct {
	Outcome string // "pending", "accepted", …
	Body    []byte // the whole status, JSON
}

// Buy places one order and waits for its final status, subscribed before the
// queue has it. It wraps sale.ErrUnknownProduct if no queue takes the product; if
// ctx ends first the order may be in the queue, and the error names it.
func Buy(ctx context.Context, c *Conn, product sale.ProductID, order sale.Order) (Heard, error) {
	status := sale.Status{Order: order, Product: product}
	subject := string(appendStatusSubject(nil, &status))
	sub, err := c.orders.SubscribeSync(subject)
	if err != nil {
		return Heard{}, fmt.Errorf("listen for the outcome: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is gone
	_, err = c.js.Publish(ctx, ordersSubject(product), order.AppendLine(nil),
		jetstream.WithMsgID(order.ID.String()), jetstream.WithExpectStream(ordersStream))
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return Heard{}, fmt.Errorf("%w: %s", sale.ErrUnknownProduct, product)
	case err != nil:
		return Heard{}, fmt.Errorf("place order %s: %w", order.ID, publishError(err))
	}
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return Heard{}, fmt.Errorf("order %s is in the queue, but no outcome came: %w", order.ID, err)
		}
		var s struct {
			Status string `json:"status"`
		}
		if err := json.Unmarshal(msg.Data, &s); err != nil {
			return Heard{}, fmt.Errorf("status of order %s: %w", order.ID, err)
		}
		if s.Status != sale.Pending.String() {
			return Heard{Outcome: s.Status, Body: msg.Data}, nil
		}
	}
}
