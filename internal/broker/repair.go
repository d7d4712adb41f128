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

// RemoveConsumer takes a product's consumer away until MakeConsumer: an instance that
// waits for a repair can open its queue again only then, and so never takes a message of
// the new epoch for one of the old.
func RemoveConsumer(ctx context.Context, c *Conn, product sale.ProductID) error {
	for _, name := range []string{string(product), repairConsumer(product)} {
		err := c.js.DeleteConsumer(ctx, ordersStream, name)
		if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return fmt.Errorf("remove consumer %s: %w", name, err)
		}
	}
	return nil
}

// repairConsumer is the name of a consumer that takes messages off the queue in a repair:
// none that a product can have.
func repairConsumer(product sale.ProductID) string { return "REPAIR_" + string(product) }

// repairAbandoned is when the server removes it by itself.
const repairAbandoned = time.Minute

// Drop acknowledges the product's first n messages, all of which are ones that settled
// says yes to: the history has them. The product must be without its consumer.
func Drop(ctx context.Context, c *Conn, product sale.ProductID, n int, settled func(seq uint64) bool) (err error) {
	q := NewQueue(c, product, Witnesses{})
	q.want.Name, q.want.Durable, q.want.InactiveThreshold = repairConsumer(product), repairConsumer(product), repairAbandoned
	_, err = ask(ctx, func(ctx context.Context) (jetstream.Consumer, error) {
		return c.js.CreateConsumer(ctx, ordersStream, q.want)
	})
	if err != nil {
		return fmt.Errorf("consumer %s of %s: %w", q.want.Name, ordersStream, limitError(err))
	}
	defer func() {
		done := context.WithoutCancel(ctx)
		err = errors.Join(err, q.Leave(done), RemoveConsumer(done, c, product))
	}()
	for range n {
		d, err := q.Next(ctx)
		if err != nil {
			return err
		}
		if seq := d.Message().Seq; !settled(seq) {
			return fmt.Errorf("product %s: message %d comes before ones that the history has", product, seq)
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
