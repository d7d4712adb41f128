package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// Queue implements sale.Queue with the product's durable consumer. It opens
// itself at the first Next and again whenever the consumer was lost.
type Queue struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	product sale.ProductID
	want    jetstream.ConsumerConfig
	pulls   time.Duration // how long one waits at the server
	witness Witnesses

	pull       *puller // nil: not open
	back       chan struct{}
	epoch      string
	reconnects uint64    // of the connection, when epoch was read
	delivered  uint64    // the consumer's count at the delivery before
	pinned     bool      // as far as a delivery told; the pin may have run out since
	hand       *delivery // handed out last, and not acknowledged
}

// Witnesses are what a queue is compared with whenever it is opened: an order that only
// one side remembers must not be sold again, nor be lost (P3).
type Witnesses struct {
	// Newest is the position of the product's newest link, by the history's leader. Nil:
	// nothing is compared.
	Newest func(context.Context) (sale.Position, error)
	// Mark is the highest sequence of that epoch that the queue is known to have
	// confirmed, 0 if none is. Nil: none is known.
	Mark func(epoch string) uint64
}

// NewQueue makes the queue of a product whose consumer exists.
func NewQueue(c *Conn, product sale.ProductID, witness Witnesses) *Queue {
	q := &Queue{nc: c.orders, js: c.js, product: product, want: c.consumerConfig(product), pulls: c.timing.Pull,
		witness: witness, back: make(chan struct{}, 1)}
	c.OnReturn(func() {
		select {
		case q.back <- struct{}{}:
		default: // the queue will ask anyway
		}
	})
	return q
}

// Next implements sale.Queue. A server that was silent all the while is an error,
// not an empty queue.
func (q *Queue) Next(ctx context.Context) (sale.Delivery, error) {
	if q.pull == nil {
		if err := q.open(ctx); err != nil {
			return nil, err
		}
	}
	msg, err := q.pull.next(ctx)
	switch {
	case err == nil:
		return q.delivery(ctx, msg)
	case err == ctx.Err():
		return nil, err
	case !errors.Is(err, jetstream.ErrNoHeartbeat):
		q.Close()
	}
	return nil, fmt.Errorf("consumer %s: %w", q.product, err)
}

// open reads the epoch and hears the witnesses before it pulls.
func (q *Queue) open(ctx context.Context) error {
	if err := q.Examine(ctx); err != nil {
		return err
	}
	var err error
	if q.pull, err = newPuller(q.nc, q.want.Durable, q.pulls, q.back); err != nil {
		return fmt.Errorf("pull from consumer %s: %w", q.product, err)
	}
	q.delivered = 0
	return nil
}

// Examine looks at the queue as it is looked at before any message is taken: its settings
// are right, and nothing contradicts the witnesses. Else its error wraps sale.ErrBehind.
func (q *Queue) Examine(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := q.readEpoch(ctx)
	if err != nil {
		return err
	}
	consumer, err := stream.Consumer(ctx, q.want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("consumer %s is missing: %w", q.product, ErrMissing)
	}
	if err != nil {
		return fmt.Errorf("consumer %s: %w", q.product, err)
	}
	if err := consumerDrift(q.want, consumer.CachedInfo().Config); err != nil {
		return err
	}
	return q.compare(ctx, stream, consumer.CachedInfo())
}

// compare asks queue and history about each other, in the order in which what is told
// stays true while others order and decide: what was acknowledged, the newest link, what
// was confirmed, the end.
func (q *Queue) compare(ctx context.Context, stream jetstream.Stream, consumer *jetstream.ConsumerInfo) error {
	if q.witness.Newest == nil {
		return nil
	}
	w := sale.Witness{Epoch: q.epoch, First: epochFirst(stream.CachedInfo().Config), Acked: acknowledged(consumer)}
	newest, err := q.witness.Newest(ctx)
	if err != nil {
		return err
	}
	if q.witness.Mark != nil {
		w.Mark = q.witness.Mark(q.epoch)
	}
	info, err := head(ctx, stream)
	if err != nil {
		return err
	}
	w.Last = info.State.LastSeq
	if err := w.Check(newest); err != nil {
		return err
	}
	return q.reaches(ctx, consumer, newest)
}

