package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"firstcome/internal/sale"
)

// Grouping says how orders are put together into queue messages.
type Grouping struct {
	MaxOrders int           // in one message, at most sale.MaxLines
	MaxWait   time.Duration // of an order for others to join it
	InFlight  int           // groups of a product that may be undecided before arrivals gather
}

// Intake stores orders in the queue by group commit. An order goes out alone and
// at once while the line is short. While InFlight groups of this instance are
// undecided, arrivals gather, until a decision comes back, MaxOrders are together
// or MaxWait has passed: so the cost of a decision is paid per group, and groups
// grow exactly as far as deciding is slower than arriving.
type Intake struct {
	conn  *Conn
	group Grouping
	tell  *Announcer

	mu     sync.RWMutex
	lanes  map[sale.ProductID]*lane
	closed bool
	flying sync.WaitGroup // groups on their way to the queue
}

// lane gathers the orders of one product.
type lane struct {
	intake  *Intake
	product sale.ProductID

	mu      sync.Mutex
	open    *group // gathering; nil if nobody waits
	timer   *time.Timer
	sent    int      // groups published and not yet stored
	stored  []uint64 // sequences of groups stored and not yet decided
	epoch   string   // of settled
	settled uint64   // highest sequence decided
}

// group is one queue message in the making.
type group struct {
	id     string
	data   []byte
	orders []sale.Order
	done   chan struct{} // closed when err is final
	err    error
}

// An attempt to store a group, and all of them together: well under the 5 s in
// which a buyer must hear of a broker that is away.
const (
	storeTimeout = 2 * time.Second
	storeLimit   = 4 * time.Second
)

// NewIntake makes the intake. The book tells it what was decided, and the
// announcer says pending once the queue has acknowledged.
func NewIntake(c *Conn, book *sale.Book, tell *Announcer, g Grouping) *Intake {
	in := &Intake{conn: c, group: g, tell: tell, lanes: map[sale.ProductID]*lane{}}
	book.OnApply(in.decided)
	return in
}

// Place returns nil once the queue has stored the order durably (P3). It wraps
// sale.ErrQueueFull or sale.ErrUnavailable; after the latter the order may have
// been stored all the same.
func (in *Intake) Place(ctx context.Context, product sale.ProductID, order sale.Order) error {
	g, err := in.lane(product).join(&order)
	if err != nil {
		return err
	}
	select {
	case <-g.done:
		return g.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", sale.ErrUnavailable, context.Cause(ctx))
	}
}

