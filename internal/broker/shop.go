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
	watcher jetstream.KeyWatcher
	unwatch context.CancelFunc // ends what the watcher leaves behind
	stream  jetstream.Stream
	nc      *nats.Conn // of the stream
	log     *slog.Logger
	done    chan struct{}

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
func OpenShop(ctx context.Context, c *Conn) (*Shop, error) {
	kv, err := c.feed.KeyValue(ctx, stockBucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", stockBucket, err)
	}
	stream, err := c.feed.Stream(ctx, stockStream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", stockStream, err)
	}
	// The watch outlives ctx, which bounds the opening only.
	watching, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	watcher, err := kv.WatchAll(watching)
	if err != nil {
		unwatch()
		return nil, fmt.Errorf("watch bucket %s: %w", stockBucket, err)
	}
	s := &Shop{watcher: watcher, unwatch: unwatch, stream: stream, nc: c.broadcast, log: c.log, done: make(chan struct{}),
		items: map[sale.ProductID]item{}}
	seen := make(chan struct{})
	go s.follow(seen)
	select {
	case <-seen:
		return s, nil
	case <-ctx.Done():
		s.Close()
		return nil, fmt.Errorf("read bucket %s: %w", stockBucket, context.Cause(ctx))
	}
}

func (s *Shop) follow(seen chan struct{}) {
	defer close(s.done)
	for entry := range s.watcher.Updates() {
		if entry == nil { // all that was there at the start
			close(seen)
			continue
		}
		s.take(entry.Key(), entry.Operation() == jetstream.KeyValuePut, entry.Value(), entry.Revision())
	}
}

// take notes a value, unless a newer one of the product was read already.
func (s *Shop) take(key string, put bool, value []byte, revision uint64) {
	var stock sale.Stock
	err := errDeleted
	if put {
		stock, err = sale.PeekStock(value)
	}
	if err != nil {
		s.log.Error("a stock value is broken; run firstcome audit", "product", key, "err", err)
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

// watchLag is how long the watch may be behind before the bucket is read instead.
// A watch whose broker was lost comes back after 10 to 20 s only.
const watchLag = 250 * time.Millisecond

// catchUp returns when the shop has heard all that the bucket held at the time of
// the call, by the word of its leader.
func (s *Shop) catchUp(ctx context.Context) error {
	info, err := s.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("head of %s: %w", stockStream, err)
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
		s.take(strings.TrimPrefix(msg.Subject, stockPrefix), msg.header.Get("KV-Operation") == "", msg.Data, msg.Seq)
	}
}

// tell brings the book up to what the stock values say was decided. A last entry
// that the ledger does not have yet is in the value itself.
func (s *Shop) tell(ctx context.Context, book *sale.Book) error {
	s.mu.RLock()
	items := maps.Clone(s.items)
	s.mu.RUnlock()
	for p, it := range items {
		n := it.stock.Entries
		if book.Entries(p) >= n {
			continue
		}
		if err := book.AwaitEntries(ctx, p, n-1); err != nil {
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

// Close ends the watch. Safe to call twice.
func (s *Shop) Close() {
	if err := s.watcher.Stop(); err != nil {
		s.log.Debug("the watch on the stock ended", "err", err)
	}
	s.unwatch()
	<-s.done
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
