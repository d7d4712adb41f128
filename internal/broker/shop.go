package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// Shop is the newest stock value of every product that this instance has heard
// of: what the door and the readers go by. It may lag behind the bucket by a
// moment, which the decision itself does not.
type Shop struct {
	watch  jetstream.ConsumeContext
	end    sync.Once // ends it
	stream jetstream.Stream
	nc     *nats.Conn // of the stream
	log    *slog.Logger
	seen   chan struct{} // closed when all was heard that was there at the beginning
	see    sync.Once     // closes it

	mu      sync.RWMutex
	items   map[sale.ProductID]item
	at      uint64        // revision heard last
	changed chan struct{} // closed at the next one, if anyone waits
	onNew   func(sale.ProductID)
}

type item struct {
	stock sale.Stock // without its last entry
	value []byte     // whole, as stored
	at    uint64     // its revision
}

// OpenShop watches the bucket, and returns when it has seen every value that was
// there. Close ends the watch.
//
// It is not the client's own watch on a bucket, which takes 10 to 20 s to notice
// that its broker was lost.
func OpenShop(ctx context.Context, c *Conn) (*Shop, error) {
	stream, err := c.feed.Stream(ctx, stockStream)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", stockBucket, err)
	}
	consumer, err := c.feed.OrderedConsumer(ctx, stockStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{stockPrefix + ">"}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy})
	if err != nil {
		return nil, fmt.Errorf("watch bucket %s: %w", stockBucket, err)
	}
	s := &Shop{stream: stream, nc: c.broadcast, log: c.log, items: map[sale.ProductID]item{}, seen: make(chan struct{})}
	if consumer.CachedInfo().NumPending == 0 {
		s.see.Do(func() { close(s.seen) })
	}
	s.watch, err = consumer.Consume(s.heard, jetstream.PullExpiry(pullExpiry), jetstream.PullHeartbeat(pullExpiry/3),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			s.log.Debug("the watch on the stock was interrupted and goes on", "err", err)
		}))
	if err != nil {
		return nil, fmt.Errorf("watch bucket %s: %w", stockBucket, err)
	}
	select {
	case <-s.seen:
		return s, nil
	case <-ctx.Done():
		s.Close()
		return nil, fmt.Errorf("read bucket %s: %w", stockBucket, context.Cause(ctx))
	}
}

// heard takes what the watch brings.
func (s *Shop) heard(msg jetstream.Msg) {
	meta, err := msg.Metadata()
	if err != nil {
		s.log.Error("a message on the watch of the stock without a sequence", "subject", msg.Subject(), "err", err)
		return
	}
	s.take(msg.Subject(), msg.Headers(), msg.Data(), meta.Sequence.Stream)
	if meta.NumPending == 0 {
		s.see.Do(func() { close(s.seen) })
	}
}

// take notes a value, unless a newer one of the product was read already.
func (s *Shop) take(subject string, header nats.Header, value []byte, revision uint64) {
	var stock sale.Stock
	err := errDeleted
	if header.Get("KV-Operation") == "" { // a marker otherwise
		stock, err = sale.PeekStock(value)
	}
	if err != nil {
		s.log.Error("a stock value is broken; run firstcome audit", "product", strings.TrimPrefix(subject, stockPrefix), "err", err)
	}
	s.mu.Lock()
	var onNew func(sale.ProductID)
	if have, known := s.items[stock.Product]; err == nil && revision > have.at {
		if !known {
			onNew = s.onNew
		}
		s.items[stock.Product] = item{stock, value, revision}
	}
	s.at = max(s.at, revision)
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	s.mu.Unlock()
	if onNew != nil {
		onNew(stock.Product)
	}
}

var errDeleted = errors.New("it was deleted")

// OnNew has f called once for every product, those there already included. It may
// be set once; f must not block.
func (s *Shop) OnNew(f func(sale.ProductID)) {
	s.mu.Lock()
	s.onNew = f
	there := slices.Collect(maps.Keys(s.items))
	s.mu.Unlock()
	for _, p := range there {
		f(p)
	}
}