func (in *Intake) lane(product sale.ProductID) *lane {
	in.mu.RLock()
	l := in.lanes[product]
	in.mu.RUnlock()
	if l != nil {
		return l
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if l = in.lanes[product]; l == nil {
		l = &lane{intake: in, product: product}
		in.lanes[product] = l
	}
	return l
}

// join adds the order to the group that gathers, and sends the group if it may go.
func (l *lane) join(order *sale.Order) (*group, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	in := l.intake
	in.mu.RLock()
	closed := in.closed
	if !closed && l.open == nil {
		in.flying.Add(1)
	}
	in.mu.RUnlock()
	if closed {
		return nil, fmt.Errorf("%w: shutting down", sale.ErrUnavailable)
	}
	g := l.open
	if g == nil {
		g = &group{id: nuid.Next(), done: make(chan struct{})}
		l.open = g
	}
	g.orders = append(g.orders, *order)
	g.data = append(order.AppendLine(g.data), '\n')
	switch {
	case len(g.orders) >= in.group.MaxOrders || l.sent+len(l.stored) < in.group.InFlight:
		l.send()
	case len(g.orders) == 1:
		l.timer = time.AfterFunc(in.group.MaxWait, func() { l.flush(g) })
	}
	return g, nil
}

// flush sends g if it is still gathering.
func (l *lane) flush(g *group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == g {
		l.send()
	}
}

// send publishes the gathering group. The caller holds l.mu, so that groups reach
// the queue in the order in which they were gathered.
func (l *lane) send() {
	g := l.open
	l.open = nil
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	l.sent++
	msg := nats.NewMsg(ordersSubject(l.product))
	msg.Header.Set(headerOrders, strconv.Itoa(len(g.orders)))
	msg.Header.Set(jetstream.MsgIDHeader, g.id)
	msg.Data = g.data
	future, err := l.intake.conn.js.PublishMsgAsync(msg, jetstream.WithExpectStream(ordersStream))
	go l.await(g, msg, future, err)
}

// await sees one group through to the queue's answer. An answer that does not come
// leaves open whether the group was stored, so it is sent again under the same
// message id, which the queue stores once.
func (l *lane) await(g *group, msg *nats.Msg, future jetstream.PubAckFuture, err error) {
	defer l.intake.flying.Done()
	ctx, cancel := context.WithTimeout(context.Background(), storeLimit)
	defer cancel()
	var ack *jetstream.PubAck
	if err == nil {
		ack, err = l.intake.confirm(ctx, msg, future)
	}
	if err != nil {
		g.err = publishError(err)
		l.noteStored(0)
		close(g.done)
		return
	}
	l.noteStored(ack.Sequence)
	l.intake.tell.pending(l.product, g.orders)
	close(g.done)
}

// confirm waits for the queue's answer to a message that was sent. Once the
// connection or the answer is lost, it sends it again until ctx ends.
func (in *Intake) confirm(ctx context.Context, msg *nats.Msg, future jetstream.PubAckFuture) (ack *jetstream.PubAck, err error) {
	timeout := time.NewTimer(storeTimeout)
	defer timeout.Stop()
	select {
	case ack = <-future.Ok():
		return ack, nil
	case err = <-future.Err():
		if !disconnected(err) {
			return nil, err
		}
	case <-timeout.C:
	}
	_ = retry(ctx, func() error { // err is what the last attempt said
		if ack, err = in.conn.js.PublishMsg(ctx, msg); disconnected(err) {
			return err
		}
		return nil // an answer, if only a refusal
	})
	return ack, err
}

func disconnected(err error) bool {
	return errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrReconnectBufExceeded)
}

// noteStored notes that a sent group is in the queue, or with 0 that it is not.
func (l *lane) noteStored(seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent--
	if seq > l.settled {
		l.stored = append(l.stored, seq)
	}
	l.release()
}

// decided is called for every ledger entry that this instance hears of.
func (in *Intake) decided(product sale.ProductID, head sale.Head) {
	in.mu.RLock()
	l := in.lanes[product]
	in.mu.RUnlock()
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.epoch != head.Epoch {
		if l.epoch != "" { // another queue: what was in the old one is gone
			l.stored = nil
		}
		l.epoch = head.Epoch
	}
	l.settled = head.Seq
	left := l.stored[:0]
	for _, seq := range l.stored {
		if seq > head.Seq {
			left = append(left, seq)
		}
	}
	l.stored = left
	l.release()
}

// release sends the gathering group if the line has become short enough.
func (l *lane) release() {
	if l.open != nil && l.sent+len(l.stored) < l.intake.group.InFlight {
		l.send()
	}
}

func publishError(err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == storeFailed && strings.Contains(api.Description, "maximum") {
		return sale.ErrQueueFull
	}
	return fmt.Errorf("%w: %w", sale.ErrUnavailable, err)
}

// Close refuses orders from now on, sends what has gathered, and waits until the
// queue has answered for it or ctx ends. Safe to call twice.
func (in *Intake) Close(ctx context.Context) error {
	in.mu.Lock()
	in.closed = true
	lanes := make([]*lane, 0, len(in.lanes))
	for _, l := range in.lanes {
		lanes = append(lanes, l)
	}
	in.mu.Unlock()
	for _, l := range lanes {
		l.mu.Lock()
		if l.open != nil {
			l.send()
		}
		l.mu.Unlock()
	}
	done := make(chan struct{})
	go func() {
		in.flying.Wait() // ends by storeLimit at the latest
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("groups on their way to the queue: %w", context.Cause(ctx))
	}
}
