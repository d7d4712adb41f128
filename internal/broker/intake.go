package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"firstcome/internal/sale"
)

// Grouping says how orders are put together into queue messages.
type Grouping struct {
	MaxOrders int           // in one message, at most sale.MaxLines
	MaxWait   time.Duration // of an order for others to join it; longer while decisions take longer
	InFlight  int           // groups of a product that may be undecided at a time, but for MaxWait
	Worth     int           // orders that are worth a group of their own while others are undecided
}

// Worth is what a group costs in orders: the CPU time of its fsyncs, swap and
// messages is that of some 50 orders.
const Worth = 64

// Intake stores orders in the queue by group commit. An order goes out alone and at
// once while nothing of this instance's is undecided. A busy instance groups orders. It
// sends a group at MaxOrders, after MaxWait (stretched to one decision time, at most
// maxPatience), or as soon as it has as many orders as are undecided, but at least
// Worth, and fewer than InFlight groups are undecided. So the cost of a decision is paid
// per group, groups grow exactly as far as deciding is slower than arriving, and the
// next one is often in the queue when the one before it is decided.
type Intake struct {
	conn      *Conn
	book      *sale.Book
	group     Grouping
	announcer *Announcer
	mark      *QueueMark // nil: none is kept

	outage atomic.Pointer[outage] // nil: the last group heard of was stored

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
	flight  []*sent       // groups not yet decided, oldest first
	orders  int           // in all of these groups
	usual   int           // orders in the group sent last
	pace    time.Duration // from sending to decision, a moving average
	link    uint64        // number of the one heard last
	epoch   string        // of settled
	settled uint64        // highest sequence decided
}

// group is one queue message in the making.
type group struct {
	id     string
	data   []byte
	orders []sale.Order
	done   chan struct{} // closed when err is final
	err    error
}

// sent is a group from when it was sent until it is decided.
type sent struct {
	at     time.Time
	orders int
	seq    uint64        // in the queue; 0: not stored yet
	over   chan struct{} // closed when the group is decided, or was not stored
}

// pendingAfter is how long a group may be undecided before its orders are announced as
// pending. Buyers have that from their 202; most outcomes come sooner, and each order
// then costs one broadcast and one frame.
const pendingAfter = 10 * time.Millisecond

// An attempt to store a group, and all of them together: with the time to gather
// and to look for an order of the same key, under the 5 s in which a buyer must
// hear of a broker that is away.
const (
	storeTimeout = 1500 * time.Millisecond
	storeLimit   = 2500 * time.Millisecond
)

// NewIntake makes the intake. It hears from the book what was decided, and has the
// announcer say pending where that is late. The mark, which may be nil,
// remembers how far the queue has come.
func NewIntake(c *Conn, book *sale.Book, announcer *Announcer, mark *QueueMark, g Grouping) *Intake {
	in := &Intake{conn: c, book: book, group: g, announcer: announcer, mark: mark, lanes: map[sale.ProductID]*lane{}}
	book.OnApply(in.decided)
	return in
}

