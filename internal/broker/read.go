package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"firstcome/internal/sale"
)

// What one direct get may bring: the server ends a batch at either.
const (
	batchMessages = 1000
	batchBytes    = 8 << 20
)

// readBatch reads messages after the current position, not beyond to, and tells
// how many there were.
func (f *Follower) readBatch(ctx context.Context, to uint64) (n int, err error) {
	batch, err := jetstreamext.GetBatch(ctx, f.conn.feed, ordersStream, batchMessages,
		jetstreamext.GetBatchSeq(f.at()+1), jetstreamext.GetBatchMaxBytes(batchBytes))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", ordersStream, err)
	}
	for msg, err := range batch {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("read %s: %w", ordersStream, err)
		}
		if msg.Sequence > to {
			f.move(func() { f.ordersAt = to })
			return n, nil
		}
		f.expect(sale.ProductID(strings.TrimPrefix(msg.Subject, ordersPrefix)), msg.Sequence, msg.Time, msg.Data)
		f.move(func() { f.ordersAt = msg.Sequence })
		n++
	}
	return n, nil
}

// storedMsg is a message as the JetStream API shows it.
type storedMsg struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	Data    []byte    `json:"data"`
	Time    time.Time `json:"time"`
}

// nextFromLeader reads the first message at or after seq, from the stream's
// leader. nats.go would use a direct get, which any replica answers.
func nextFromLeader(ctx context.Context, nc *nats.Conn, stream string, seq uint64) (*storedMsg, error) {
	ask := fmt.Appendf(nil, `{"seq":%d,"next_by_subj":">"}`, seq)
	answer, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, ask)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", stream, err)
	}
	var got struct {
		Error   *jetstream.APIError `json:"error"`
		Message *storedMsg          `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return nil, fmt.Errorf("read %s: %w", stream, err)
	}
	switch {
	case got.Error != nil && got.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, sale.ErrNotFound
	case got.Error != nil:
		return nil, fmt.Errorf("read %s: %w", stream, got.Error)
	case got.Message == nil:
		return nil, fmt.Errorf("read %s: an empty answer", stream)
	}
	return got.Message, nil
}
