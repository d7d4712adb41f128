package broker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// Shop is the newest stock value of every product that this instance has heard
// of: what the door and the readers go by. It may lag behind the bucket by a
// moment, which the decision itself does not.
type Shop struct {
	watcher jetstream.KeyWatcher
	log     *slog.Logger
	done    chan struct{}

	mu     sync.RWMutex
	stocks map[sale.ProductID]sale.Stock
	onNew  func(sale.ProductID)
}

// OpenShop watches the bucket, and returns when it has seen every value that was
// there. onNew is called once for each product, those of the start included; it
// must not block. Close ends the watch.
func OpenShop(ctx context.Context, c *Conn, onNew func(sale.ProductID)) (*Shop, error) {
	kv, err := c.feed.KeyValue(ctx, stockBucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", stockBucket, err)
	}
	// The watch outlives ctx, which bounds the opening only.
	watcher, err := kv.WatchAll(context.WithoutCancel(ctx), jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("watch bucket %s: %w", stockBucket, err)
	}
	s := &Shop{watcher: watcher, log: c.log, done: make(chan struct{}), stocks: map[sale.ProductID]sale.Stock{}, onNew: onNew}
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
		stock, err := sale.DecodeStock(entry.Value())
		if err != nil {
			s.log.Error("a stock value is broken; run firstcome audit", "product", entry.Key(), "err", err)
			continue
		}
		s.mu.Lock()
		_, known := s.stocks[stock.Product]
		s.stocks[stock.Product] = stock
		s.mu.Unlock()
		if !known && s.onNew != nil {
			s.onNew(stock.Product)
		}
	}
}

// Product is the product's stock, false if nobody sells it.
func (s *Shop) Product(id sale.ProductID) (sale.Stock, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	stock, ok := s.stocks[id]
	return stock, ok
}

// Products are all stocks, by id.
func (s *Shop) Products() []sale.Stock {
	s.mu.RLock()
	stocks := make([]sale.Stock, 0, len(s.stocks))
	for _, stock := range s.stocks {
		stocks = append(stocks, stock)
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
			stock, err := sale.DecodeStock(entry.Value())
			if err == nil {
				err = f(stock)
			}
			if err != nil {
				return err
			}
		}
	}
}
