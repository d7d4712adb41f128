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

// MakeConsumer makes a product's consumer, and has the queue take the product, where
// either is missing.
func MakeConsumer(ctx context.Context, c *Conn, product sale.ProductID) error {
	if err := addSubjects(ctx, c, []sale.ProductID{product}); err != nil {
		return err
	}
	return provisionConsumer(ctx, c, product)
}

// ErrHeld is wrapped where somebody has a message in hand that a repair needs.
var ErrHeld = errors.New("an instance has a message in hand")

// Drop acknowledges the product's first n messages, all of which are ones that settled
// says yes to: the history has them. It fails with ErrHeld if somebody else has one of
// them in hand.
func Drop(ctx context.Context, c *Conn, product sale.ProductID, n int, settled func(seq uint64) bool) (err error) {
	q := NewQueue(c, product, Witnesses{})
	defer func() { err = errors.Join(err, q.Leave(context.WithoutCancel(ctx))) }()
	for range n {
		waiting, cancel := context.WithTimeout(ctx, 3*c.timing.AckWait) // one that was in hand comes again
		d, err := q.Next(waiting)
		none := err != nil && err == waiting.Err() && ctx.Err() == nil
		cancel()
		switch {
		case none:
			return fmt.Errorf("product %s: %w", product, ErrHeld)
		case err != nil:
			return err
		case !settled(d.Message().Seq):
			return fmt.Errorf("product %s: message %d comes before ones that the history has", product, d.Message().Seq)
		}
		if err := d.Ack(); err != nil {
			return err
		}
	}
	return nil
}

// RenewEpoch begins a new epoch of the queue. From that sequence on every one is queued
// or will be given out; the ones before say nothing any more. No instance may decide
// meanwhile.
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
