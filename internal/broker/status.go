package broker

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"firstcome/internal/sale"
)

// Announcer implements sale.Announcer with core NATS: at once, at most once. The
// book and the ledger are the memory.
type Announcer struct{ nc *nats.Conn }

// NewAnnouncer makes the announcer.
func NewAnnouncer(c *Conn) *Announcer { return &Announcer{nc: c.broadcast} }

// Announce implements sale.Announcer.
func (a *Announcer) Announce(statuses []sale.Status) error {
	var subject, body []byte
	var errs []error
	for i := range statuses {
		subject = appendStatusSubject(subject[:0], &statuses[i])
		body = statuses[i].AppendJSON(body[:0])
		if err := a.nc.Publish(string(subject), body); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%d of %d statuses: %w", len(errs), len(statuses), errs[0])
	}
	return nil
}

// pending tells of orders that the queue has stored. What is lost is in the book.
func (a *Announcer) pending(product sale.ProductID, orders []sale.Order) {
	statuses := make([]sale.Status, len(orders))
	for i := range orders {
		statuses[i] = sale.Status{Order: orders[i], Product: product}
	}
	_ = a.Announce(statuses)
}

// A burst of statuses that the hub has not taken yet may grow to this; beyond it
// they are dropped, and every socket is brought up to date from the book.
const (
	statusPendingMsgs  = 1 << 20
	statusPendingBytes = 256 << 20
)

// Subscribe has f called with the email token and the body of every status that
// any instance broadcasts, one after another. f must not keep the body. The
// returned function ends it and waits for the last call.
func (c *Conn) Subscribe(f func(token string, status []byte)) (stop func() error, err error) {
	sub, err := c.broadcast.Subscribe(statusPrefix+">", func(m *nats.Msg) {
		token, _, ok := strings.Cut(m.Subject[len(statusPrefix):], ".")
		if ok {
			f(token, m.Data)
		}
	})
	if err == nil {
		err = sub.SetPendingLimits(statusPendingMsgs, statusPendingBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("subscribe to statuses: %w", err)
	}
	closed := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(closed) })
	return func() error {
		err := sub.Unsubscribe()
		if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrBadSubscription) {
			return nil
		}
		if err == nil {
			<-closed
		}
		return err
	}, nil
}
