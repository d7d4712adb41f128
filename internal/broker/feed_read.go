package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// storedMsg is a message as the JetStream API shows it.
type storedMsg struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	Headers []byte    `json:"hdrs"`
	Data    []byte    `json:"data"`
	Time    time.Time `json:"time"`

	header nats.Header
}

// readStream visits, in sequence, every message that the stream holds from one
// sequence to another, both included. Replicas answer the bulk. One that lags
// lacks the end of the stream, never its middle, so behind the last message that
// it had the leader is asked, as is for a message that a direct get cannot show.
func readStream(ctx context.Context, c *Conn, stream string, from, to uint64, visit func(*storedMsg)) error {
	for from <= to {
		next := readBatch(ctx, c, stream, from, to, visit)
		if next > from {
			from = next
			continue
		}
		msg, err := nextFromLeader(ctx, c.broadcast, stream, from)
		if errors.Is(err, sale.ErrNotFound) || err == nil && msg.Seq > to {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
		visit(msg)
		from = msg.Seq + 1
	}
	return nil
}

// readBatch visits what one direct get brings, and returns where to go on. It stops
// before anything that is not plain: a direct get shows a message's headers beside
// the server's own, and a publisher may write what looks like those.
func readBatch(ctx context.Context, c *Conn, stream string, from, to uint64, visit func(*storedMsg)) (next uint64) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	batch, err := jetstreamext.GetBatch(ctx, c.feed, stream, batchMessages,
		jetstreamext.GetBatchSeq(from), jetstreamext.GetBatchMaxBytes(batchBytes))
	if err != nil {
		return from
	}
	next = from
	for msg, err := range batch {
		if err != nil || !plain(msg.Header) {
			return next
		}
		if msg.Sequence > to {
			return to + 1
		}
		visit(&storedMsg{Subject: msg.Subject, Seq: msg.Sequence, Data: msg.Data, Time: msg.Time, header: msg.Header})
		next = msg.Sequence + 1
	}
	return next
}

// plain tells whether the server alone wrote the headers that place a message.
func plain(h nats.Header) bool {
	return len(h[jetstream.SequenceHeader]) == 1 && len(h[jetstream.SubjectHeader]) == 1 && len(h[jetstream.TimeStampHeaer]) == 1
}

// nextFromLeader reads the first message at or after seq, from the stream's leader.
func nextFromLeader(ctx context.Context, nc *nats.Conn, stream string, seq uint64) (*storedMsg, error) {
	return fromLeader(ctx, nc, stream, fmt.Appendf(nil, `{"seq":%d,"next_by_subj":">"}`, seq))
}

// fromLeader reads one message from the stream's leader, and fails with
// sale.ErrNotFound if it has none. nats.go would use a direct get, which any replica
// answers.
func fromLeader(ctx context.Context, nc *nats.Conn, stream string, ask []byte) (*storedMsg, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	answer, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+stream, ask)
	if err != nil {
		return nil, err
	}
	var got struct {
		Error   *jetstream.APIError `json:"error"`
		Message *storedMsg          `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return nil, err
	}
	switch {
	case got.Error != nil && got.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, sale.ErrNotFound
	case got.Error != nil:
		return nil, got.Error
	case got.Message == nil:
		return nil, errors.New("an empty answer")
	}
	if len(got.Message.Headers) > 0 {
		if got.Message.header, err = nats.DecodeHeadersMsg(got.Message.Headers); err != nil {
			return nil, err
		}
	}
	return got.Message, nil
}
