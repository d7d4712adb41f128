package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// Heard is a status as it was broadcast.
type Heard struct {
	Outcome string // "pending", "accepted", …
	Body    []byte // the whole status, JSON
}

const (
	// ackTime is how long Buy waits for the queue to say that it has the order; after
	// that it may have it all the same.
	ackTime = 4 * time.Second
	// searchEvery is how often Buy searches the history for an outcome that no broadcast
	// brought, and how long a search may take; the last one may take lastSearch.
	searchEvery = 2 * time.Second
	lastSearch  = 5 * time.Second
	// searchBack bounds the links that a search reads one after another.
	searchBack = 100
)

// Buy places one order and waits for its final status, subscribed before the
// queue has it. A broadcast comes at most once, and is lost with a connection or
// before the cluster has heard of the subscription, so every 2 s, and when the
// deadline of ctx has passed, it searches the history (P6). The last
// search may take 5 s. It wraps sale.ErrUnknownProduct if no queue takes the
// product; if there is no outcome yet the order may be in the queue, and the error
// names it.
func Buy(ctx context.Context, c *Conn, product sale.ProductID, order sale.Order) (Heard, error) {
	told := make(chan *nats.Msg, 8) // an order is told of twice
	status := sale.Status{Order: order, Product: product}
	sub, err := c.orders.ChanSubscribe(string(appendStatusSubject(nil, &status)), told)
	if err != nil {
		return Heard{}, fmt.Errorf("listen for the outcome: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is gone
	p := placed{history: NewHistory(c), product: product, id: order.ID}
	if stream, err := c.stream(ctx, ordersStream); err == nil { // else the answer to the order says more
		p.epoch = stream.CachedInfo().Config.Metadata[metaEpoch]
	}
	acking, cancel := context.WithTimeout(ctx, ackTime)
	defer cancel()
	ack, err := c.js.Publish(acking, ordersSubject(product), order.AppendLine(nil),
		jetstream.WithMsgID(order.ID.String()), jetstream.WithExpectStream(ordersStream))
	switch {
	case err == nil:
		p.seq = ack.Sequence
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return Heard{}, c.whyNobodyTook(ctx, product)
	case !errors.Is(err, context.DeadlineExceeded):
		return Heard{}, fmt.Errorf("place order %s: %w", order.ID, publishError(err))
	}
	tick := time.NewTicker(searchEvery)
	defer tick.Stop()
	for {
		select {
		case msg := <-told:
			var s struct {
				Status string `json:"status"`
			}
			if err := json.Unmarshal(msg.Data, &s); err != nil {
				return Heard{}, fmt.Errorf("status of order %s: %w", order.ID, err)
			}
			if s.Status != sale.Pending.String() {
				return Heard{Outcome: s.Status, Body: msg.Data}, nil
			}
		case <-tick.C:
			searching, cancel := context.WithTimeout(ctx, searchEvery)
			heard, found, err := p.find(searching)
			cancel()
			if err == nil && found { // else there will be another
				return heard, nil
			}
		case <-ctx.Done():
			return p.findAtLast(ctx)
		}
	}
}

// whyNobodyTook tells a product that no queue takes from a queue that has no leader
// just now.
func (c *Conn) whyNobodyTook(ctx context.Context, product sale.ProductID) error {
	ctx, cancel := context.WithTimeout(ctx, ackTime)
	defer cancel()
	stream, err := c.stream(ctx, ordersStream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
	case err != nil:
		return fmt.Errorf("%w: %w", sale.ErrUnavailable, err)
	case slices.Contains(stream.CachedInfo().Config.Subjects, ordersSubject(product)):
		return fmt.Errorf("%w: it has no leader", sale.ErrUnavailable)
	}
	return fmt.Errorf("%w: %s", sale.ErrUnknownProduct, product)
}

// placed is an order whose outcome may be stored by now.
type placed struct {
	history *History
	product sale.ProductID
	id      sale.OrderID
	epoch   string
	seq     uint64 // in the queue, 0: unknown
}

// findAtLast searches once more, with some patience. After a cancellation it does not:
// the caller has stopped waiting.
func (p *placed) findAtLast(ctx context.Context) (heard Heard, err error) {
	found := false
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		searching, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSearch)
		defer cancel()
		err = retry(searching, func() (err error) {
			heard, found, err = p.find(searching)
			return err
		})
	}
	if found && err == nil {
		return heard, nil
	}
	where := "is in the queue"
	if p.seq == 0 {
		where = "may be in the queue"
	}
	return Heard{}, errors.Join(fmt.Errorf("order %s %s, but no outcome came: %w", p.id, where, context.Cause(ctx)), err)
}

// find finds the outcome, false while there is none. It goes to the link that settled
// the order's message, or to the newest if that message is unknown, and back from
// there: the order may have been in an earlier message too, and is a duplicate in this
// one.
func (p *placed) find(ctx context.Context) (Heard, bool, error) {
	var link StoredLink
	var err error
	if p.seq > 0 {
		var found bool
		link, found, err = p.history.SettledBy(ctx, p.product, sale.Position{Epoch: p.epoch, Seq: p.seq})
		if err != nil || !found {
			return Heard{}, false, err
		}
	} else if link, err = p.history.Newest(ctx, p.product); err != nil {
		return Heard{}, false, err
	}
	for range searchBack {
		for _, s := range link.Statuses() {
			if s.ID == p.id {
				return Heard{Outcome: s.Outcome.String(), Body: s.AppendJSON(nil)}, true, nil
			}
		}
		if link.before == 0 {
			break
		}
		if link, err = p.history.Before(ctx, link); errors.Is(err, sale.ErrNoLink) {
			break // written by hand; a search past it would take too long
		} else if err != nil {
			return Heard{}, false, err
		}
	}
	return Heard{}, false, nil
}
