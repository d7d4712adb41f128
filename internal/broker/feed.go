package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// Feed keeps an instance's book: it folds the history, and what waits in the queue.
//
//	KV_stock ── republished as ledger.<product> ──► follower ──► Book.Apply
//	ORDERS ──── republished as line.<subject> ────► follower ──► Book.Expect
//
// It needs no consumer. What a follower does not hear shows as a gap in the sequences
// and is read from the stream.
type Feed struct {
	conn     *Conn
	book     *sale.Book
	history  *follower
	queue    *follower
	catching shared
}

// feedBytes bounds what may wait for the book on each of the two subscriptions. When it
// is full the client drops, and the gap is read from the stream.
const feedBytes = 64 << 20

// OpenFeed listens to both streams, which must exist. The book is built by the first
// CatchUp that succeeds. Close ends it.
func OpenFeed(ctx context.Context, c *Conn, book *sale.Book) (*Feed, error) {
	f := &Feed{conn: c, book: book}
	f.history = &follower{conn: c, stream: stockStream, subject: ledgerPrefix + "*", identity: metaStore, take: f.revision}
	f.queue = &follower{conn: c, stream: ordersStream, subject: linePrefix + ">", identity: metaEpoch, take: f.message, renewed: book.Renew}
	f.catching.run = f.catchUp
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	for _, one := range []*follower{f.history, f.queue} {
		if err := one.open(ctx); err != nil {
			f.Close()
			return nil, err
		}
	}
	return f, nil
}

// Mark has the mark follow the queue's epoch, which a repair renews. It must be called
// before the first CatchUp.
func (f *Feed) Mark(m *QueueMark) {
	f.queue.mu.Lock()
	defer f.queue.mu.Unlock()
	f.queue.renewed = func(epoch string) {
		f.book.Renew(epoch)
		m.Renew(epoch)
	}
}

// Close ends the feed and waits for its end. Safe to call twice.
func (f *Feed) Close() {
	f.catching.close()
	f.history.close()
	f.queue.close()
}

// revision folds one value of the bucket.
func (f *Feed) revision(_ string, msg *storedMsg) {
	product, err := sale.ParseProductID(strings.TrimPrefix(msg.Subject, stockPrefix))
	if err != nil {
		return // a key that no product can have
	}
	stopped := f.book.Stopped(product) // the values after it say the same again
	if err := f.book.Apply(product, sale.Seq(msg.Seq), msg.Data); err != nil && stopped == nil {
		f.conn.log.Error("the product is not followed any more", "product", product, "err", err)
	}
}

// message notes one message of the queue.
func (f *Feed) message(epoch string, msg *storedMsg) {
	product, desk, ok := queueSubject(msg.Subject)
	if !ok {
		return // a subject that no product has
	}
	m := &sale.Message{Product: product, Desk: desk, Epoch: epoch, Seq: msg.Seq, StoredAt: msg.Time, Data: msg.Data}
	f.book.Expect(m, m.Lines())
}

// CatchUp returns when the book holds everything that was in the queue or decided
// at the time of the call, by the word of the leaders. Concurrent calls share the
// asking.
func (f *Feed) CatchUp(ctx context.Context) error { return f.catching.join(ctx) }

// catchUpTimeout bounds one round of CatchUp. What a round has read stays read, so that
// rounds build a book of any size.
const catchUpTimeout = 2 * time.Second

// catchUp reads the history before the queue: the book keeps a buyer's orders in the
// order in which it hears of them. A message that is gone from the queue when its turn
// comes was decided before, but perhaps after the history was asked, which is then asked
// again.
func (f *Feed) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	before := f.queue.missed()
	queue, err := f.queue.end(ctx)
	if err != nil {
		return err
	}
	if err := f.history.reachEnd(ctx); err != nil {
		return err
	}
	if err := f.queue.reach(ctx, queue); err != nil {
		return err
	}
	if f.queue.missed() == before {
		return nil
	}
	return f.history.reachEnd(ctx)
}

// follower hears every message of a stream once and in sequence, by its republished
// copies.
type follower struct {
	conn     *Conn
	stream   string
	subject  string                        // of the copies
	identity string                        // metadata that tells this stream from another of its name
	take     func(id string, m *storedMsg) // called in sequence, under mu
	renewed  func(id string)               // called before the first message of a stream; nil: it may not change

	handle jetstream.Stream
	sub    *nats.Subscription
	closed chan struct{} // when no copy is being handled any more
	warned time.Time     // of hear

	mu      sync.Mutex
	id      string    // of the stream that at counts; "": none was read yet
	at      uint64    // every message up to it was taken, or is gone
	newest  time.Time // when the last one taken was stored
	gone    uint64    // how often something was gone when it was to be read
	changed chan struct{}
}

// end is where a stream ended when it was asked.
type end struct {
	id          string
	first, last uint64
	deleted     int // messages between them
}

func (f *follower) open(ctx context.Context) (err error) {
	if f.handle, err = f.conn.feed.Stream(ctx, f.stream); err != nil {
		return fmt.Errorf("stream %s: %w", f.stream, err)
	}
	f.closed = make(chan struct{})
	if f.sub, err = f.conn.broadcast.Subscribe(f.subject, f.hear); err != nil {
		return fmt.Errorf("follow %s: %w", f.stream, err)
	}
	f.sub.SetClosedHandler(func(string) { close(f.closed) })
	if err = f.sub.SetPendingLimits(-1, feedBytes); err == nil {
		err = f.conn.broadcast.FlushWithContext(ctx) // the server has it: nothing from now on is missed
	}
	if err != nil {
		return fmt.Errorf("follow %s: %w", f.stream, err)
	}
	return nil
}

