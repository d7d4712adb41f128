package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// Stocks implements sale.Stocks with the KV bucket "stock".
type Stocks struct {
	kv jetstream.KeyValue
}

// OpenStocks binds to the bucket, which must exist.
func OpenStocks(ctx context.Context, c *Conn) (*Stocks, error) {
	kv, err := c.js.KeyValue(ctx, stockBucket)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", stockBucket, err)
	}
	return &Stocks{kv: kv}, nil
}

// Load implements sale.Stocks. The bucket's stream forbids direct gets, so the
// leader answers.
func (s *Stocks) Load(ctx context.Context, product sale.ProductID) (sale.Stock, sale.Version, error) {
	entry, err := s.kv.Get(ctx, string(product))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return sale.Stock{}, 0, fmt.Errorf("stock of %s: %w", product, sale.ErrNotFound)
	}
	if err != nil {
		return sale.Stock{}, 0, fmt.Errorf("stock of %s: %w", product, err)
	}
	stock, err := sale.DecodeStock(entry.Value())
	return stock, sale.Version(entry.Revision()), err
}

// Replace implements sale.Stocks.
func (s *Stocks) Replace(ctx context.Context, old sale.Version, next *sale.Stock) (sale.Version, error) {
	revision, err := s.kv.Update(ctx, string(next.Product), next.Encode(), uint64(old))
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return 0, fmt.Errorf("stock of %s: %w", next.Product, sale.ErrConflict)
	}
	if err != nil {
		return 0, fmt.Errorf("stock of %s: %w", next.Product, err)
	}
	return sale.Version(revision), nil
}

// Create stores the first value of a product, and leaves one that exists alone.
func (s *Stocks) Create(ctx context.Context, stock sale.Stock) error {
	_, err := s.kv.Create(ctx, string(stock.Product), stock.Encode())
	if err != nil && !errors.Is(err, jetstream.ErrKeyExists) && !errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return fmt.Errorf("create the stock of %s: %w", stock.Product, err)
	}
	return nil
}

// Change replaces the product's stock by what change makes of it, and tries again
// with the newer value whenever somebody else was first. It returns what is stored
// now. An error of change ends it and is returned as it is.
func (s *Stocks) Change(ctx context.Context, product sale.ProductID, change func(sale.Stock) (sale.Stock, error)) (sale.Stock, error) {
	for {
		stock, version, err := s.Load(ctx, product)
		if err != nil {
			return stock, err
		}
		next, err := change(stock)
		if err != nil {
			return stock, err
		}
		if _, err = s.Replace(ctx, version, &next); err == nil {
			return next, nil
		}
		if !errors.Is(err, sale.ErrConflict) {
			return stock, err
		}
	}
}

// Products lists the products that have a stock.
func (s *Stocks) Products(ctx context.Context) ([]sale.ProductID, error) {
	keys, err := s.kv.ListKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the stock: %w", err)
	}
	defer keys.Stop()
	var products []sale.ProductID
	for key := range keys.Keys() {
		if p, err := sale.ParseProductID(key); err == nil {
			products = append(products, p)
		}
	}
	if ctx.Err() != nil { // the list ends with it, without a word
		return nil, fmt.Errorf("list the stock: %w", context.Cause(ctx))
	}
	return products, nil
}

// Raw is the stored value as it is, for the audit, which must be able to read
// what DecodeStock refuses. It wraps sale.ErrNotFound.
func (s *Stocks) Raw(ctx context.Context, product sale.ProductID) ([]byte, error) {
	entry, err := s.kv.Get(ctx, string(product))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, fmt.Errorf("stock of %s: %w", product, sale.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("stock of %s: %w", product, err)
	}
	return entry.Value(), nil
}