// Place returns nil once the queue has stored the order durably (P3). It wraps
// sale.ErrQueueFull or sale.ErrUnavailable; after the latter the order may have
// been stored all the same. It returns within storeLimit and the time to gather,
// whether ctx has an end or not.
func (in *Intake) Place(ctx context.Context, product sale.ProductID, order sale.Order) error {
	g, err := in.lane(product).join(&order)
	if err != nil {
		return err
	}
	if ctx.Done() == nil { // waiting for one thing is much cheaper than for two
		<-g.done
		return g.err
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
		if p, ok := in.book.Product(product); ok {
			l.epoch, l.settled = p.Queue.Epoch, p.Queue.Seq
		}
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
		g = &group{id: nuid.Next(), done: make(chan struct{}),
			orders: make([]sale.Order, 0, l.usual), data: make([]byte, 0, 160*l.usual)}
		l.open = g
	}
	g.orders = append(g.orders, *order)
	g.data = append(order.AppendLine(g.data), '\n')
	switch {
	case l.ripe():
		l.send()
	case len(g.orders) == 1:
		l.timer = time.AfterFunc(l.patience(), func() { l.flush(g) })
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
	s := &sent{at: time.Now(), orders: len(g.orders), over: make(chan struct{})}
	l.flight = append(l.flight, s)
	l.orders += s.orders
	l.usual = s.orders
	msg := nats.NewMsg(ordersSubject(l.product))
	msg.Header.Set(headerOrders, strconv.Itoa(s.orders))
	msg.Header.Set(jetstream.MsgIDHeader, g.id)
	msg.Data = g.data
	future, err := l.intake.conn.js.PublishMsgAsync(msg, jetstream.WithExpectStream(ordersStream))
	go l.await(g, s, msg, future, err)
}

// await sees one group through to the queue's answer. An answer that does not come
// leaves open whether the group was stored, so it is sent again under the same
// message id, which the queue stores once.
func (l *lane) await(g *group, s *sent, msg *nats.Msg, future jetstream.PubAckFuture, err error) {
	defer l.intake.flying.Done()
	ctx, cancel := context.WithTimeout(context.Background(), storeLimit)
	defer cancel()
	var ack *jetstream.PubAck
	if err == nil {
		ack, err = answer(ctx, future)
	}
	if unanswered(err) {
		ack, err = l.intake.resend(ctx, msg)
	}
	if err != nil {
		g.err = publishError(err)
		l.intake.noteFailure(g.err)
		l.noteStored(s, 0)
		close(g.done)
		return
	}
	l.intake.outage.Store(nil)
	l.intake.mark.Note(ack.Sequence)
	l.noteStored(s, ack.Sequence)
	close(g.done)
	late := time.NewTimer(pendingAfter)
	defer late.Stop()
	select {
	case <-s.over:
	case <-late.C:
		l.intake.announcer.pending(l.product, g.orders)
	}
}

// answer waits for the queue's answer to a message that was sent, storeTimeout at
// most.
func answer(ctx context.Context, future jetstream.PubAckFuture) (*jetstream.PubAck, error) {
	select {
	case ack := <-future.Ok():
		return ack, nil
	case err := <-future.Err():
		return nil, err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// unanswered tells whether a message may be in the queue or not: its connection or
// its answer was lost. So it is sent again, as is one that the client held back
// because too many others are unanswered.
func unanswered(err error) bool {
	return errors.Is(err, jetstream.ErrAsyncPublishTimeout) || errors.Is(err, nats.ErrDisconnected) ||
		errors.Is(err, jetstream.ErrTooManyStalledMsgs)
}

// resend publishes until there is an answer, if only a refusal, or ctx ends.
func (in *Intake) resend(ctx context.Context, msg *nats.Msg) (ack *jetstream.PubAck, err error) {
	_ = retry(ctx, func() error { // err is what the last attempt said
		if ack, err = in.conn.js.PublishMsg(ctx, msg); disconnected(err) {
			return err
		}
		return nil
	})
	return ack, err
}

func disconnected(err error) bool {
	return errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrReconnectBufExceeded)
}

// noteStored notes that a sent group is in the queue, or with 0 that it is not.
func (l *lane) noteStored(s *sent, seq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.seq = seq
	if seq > l.settled {
		return
	}
	// Decided already, or not stored at all.
	close(s.over)
	l.flight = slices.DeleteFunc(l.flight, func(other *sent) bool { return other == s })
	l.orders -= s.orders
	l.release()
}

// decided is called for every link that this instance hears of, by the worker or by the
// feed: two of them may overtake each other.
func (in *Intake) decided(product sale.ProductID, head sale.Head) {
	in.mu.RLock()
	l := in.lanes[product]
	in.mu.RUnlock()
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if head.N <= l.link {
		return // the later one said as much, and more
	}
	l.link = head.N
	renewed := l.epoch != head.Queue.Epoch && l.epoch != "" // what was in the old queue is gone
	l.epoch, l.settled = head.Queue.Epoch, head.Queue.Seq
	l.flight = slices.DeleteFunc(l.flight, func(s *sent) bool {
		if s.seq == 0 || s.seq > head.Queue.Seq && !renewed {
			return false
		}
		close(s.over)
		l.orders -= s.orders
		l.pace += (time.Since(s.at) - l.pace) / 8
		return true
	})
	l.release()
}

// ripe tells whether the gathering group may go: it is full, or nothing is
// undecided, or it is as large as all that are undecided together and worth it.
func (l *lane) ripe() bool {
	n, in := len(l.open.orders), l.intake.group
	return n >= in.MaxOrders || l.orders == 0 || n >= max(l.orders, in.Worth) && len(l.flight) < in.InFlight
}

// maxPatience bounds how far slow decisions stretch MaxWait, so that an order is
// stored in good time even if nothing is decided at all.
const maxPatience = time.Second

// patience is how long a group may gather: as long as decisions take, those that
// are not made yet included. While nothing is decided, or not even stored, groups
// so grow instead of piling up, each of which would cost a decision later.
func (l *lane) patience() time.Duration {
	pace := l.pace
	if len(l.flight) > 0 {
		pace = max(pace, time.Since(l.flight[0].at))
	}
	return max(l.intake.group.MaxWait, min(pace, maxPatience))
}

// release sends what has gathered, if that is enough now that a group was decided.
func (l *lane) release() {
	if l.open != nil && l.ripe() {
		l.send()
	}
}

// storeFailed is the server's JSStreamStoreFailedF: a limit was met, and the
// description says which.
const storeFailed jetstream.ErrorCode = 10077

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