// Entries is how many ledger entries the product's stock value counts.
func (s *Shop) Entries(product sale.ProductID) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.items[product].stock.Entries
}

// watchLag is how long the watch may be behind before the bucket is read instead:
// a lost broker is noticed after two heartbeats.
const watchLag = 250 * time.Millisecond

// catchUp returns when the shop has heard all that the bucket held at the time of
// the call, by the word of its leader.
func (s *Shop) catchUp(ctx context.Context) error {
	info, err := head(ctx, s.stream)
	if err != nil {
		return err
	}
	late := time.NewTimer(watchLag)
	defer late.Stop()
	for {
		s.mu.Lock()
		if s.at >= info.State.LastSeq {
			s.mu.Unlock()
			return nil
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-late.C:
			if err := s.read(ctx, info.State.LastSeq); err != nil {
				return fmt.Errorf("the stock is not up to date: %w", err)
			}
		case <-ctx.Done():
			return fmt.Errorf("the stock is not up to date: %w", context.Cause(ctx))
		}
	}
}

// read takes from the bucket's leader what the watch has not brought up to a
// revision: 64 values of a product at most.
func (s *Shop) read(ctx context.Context, to uint64) error {
	for {
		s.mu.RLock()
		next := s.at + 1
		s.mu.RUnlock()
		if next > to {
			return nil
		}
		msg, err := nextFromLeader(ctx, s.nc, stockStream, next)
		if err != nil {
			return err
		}
		s.take(msg.Subject, msg.header, msg.Data, msg.Seq)
	}
}

// tell brings the book up to what the stock values say was decided. A last entry
// that the ledger does not have yet is in the value itself.
func (s *Shop) tell(ctx context.Context, book *sale.Book, ledger *Ledger) error {
	s.mu.RLock()
	items := maps.Clone(s.items)
	s.mu.RUnlock()
	for p, it := range items {
		n := it.stock.Entries
		if book.Entries(p) >= n {
			continue
		}
		if err := book.Reach(ctx, ledger, p, n-1); err != nil {
			return err
		}
		stock, err := sale.DecodeStock(it.value)
		if err != nil {
			return err
		}
		if stock.Last != nil {
			if err := book.Apply(stock.Entry()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Product is the product's stock, false if nobody sells it.
func (s *Shop) Product(id sale.ProductID) (sale.Stock, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	it, ok := s.items[id]
	return it.stock, ok
}

// Only is the product's stock if there is exactly one product.
func (s *Shop) Only() (sale.Stock, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.items) == 1 {
		for _, it := range s.items {
			return it.stock, true
		}
	}
	return sale.Stock{}, false
}

// Products are all stocks, by id.
func (s *Shop) Products() []sale.Stock {
	s.mu.RLock()
	stocks := make([]sale.Stock, 0, len(s.items))
	for _, it := range s.items {
		stocks = append(stocks, it.stock)
	}
	s.mu.RUnlock()
	slices.SortFunc(stocks, func(a, b sale.Stock) int { return strings.Compare(string(a.Product), string(b.Product)) })
	return stocks
}

// Close ends the watch and waits for its end. Safe to call twice.
func (s *Shop) Close() {
	s.end.Do(func() {
		s.watch.Stop()
		<-s.watch.Closed()
	})
}

// WatchStock calls f with every stock value that is there, and with every later
// one, until ctx ends or f fails.
func WatchStock(ctx context.Context, c *Conn, f func(sale.Stock) error) error {
	kv, err := c.feed.KeyValue(ctx, stockBucket)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", stockBucket, err)
	}
	watcher, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", stockBucket, err)
	}
	defer func() { _ = watcher.Stop() }() // fails only if the connection is gone
	for {
		select {
		case <-ctx.Done():
			return nil
		case entry, ok := <-watcher.Updates():
			if !ok {
				return fmt.Errorf("watch bucket %s: it ended", stockBucket)
			}
			if entry == nil {
				continue
			}
			stock, err := sale.PeekStock(entry.Value())
			if err == nil {
				err = f(stock)
			}
			if err != nil {
				return err
			}
		}
	}
}