func (f *follower) close() {
	if f.sub == nil {
		return
	}
	if err := f.sub.Unsubscribe(); err != nil && !errors.Is(err, nats.ErrBadSubscription) && !errors.Is(err, nats.ErrConnectionClosed) {
		f.conn.log.Debug("a feed did not end", "stream", f.stream, "err", err)
		return
	}
	<-f.closed
}

// hear takes one copy. The server's own headers are the last of their name.
func (f *follower) hear(msg *nats.Msg) {
	seq, err := strconv.ParseUint(last(msg.Header, jetstream.SequenceHeader), 10, 64)
	at, timeErr := time.Parse(time.RFC3339Nano, last(msg.Header, jetstream.TimeStampHeaer))
	if err != nil || timeErr != nil || last(msg.Header, jetstream.StreamHeader) != f.stream {
		if time.Since(f.warned) > time.Minute {
			f.warned = time.Now()
			f.conn.log.Warn("messages that the stream did not send", "stream", f.stream, "subject", f.subject)
		}
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.id == "" {
		return // before the first CatchUp, which reads it
	}
	if seq <= f.at && !at.After(f.newest) {
		return // read from the stream already
	}
	ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
	defer cancel()
	if seq != f.at+1 {
		// A gap, or a stream that was made anew and counts from 1 again.
		now, err := f.end(ctx)
		if err == nil {
			err = f.fill(ctx, now)
		}
		if err != nil {
			f.conn.log.Debug("a gap could not be read yet", "stream", f.stream, "after", f.at, "to", seq, "err", err)
		}
		return
	}
	f.accept(&storedMsg{Subject: last(msg.Header, jetstream.SubjectHeader), Seq: seq, Data: msg.Data, Time: at, header: msg.Header})
	f.moved()
}

func (f *follower) accept(msg *storedMsg) {
	f.take(f.id, msg)
	f.at, f.newest = msg.Seq, msg.Time
}

func (f *follower) moved() {
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// end asks the leader.
func (f *follower) end(ctx context.Context) (end, error) {
	info, err := head(ctx, f.handle)
	if err != nil {
		return end{}, err
	}
	id := info.Config.Metadata[f.identity]
	if id == "" {
		return end{}, fmt.Errorf("stream %s %w: metadata %s is missing", f.stream, ErrDrift, f.identity)
	}
	return end{id: id, first: max(1, info.State.FirstSeq), last: info.State.LastSeq, deleted: info.State.NumDeleted}, nil
}

// feedLag is how long the copies may be behind before the stream itself is read: a lost
// broker is noticed after two heartbeats.
const feedLag = 250 * time.Millisecond

// missed is a number that is another one whenever messages were gone when they were to
// be read.
func (f *follower) missed() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gone
}

func (f *follower) reachEnd(ctx context.Context) error {
	now, err := f.end(ctx)
	if err != nil {
		return err
	}
	return f.reach(ctx, now)
}

// reach returns when everything up to to was taken. It gives the copies a moment to
// arrive, then reads.
func (f *follower) reach(ctx context.Context, to end) error {
	late := time.NewTimer(feedLag)
	defer late.Stop()
	for {
		f.mu.Lock()
		if f.id == to.id && f.at >= to.last {
			f.mu.Unlock()
			return nil
		}
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed, building := f.changed, f.id != to.id
		f.mu.Unlock()
		if !building {
			select {
			case <-changed:
				continue
			case <-late.C:
			case <-ctx.Done():
				return fmt.Errorf("%s is not followed to its end: %w", f.stream, context.Cause(ctx))
			}
		}
		f.mu.Lock()
		err := f.fill(ctx, to)
		f.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

// fill reads from the stream what was not heard up to to. Of the queue, what is not
// there any more was settled, and is in the history.
func (f *follower) fill(ctx context.Context, to end) error {
	if f.id != to.id {
		if f.id != "" && f.renewed == nil {
			return fmt.Errorf("bucket %s %w: it was replaced while this instance runs; restart it", stockBucket, ErrDrift)
		}
		f.id, f.at, f.newest = to.id, 0, time.Time{}
		if f.renewed != nil {
			f.renewed(to.id)
			f.at = to.first - 1 // what was before is settled
			f.gone++
		}
	}
	defer f.moved()
	missing := false
	err := readStream(ctx, f.conn, f.stream, f.at+1, to.last, func(msg *storedMsg) {
		if msg.Seq != f.at+1 {
			missing = true
			f.gone++
		}
		if !missing || f.stream == ordersStream {
			f.accept(msg)
		}
	})
	if err != nil {
		return err
	}
	switch {
	case f.stream == ordersStream:
		if f.at < to.last {
			f.at = to.last
			f.gone++
		}
	case missing || to.first > f.at+1 || f.at < to.last && to.deleted > 0:
		return fmt.Errorf("bucket %s: %w: revision %d is missing", stockBucket, ErrCut, f.at+1)
	case f.at < to.last:
		return fmt.Errorf("bucket %s: revision %d cannot be read yet", stockBucket, f.at+1)
	}
	return nil
}

// LogForeign warns of values in the bucket that are no links, once a minute at most.
func LogForeign(log *slog.Logger) func(sale.ProductID, sale.Seq, error) {
	var mu sync.Mutex
	var said time.Time
	return func(product sale.ProductID, revision sale.Seq, err error) {
		mu.Lock()
		again := time.Since(said) < time.Minute
		if !again {
			said = time.Now()
		}
		mu.Unlock()
		if !again {
			log.Warn("a value that firstcome did not write is in the bucket; it is passed over", "product", product, "revision", revision, "err", err)
		}
	}
}
