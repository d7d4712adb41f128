package broker

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/nats-io/nats.go"

	"firstcome/internal/sale"
)

// Announcer implements sale.Announcer with core NATS: at once, at most once. The
// book and the history are the memory. The connection hears no echo of its own, so
// what this instance announces is handed to its hub directly (To).
type Announcer struct {
	nc *nats.Conn
	to atomic.Pointer[func(token string, status []byte)]
}

// NewAnnouncer makes the announcer.
func NewAnnouncer(c *Conn) *Announcer { return &Announcer{nc: c.broadcast} }

// To has f called with what this instance announces from now on, as Subscribe does
// with what others do. f must not block, nor keep the status.
func (a *Announcer) To(f func(token string, status []byte)) { a.to.Store(&f) }

// Announce implements sale.Announcer.
func (a *Announcer) Announce(statuses []sale.Status) error {
	// One string holds all subjects: one each would be an allocation an order.
	room, ends := make([]byte, 0, 96*len(statuses)), make([]int, len(statuses))
	for i := range statuses {
		room = appendStatusSubject(room, &statuses[i])
		ends[i] = len(room)
	}
	subjects, from := string(room), 0
	body := make([]byte, 0, 512)
	var errs []error
	to := a.to.Load()
	for i := range statuses {
		subject := subjects[from:ends[i]]
		from = ends[i]
		body = statuses[i].AppendJSON(body[:0])
		if err := a.nc.Publish(subject, body); err != nil {
			errs = append(errs, err)
		}
		if to != nil {
			token, _, _ := strings.Cut(subject[len(statusPrefix):], ".")
			(*to)(token, body)
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
// any other instance broadcasts, one after another. f must not keep the body. The
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
	if err == nil {
		err = c.broadcast.FlushTimeout(apiTimeout) // the server has it: nothing from now on is missed
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
