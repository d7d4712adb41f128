package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// Ledger implements sale.Ledger with the stream LEDGER, which takes one message
// per subject and never lets it go.
type Ledger struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

// OpenLedger binds to the stream, which must exist.
func OpenLedger(ctx context.Context, c *Conn) (*Ledger, error) {
	stream, err := c.js.Stream(ctx, ledgerStream)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", ledgerStream, err)
	}
	return &Ledger{js: c.js, stream: stream}, nil
}

// Append implements sale.Ledger.
func (l *Ledger) Append(ctx context.Context, product sale.ProductID, n uint64, entry []byte) error {
	_, err := l.js.Publish(ctx, ledgerSubject(product, n), entry,
		jetstream.WithExpectStream(ledgerStream), jetstream.WithRetryAttempts(0))
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == storeFailed && strings.Contains(api.Description, "per subject") {
		return sale.ErrEntryTaken
	}
	return err
}

// storeFailed is the server's JSStreamStoreFailedF: a limit was met, and the
// description says which.
const storeFailed jetstream.ErrorCode = 10077

// Entry implements sale.Ledger, by a direct get: an entry never changes, so a
// replica's answer is as good as the leader's.
func (l *Ledger) Entry(ctx context.Context, product sale.ProductID, n uint64) ([]byte, error) {
	msg, err := l.stream.GetLastMsgForSubject(ctx, ledgerSubject(product, n))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, fmt.Errorf("entry %d of %s: %w", n, product, sale.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("entry %d of %s: %w", n, product, err)
	}
	return msg.Data, nil
}