// Reaches tells whether the consumer will hand out what is in the queue and undecided. Its
// error wraps ErrDrift or sale.ErrBehind if it will not.
func (q *Queue) Reaches(ctx context.Context) error {
	stream, err := q.readEpoch(ctx)
	if err != nil {
		return err
	}
	consumer, err := stream.Consumer(ctx, q.want.Durable)
	if err != nil {
		return fmt.Errorf("consumer %s: %w", q.product, err)
	}
	if err := consumerDrift(q.want, consumer.CachedInfo().Config); err != nil {
		return err
	}
	newest, err := q.witness.Newest(ctx)
	if err != nil {
		return err
	}
	return q.reaches(ctx, consumer.CachedInfo(), newest)
}

// acknowledged is the highest sequence up to which the consumer saw everything
// acknowledged. One that was just made reports a floor that nobody acknowledged.
func acknowledged(consumer *jetstream.ConsumerInfo) uint64 {
	if consumer.AckFloor.Consumer == 0 {
		return 0
	}
	return consumer.AckFloor.Stream
}

// reaches tells of an undecided message that the consumer will never hand out, as it
// counts it among those that were acknowledged: a copy of a stream and of its consumer that
// were made a moment apart differ so. Going on would pass it over (P2, P3).
func (q *Queue) reaches(ctx context.Context, consumer *jetstream.ConsumerInfo, newest sale.Position) error {
	from := uint64(1)
	if newest.Epoch == q.epoch {
		from = newest.Seq + 1
	}
	before := passed(consumer)
	if before < from {
		return nil
	}
	for _, subject := range q.want.FilterSubjects {
		next, err := fromLeader(ctx, q.nc, ordersStream, fmt.Appendf(nil, `{"seq":%d,"next_by_subj":%q}`, from, subject))
		switch {
		case errors.Is(err, sale.ErrNotFound):
		case err != nil:
			return fmt.Errorf("queue of %s: %w", q.product, err)
		case next.Seq <= before:
			return fmt.Errorf("the queue's consumer has passed over message %d, which is undecided: %w", next.Seq, sale.ErrBehind)
		}
	}
	return nil
}

// passed is up to where a consumer hands out nothing any more, 0 while it waits for an
// acknowledgement.
func passed(consumer *jetstream.ConsumerInfo) uint64 {
	if consumer.NumAckPending > 0 {
		return 0
	}
	return consumer.Delivered.Stream
}

// readEpoch reads the stream's epoch, which is that of all that its consumer can deliver.
func (q *Queue) readEpoch(ctx context.Context) (jetstream.Stream, error) {
	reconnects := q.reconnected()
	stream, err := q.js.Stream(ctx, ordersStream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", ordersStream, err)
	}
	epoch := stream.CachedInfo().Config.Metadata[metaEpoch]
	if epoch == "" {
		return nil, fmt.Errorf("stream %s %w: metadata %s is missing", ordersStream, ErrDrift, metaEpoch)
	}
	q.epoch, q.reconnects = epoch, reconnects
	return stream, nil
}

func (q *Queue) reconnected() uint64 { return q.js.Conn().Stats().Reconnects }

