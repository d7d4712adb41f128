package broker

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// Follower keeps an instance's book: it folds the ledger, and what waits in the
// queue. Both without gaps: the ledger through an ordered consumer, the queue
// through its republished messages, where a gap in the sequences is read from the
// stream (or was decided meanwhile, and is in the ledger).
type Follower struct {
	conn   *Conn
	book   *sale.Book
	shop   *Shop
	ledger *Ledger
	orders jetstream.Stream

	// Owned by Run's goroutine.
	newest time.Time // when the last message on the line was stored

	mu        sync.Mutex
	changed   chan struct{} // closed when a position moves, if anyone waits
	epoch     string        // of ordersAt; only Run's goroutine writes it, and may read it without mu
	ordersAt  uint64        // every message up to this sequence is in the book, or settled
	endEpoch  string        // of ordersEnd
	ordersEnd uint64        // the highest sequence anyone asked for
	broken    error         // the fold met something it cannot apply

	want     chan struct{} // has room for one: ordersEnd moved
	reached  chan struct{} // closed when the ledger has been read to its end once
	reach    sync.Once     // closes it
	catching rounds
}

// lineBuffer is how many republished messages may wait for the book. When it is
// full the client drops, which shows as a gap and is read from the stream.
const lineBuffer = 4096

// NewFollower binds to the streams of queue and ledger, which must exist.
func NewFollower(ctx context.Context, c *Conn, book *sale.Book, shop *Shop) (*Follower, error) {
	orders, err := c.feed.Stream(ctx, ordersStream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", ordersStream, err)
	}
	ledger, err := OpenLedger(ctx, c)
	if err != nil {
		return nil, err
	}
	f := &Follower{conn: c, book: book, shop: shop, ledger: ledger, orders: orders, want: make(chan struct{}, 1), reached: make(chan struct{})}
	f.catching.run = f.catchUp
	return f, nil
}

// Run follows until ctx ends. CatchUp returns once it has reached the heads, so
// the first CatchUp that succeeds tells that the book is built.
func (f *Follower) Run(ctx context.Context) error {
	lines := make(chan *nats.Msg, lineBuffer)
	sub, err := f.conn.broadcast.ChanSubscribe(linePrefix+"*", lines)
	if err != nil {
		return fmt.Errorf("subscribe to the line: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is gone
	entries, err := f.followLedger(ctx)
	if err != nil {
		return err
	}
	defer func() {
		entries.Stop()
		<-entries.Closed()
	}()
	f.begin(ctx)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-f.want:
			f.wanted(ctx)
		case msg := <-lines:
			f.line(ctx, msg)
		}
	}
	return nil
}

// begin brings the book to what was decided, the last entries included that only
// the stock values hold. The line comes after it: the book keeps a buyer's orders
// in the order in which it hears of them, and who waits came later.
func (f *Follower) begin(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-f.reached:
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	if err := f.shop.tell(ctx, f.book, f.ledger); err != nil {
		f.conn.log.Debug("the book begins without the last entries; CatchUp brings them", "err", err)
	}
}

func (f *Follower) followLedger(ctx context.Context) (jetstream.ConsumeContext, error) {
	var consumer jetstream.Consumer
	err := retry(ctx, func() (err error) {
		consumer, err = f.conn.feed.OrderedConsumer(ctx, ledgerStream, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("follow the ledger: %w", err)
	}
	if consumer.CachedInfo().NumPending == 0 {
		f.reach.Do(func() { close(f.reached) })
	}
	entries, err := consumer.Consume(f.entry, jetstream.PullMaxBytes(8<<20),
		jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullExpiry/3), // how soon a lost broker is noticed
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			f.conn.log.Debug("the ledger's feed was interrupted and goes on", "err", err)
		}))
	if err != nil {
		return nil, fmt.Errorf("follow the ledger: %w", err)
	}
	return entries, nil
}

// entry applies one ledger entry. The instance that decided it has applied it
// already, which its subject tells without reading it.
func (f *Follower) entry(msg jetstream.Msg) {
	if meta, err := msg.Metadata(); err != nil || meta.NumPending == 0 {
		defer f.reach.Do(func() { close(f.reached) })
	}
	product, n, ok := parseLedgerSubject(msg.Subject())
	if !ok {
		f.fail(fmt.Errorf("ledger subject %q", msg.Subject()))
		return
	}
	if f.book.Entries(product) < n {
		if err := f.book.ApplyStored(product, n, msg.Data()); err != nil {
			f.fail(err)
		}
	}
}

// fail notes that the book cannot be right from here on. Readiness ends, CatchUp
// fails, and the worker's check of the book against the stock stops it: a broken
// ledger is for a human and `firstcome audit`. What follows from the first fault
// is not said again.
func (f *Follower) fail(err error) {
	first := false
	f.move(func() {
		if first = f.broken == nil; first {
			f.broken = err
		}
	})
	if first {
		f.conn.log.Error("the ledger cannot be followed; run firstcome audit", "err", err)
	}
}

