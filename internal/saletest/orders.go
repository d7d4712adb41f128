package saletest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"firstcome/internal/sale"
)

// Orders is the stream behind the queues: one sequence for all products, one
// message in hand per product, and a redelivery to the next one that asks when it was
// not acknowledged in time. Orders and desk lines of a product stand in one line.
type Orders struct {
	ackWait time.Duration

	mu      sync.Mutex
	epoch   string
	seq     uint64
	stored  []*stored
	acked   map[sale.ProductID]uint64 // the highest sequence acknowledged in this epoch
	changed chan struct{}             // closed at every change
}

type stored struct {
	msg       sale.Message
	delivered int
	due       time.Time // of the next delivery
}

// NewOrders makes an empty stream of that epoch, an RFC 3339 time.
func NewOrders(epoch string, ackWait time.Duration) *Orders {
	return &Orders{ackWait: ackWait, epoch: epoch, acked: map[sale.ProductID]uint64{}, changed: make(chan struct{})}
}

// Publish stores a message of orders and returns its sequence.
func (o *Orders) Publish(product sale.ProductID, data []byte) uint64 {
	return o.publish(product, false, data)
}

// PublishDesk stores a message of desk lines and returns its sequence.
func (o *Orders) PublishDesk(product sale.ProductID, data []byte) uint64 {
	return o.publish(product, true, data)
}

func (o *Orders) publish(product sale.ProductID, desk bool, data []byte) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seq++
	o.stored = append(o.stored, &stored{msg: sale.Message{Product: product, Desk: desk, Epoch: o.epoch, Seq: o.seq,
		StoredAt: time.Now(), Data: slices.Clone(data)}})
	o.wake()
	return o.seq
}

// Recreate replaces the stream with an empty one that begins its sequences again.
func (o *Orders) Recreate(epoch string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.epoch, o.seq, o.stored, o.acked = epoch, 0, nil, map[sale.ProductID]uint64{}
	o.wake()
}

// Repair gives the stream a new epoch and leaves all else as it is.
func (o *Orders) Repair(epoch string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.epoch = epoch
	for _, s := range o.stored {
		s.msg.Epoch = epoch
	}
	o.wake()
}

// Left are the product's messages that were not acknowledged, in sequence.
func (o *Orders) Left(product sale.ProductID) []sale.Message {
	o.mu.Lock()
	defer o.mu.Unlock()
	var left []sale.Message
	for _, s := range o.stored {
		if s.msg.Product == product {
			left = append(left, s.msg)
		}
	}
	return left
}

// Witness is what the stream says of a product.
func (o *Orders) Witness(product sale.ProductID) sale.Witness {
	o.mu.Lock()
	defer o.mu.Unlock()
	return sale.Witness{Epoch: o.epoch, Acked: o.acked[product], Last: o.seq, Mark: o.seq}
}

// Drained waits until every message was acknowledged.
func (o *Orders) Drained(ctx context.Context) error {
	for {
		o.mu.Lock()
		left, changed := len(o.stored), o.changed
		o.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d messages are left in the queue: %w", left, ctx.Err())
		case <-changed:
		}
	}
}

// Queue is a holder of the product's queue. Several may ask for messages at once.
func (o *Orders) Queue(product sale.ProductID) sale.Queue { return &queue{o, product} }

type queue struct {
	orders  *Orders
	product sale.ProductID
}

// Next implements sale.Queue.
func (q *queue) Next(ctx context.Context) (sale.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		d, wait, changed := q.orders.take(q.product)
		if d != nil {
			return d, nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// take hands out the product's first message if it is due, or tells how long to
// wait for it unless something changes.
func (o *Orders) take(product sale.ProductID) (sale.Delivery, time.Duration, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := slices.IndexFunc(o.stored, func(s *stored) bool { return s.msg.Product == product })
	if at < 0 {
		return nil, time.Hour, o.changed
	}
	s := o.stored[at]
	if wait := time.Until(s.due); wait > 0 {
		return nil, wait, o.changed
	}
	s.delivered++
	s.due = time.Now().Add(o.ackWait)
	return &delivery{orders: o, stored: s, msg: s.msg, again: s.delivered > 1}, 0, nil
}

func (o *Orders) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}

type delivery struct {
	orders *Orders
	stored *stored
	msg    sale.Message
	again  bool
}

func (d *delivery) Message() *sale.Message { m := d.msg; return &m }
func (d *delivery) Redelivered() bool      { return d.again }

func (d *delivery) InProgress() error {
	d.orders.mu.Lock()
	defer d.orders.mu.Unlock()
	d.stored.due = time.Now().Add(d.orders.ackWait)
	return nil
}

// Ack counts, also where another holder has the message now.
func (d *delivery) Ack() error {
	d.orders.mu.Lock()
	defer d.orders.mu.Unlock()
	o := d.orders
	before := len(o.stored)
	o.stored = slices.DeleteFunc(o.stored, func(s *stored) bool { return s == d.stored })
	if len(o.stored) < before {
		o.acked[d.msg.Product] = d.msg.Seq
	}
	o.wake()
	return nil
}
