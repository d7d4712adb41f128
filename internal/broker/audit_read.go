package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// QueueState is what stands in the queue, for an audit.
type QueueState struct {
	Epoch       string
	First, Last uint64 // sequences that the queue has given out in this epoch
	Revision    uint64 // the last one of the bucket
	// Acked is how far each product's consumer has seen everything acknowledged. It was
	// read before any history.
	Acked map[sale.ProductID]uint64
	// Passed is up to where each product's consumer hands out nothing any more: what stands
	// in the queue before it stays there. 0 while a message is outstanding.
	Passed map[sale.ProductID]uint64
	// Missing are the products whose consumer does not exist, and Held those of which an
	// instance holds the pin or a message.
	Missing, Held []sale.ProductID
}

// ReadQueueState reads how far queue and products have come. An audit reads it before the
// history, so that a sale may go on meanwhile.
func ReadQueueState(ctx context.Context, c *Conn) (q QueueState, err error) {
	stream, err := c.stream(ctx, ordersStream)
	if err != nil {
		return q, fmt.Errorf("stream %s: %w", ordersStream, err)
	}
	info, err := head(ctx, stream)
	if err != nil {
		return q, err
	}
	if q.Epoch = info.Config.Metadata[metaEpoch]; q.Epoch == "" {
		return q, fmt.Errorf("stream %s %w: metadata %s is missing", ordersStream, ErrDrift, metaEpoch)
	}
	q.First = epochFirst(info.Config)
	q.Last = info.State.LastSeq
	if q.Revision, err = lastRevision(ctx, c); err != nil {
		return q, err
	}
	q.Acked, q.Passed = map[sale.ProductID]uint64{}, map[sale.ProductID]uint64{}
	for _, subject := range info.Config.Subjects {
		p, _, ok := queueSubject(subject)
		if _, known := q.Acked[p]; !ok || known {
			continue
		}
		consumer, err := c.consumer(ctx, p)
		switch {
		case errors.Is(err, jetstream.ErrConsumerNotFound):
			q.Acked[p] = 0 // nothing was acknowledged that it could tell of
			q.Missing = append(q.Missing, p)
			continue
		case err != nil:
			return q, fmt.Errorf("consumer %s of %s: %w", p, ordersStream, err)
		}
		info := consumer.CachedInfo()
		q.Passed[p] = passed(info)
		if q.Acked[p] = acknowledged(info); held(info, 2*c.timing.AckWait) {
			q.Held = append(q.Held, p)
		}
	}
	return q, nil
}

// epochFirst is the first sequence of the queue's epoch.
func epochFirst(queue jetstream.StreamConfig) uint64 {
	if first, err := strconv.ParseUint(queue.Metadata[metaFirst], 10, 64); err == nil {
		return max(first, 1)
	}
	return 1
}

func lastRevision(ctx context.Context, c *Conn) (uint64, error) {
	stream, err := c.stream(ctx, stockStream)
	if err != nil {
		return 0, fmt.Errorf("bucket %s: %w", stockBucket, err)
	}
	info, err := head(ctx, stream)
	if err != nil {
		return 0, err
	}
	return info.State.LastSeq, nil
}

// held tells whether an instance decides by this consumer just now. A message that was
// handed out long ago is in nobody's hand: it waits to be handed out again.
func held(consumer *jetstream.ConsumerInfo, long time.Duration) bool {
	for _, group := range consumer.PriorityGroups {
		if group.PinnedClientID != "" {
			return true
		}
	}
	handed := consumer.Delivered.Last
	return consumer.NumAckPending > 0 && handed != nil && consumer.TimeStamp.Sub(*handed) < long
}

// ReadQueue visits every message that stands in the queue up to a sequence.
func ReadQueue(ctx context.Context, c *Conn, to uint64, visit func(*sale.Message)) error {
	stream, err := c.stream(ctx, ordersStream)
	if err != nil {
		return fmt.Errorf("stream %s: %w", ordersStream, err)
	}
	info, err := head(ctx, stream)
	if err != nil {
		return err
	}
	epoch := info.Config.Metadata[metaEpoch]
	return readStream(ctx, c, ordersStream, max(1, info.State.FirstSeq), to, func(msg *storedMsg) {
		if p, desk, ok := queueSubject(msg.Subject); ok {
			visit(&sale.Message{Product: p, Desk: desk, Epoch: epoch, Seq: msg.Seq, StoredAt: msg.Time, Data: msg.Data})
		}
	})
}

// ReadHistory visits every revision that the bucket holds, in the order in which they
// were stored, and returns how many there are and how many it lacks: nothing is ever
// deleted from a history that is whole. progress is called now and then with the share
// that was read.
func ReadHistory(ctx context.Context, c *Conn, visit func(product sale.ProductID, seq sale.Seq, value []byte), progress func(done, total uint64)) (missing uint64, err error) {
	stream, err := c.feed.Stream(ctx, stockStream)
	if err != nil {
		return 0, fmt.Errorf("bucket %s: %w", stockBucket, err)
	}
	info, err := head(ctx, stream)
	if err != nil {
		return 0, err
	}
	var read uint64
	err = readStream(ctx, c, stockStream, 1, info.State.LastSeq, func(msg *storedMsg) {
		if read++; read%1000 == 0 || msg.Seq == info.State.LastSeq {
			progress(msg.Seq, info.State.LastSeq)
		}
		if p, err := sale.ParseProductID(strings.TrimPrefix(msg.Subject, stockPrefix)); err == nil {
			visit(p, sale.Seq(msg.Seq), msg.Data)
		}
	})
	return info.State.LastSeq - read, err
}