// line takes one republished message.
func (f *Follower) line(ctx context.Context, msg *nats.Msg) {
	seq, err := strconv.ParseUint(last(msg.Header, jetstream.SequenceHeader), 10, 64)
	at, timeErr := time.Parse(time.RFC3339Nano, last(msg.Header, jetstream.TimeStampHeaer))
	if err != nil || timeErr != nil {
		f.conn.log.Warn("a message on the line that the queue did not send", "subject", msg.Subject)
		return
	}
	switch next := f.at() + 1; {
	case f.epoch == "" || seq > next:
		f.fill(ctx, seq-1)
	case seq < next:
		if !at.After(f.newest) {
			return // read from the stream already
		}
		if renewed, err := f.renewed(ctx); err != nil || !renewed {
			return
		}
		f.fill(ctx, seq-1)
	}
	if f.at() != seq-1 {
		return // the gap could not be read; the next message or CatchUp tries again
	}
	f.expect(sale.ProductID(strings.TrimPrefix(msg.Subject, linePrefix)), seq, at, msg.Data)
	f.move(func() { f.ordersAt = seq })
}

func (f *Follower) expect(product sale.ProductID, seq uint64, at time.Time, data []byte) {
	m := &sale.Message{Product: product, Epoch: f.epoch, Seq: seq, StoredAt: at, Data: data}
	f.book.Expect(m, m.Lines())
	f.newest = at
}

// renewed begins the line again if the queue's stream is another one than before,
// and tells whether it is.
func (f *Follower) renewed(ctx context.Context) (bool, error) {
	info, err := f.orders.Info(ctx)
	if err != nil || epochOf(info) == f.epoch {
		return false, err
	}
	f.move(func() { f.epoch, f.ordersAt = epochOf(info), max(1, info.State.FirstSeq)-1 })
	f.newest = time.Time{}
	return true, nil
}

// wanted reads up to the sequence that somebody waits for.
func (f *Follower) wanted(ctx context.Context) {
	f.mu.Lock()
	epoch, to := f.endEpoch, f.ordersEnd
	f.mu.Unlock()
	if epoch != f.epoch {
		if _, err := f.renewed(ctx); err != nil || epoch != f.epoch {
			return // who waits asks again, and hears of the newer one
		}
	}
	f.fill(ctx, to)
}

// fill reads what stands in the queue up to sequence to. What is not there any
// more was settled, and is in the ledger or the dead letters.
func (f *Follower) fill(ctx context.Context, to uint64) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := f.read(ctx, to); err != nil && ctx.Err() == nil {
		f.conn.log.Warn("a gap in the line could not be read yet", "from", f.at()+1, "to", to, "err", err)
	}
}

func (f *Follower) read(ctx context.Context, to uint64) error {
	if f.epoch == "" {
		if _, err := f.renewed(ctx); err != nil {
			return err
		}
	}
	err := readStream(ctx, f.conn, ordersStream, f.at()+1, to, func(msg *storedMsg) {
		f.expect(sale.ProductID(strings.TrimPrefix(msg.Subject, ordersPrefix)), msg.Seq, msg.Time, msg.Data)
		f.move(func() { f.ordersAt = msg.Seq })
	})
	if err != nil {
		return err
	}
	f.move(func() { f.ordersAt = max(f.ordersAt, to) })
	return nil
}

// CatchUp returns when the book holds everything that was in the queue or decided
// at the time of the call, by the word of the leaders. Concurrent calls share the
// asking.
func (f *Follower) CatchUp(ctx context.Context) error { return f.catching.join(ctx) }

// catchUpTimeout bounds one round of CatchUp.
const catchUpTimeout = 2 * time.Second

// catchUp asks the queue first: an order that is not in it any more when its turn
// comes was decided before, and so is counted by the stock values read after.
func (f *Follower) catchUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), catchUpTimeout)
	defer cancel()
	orders, err := head(ctx, f.orders)
	if err != nil {
		return err
	}
	if err := f.await(ctx, epochOf(orders), orders.State.LastSeq); err != nil {
		return err
	}
	if err := f.shop.catchUp(ctx); err != nil {
		return err
	}
	return f.shop.tell(ctx, f.book, f.ledger)
}

// await waits until the line of that queue has been followed up to a sequence.
func (f *Follower) await(ctx context.Context, epoch string, orders uint64) error {
	for {
		f.mu.Lock()
		if f.broken != nil {
			defer f.mu.Unlock()
			return f.broken
		}
		if f.epoch == epoch && f.ordersAt >= orders {
			f.mu.Unlock()
			return nil
		}
		if f.endEpoch != epoch {
			f.endEpoch, f.ordersEnd = epoch, 0
		}
		f.ordersEnd = max(f.ordersEnd, orders)
		select {
		case f.want <- struct{}{}:
		default: // Run has one waiting and will see the new end
		}
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("the line is not up to date: %w", context.Cause(ctx))
		}
	}
}

func (f *Follower) at() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ordersAt
}

func (f *Follower) move(step func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	step()
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}