// delivery is the message with its epoch. A stream that is deleted says so to the
// pulls that wait, not to a holder that was busy or cut off; but the consumer of the one
// that is made in its place counts from 1 again.
func (q *Queue) delivery(ctx context.Context, msg *nats.Msg) (sale.Delivery, error) {
	meta, err := msg.Metadata()
	if err != nil {
		return nil, fmt.Errorf("consumer %s: %w", q.product, err)
	}
	q.pinned = true
	if meta.Sequence.Consumer <= q.delivered || q.reconnected() != q.reconnects {
		searching, cancel := context.WithTimeout(ctx, apiTimeout)
		defer cancel()
		if _, err := q.readEpoch(searching); err != nil {
			_ = msg.Nak() // if it is lost, the redelivery comes later
			return nil, err
		}
	}
	q.delivered = meta.Sequence.Consumer
	q.hand = &delivery{queue: q, msg: msg, again: meta.NumDelivered > 1, m: sale.Message{
		Product: q.product, Desk: strings.HasPrefix(msg.Subject, deskPrefix), Epoch: q.epoch, Seq: meta.Sequence.Stream, StoredAt: meta.Timestamp, Data: msg.Data}}
	return q.hand, nil
}

// Leave gives the product back with whatever was not acknowledged, and stops
// pulling, so that another instance goes on at once instead of when the pin or the
// wait for an acknowledgement runs out. The pin goes first: without it the pull that
// still waits at the server gets nothing more, and what was on its way to it is
// heard and handed back.
func (q *Queue) Leave(ctx context.Context) error {
	if q.pull != nil && q.pull.pin == "" {
		// Our pin expired and another instance has it; unpinning could hand the product
		// back to our own waiting pull.
		q.pinned = false
	}
	err := q.Unpin(ctx)
	if q.hand != nil {
		_ = q.hand.msg.Nak() // if it is lost, the redelivery comes later
		q.hand = nil
	}
	if q.expects(ctx) {
		q.close(answerTime)
	} else {
		q.Close()
	}
	if err == nil {
		err = q.Unpin(ctx) // if what was handed back came with another pin
	}
	return err
}

// expects tells whether the pull that waits, if it was one with the pin, may have
// been answered: by a server that sends a message only when its followers know of
// that (replicated deliveries).
func (q *Queue) expects(ctx context.Context) bool {
	if q.pull == nil || q.pull.pin == "" || !q.pull.waits() {
		return false
	}
	consumer, err := q.js.Consumer(ctx, ordersStream, q.want.Durable)
	return err != nil || consumer.CachedInfo().NumAckPending > 0
}

// Close stops pulling. A message that was handed out but not yet taken goes back
// at once, instead of stalling the product until its redelivery.
func (q *Queue) Close() { q.close(0) }

func (q *Queue) close(answer time.Duration) {
	if q.pull == nil {
		return
	}
	pull := q.pull
	q.pull = nil
	pull.close(answer, func(msg *nats.Msg) {
		q.pinned = q.pinned || last(msg.Header, headerPin) != pull.pin
		_ = msg.Nak() // if it is lost, the redelivery comes later
	})
}

// Unpin gives the product back and leaves the pull that waits as it is. A queue that was
// never pinned leaves the pin of another instance alone.
func (q *Queue) Unpin(ctx context.Context) error {
	if !q.pinned {
		return nil
	}
	stream, err := q.js.Stream(ctx, ordersStream)
	if err == nil {
		err = stream.UnpinConsumer(ctx, q.want.Durable, deciders)
	}
	if err != nil {
		return fmt.Errorf("unpin %s: %w", q.product, err)
	}
	q.pinned = false
	return nil
}

type delivery struct {
	queue *Queue
	msg   *nats.Msg
	m     sale.Message
	again bool
}

func (d *delivery) Message() *sale.Message { return &d.m }
func (d *delivery) Redelivered() bool      { return d.again }
func (d *delivery) InProgress() error      { return d.msg.InProgress() }

// Ack implements sale.Delivery. Acknowledging again is no mistake: the one before
// may have seemed to fail.
func (d *delivery) Ack() error {
	if err := d.msg.Ack(); err != nil && !errors.Is(err, nats.ErrMsgAlreadyAckd) {
		return err
	}
	if d.queue.hand == d {
		d.queue.hand = nil
	}
	return nil
}
