package broker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// Ledger implements sale.Ledger with the stream LEDGER, which takes one message
// per subject and never lets it go.
type Ledger struct {
	nc *nats.Conn
	js jetstream.JetStream
}

// OpenLedger binds to the stream, which must exist.
func OpenLedger(ctx context.Context, c *Conn) (*Ledger, error) {
	if _, err := c.js.Stream(ctx, ledgerStream); err != nil {
		return nil, fmt.Errorf("open stream %s: %w", ledgerStream, err)
	}
	return &Ledger{nc: c.orders, js: c.js}, nil
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

// Entry implements sale.Ledger. The leader answers: who asks has missed what the
// feed should have brought, and a direct get may go to the very replica that is
// behind, or to one that nobody hears.
func (l *Ledger) Entry(ctx context.Context, product sale.ProductID, n uint64) ([]byte, error) {
	msg, err := fromLeader(ctx, l.nc, ledgerStream, fmt.Appendf(nil, `{"last_by_subj":%q}`, ledgerSubject(product, n)))
	if err != nil {
		return nil, fmt.Errorf("entry %d of %s: %w", n, product, err)
	}
	return msg.Data, nil
}
