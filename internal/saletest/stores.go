package saletest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"firstcome/internal/sale"
)

// Stocks implements sale.Stocks. As in the real one, versions rise across all
// products, so a version of one product never names a value of another.
type Stocks struct {
	mu       sync.Mutex
	values   map[sale.ProductID][]byte
	versions map[sale.ProductID]sale.Version
	newest   sale.Version
}

// NewStocks makes an empty store.
func NewStocks() *Stocks {
	return &Stocks{values: map[sale.ProductID][]byte{}, versions: map[sale.ProductID]sale.Version{}}
}

// Seed stores a value whatever is there.
func (s *Stocks) Seed(stock sale.Stock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(&stock)
}

func (s *Stocks) put(stock *sale.Stock) sale.Version {
	s.newest++
	s.values[stock.Product], s.versions[stock.Product] = stock.Encode(), s.newest
	return s.newest
}

// Raw is the value as it is stored, nil if there is none.
func (s *Stocks) Raw(product sale.ProductID) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.values[product])
}

// Load implements sale.Stocks.
func (s *Stocks) Load(ctx context.Context, product sale.ProductID) (sale.Stock, sale.Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return sale.Stock{}, 0, err
	}
	value, ok := s.values[product]
	if !ok {
		return sale.Stock{}, 0, fmt.Errorf("stock of %s: %w", product, sale.ErrNotFound)
	}
	stock, err := sale.DecodeStock(value)
	return stock, s.versions[product], err
}

// Replace implements sale.Stocks.
func (s *Stocks) Replace(ctx context.Context, old sale.Version, next *sale.Stock) (sale.Version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if s.versions[next.Product] != old {
		return 0, fmt.Errorf("stock of %s: %w", next.Product, sale.ErrConflict)
	}
	return s.put(next), nil
}

// Ledger implements sale.Ledger.
type Ledger struct {
	mu      sync.Mutex
	entries map[sale.ProductID]map[uint64][]byte
	changed chan struct{} // closed at every append
}

// NewLedger makes an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{entries: map[sale.ProductID]map[uint64][]byte{}, changed: make(chan struct{})}
}

// Append implements sale.Ledger.
func (l *Ledger) Append(ctx context.Context, product sale.ProductID, n uint64, entry []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, taken := l.entries[product][n]; taken {
		return fmt.Errorf("entry %d of %s: %w", n, product, sale.ErrEntryTaken)
	}
	if l.entries[product] == nil {
		l.entries[product] = map[uint64][]byte{}
	}
	l.entries[product][n] = slices.Clone(entry)
	close(l.changed)
	l.changed = make(chan struct{})
	return nil
}

// Entry implements sale.Ledger.
func (l *Ledger) Entry(ctx context.Context, product sale.ProductID, n uint64) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entry, ok := l.entries[product][n]
	if !ok {
		return nil, fmt.Errorf("entry %d of %s: %w", n, product, sale.ErrNotFound)
	}
	return slices.Clone(entry), nil
}

// Entries are the product's entries from 1 on, up to the first one missing.
func (l *Ledger) Entries(product sale.ProductID) [][]byte {
	entries, _ := l.from(product, 1)
	return entries
}

// Reached waits until the ledger has the product's first n entries.
func (l *Ledger) Reached(ctx context.Context, product sale.ProductID, n uint64) error {
	for {
		entries, changed := l.from(product, 1)
		if uint64(len(entries)) >= n {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the ledger has %d of %d entries: %w", len(entries), n, ctx.Err())
		case <-changed:
		}
	}
}

func (l *Ledger) from(product sale.ProductID, n uint64) ([][]byte, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var entries [][]byte
	for ; l.entries[product][n] != nil; n++ {
		entries = append(entries, slices.Clone(l.entries[product][n]))
	}
	return entries, l.changed
}

// Feed applies the product's entries to a book, those there are and those to
// come, until ctx ends. It fails only on an entry that cannot be read or applied.
func (l *Ledger) Feed(ctx context.Context, product sale.ProductID, book *sale.Book) error {
	for {
		entries, changed := l.from(product, book.Entries(product)+1)
		for _, data := range entries {
			e, err := sale.DecodeEntry(data)
			if err != nil {
				return err
			}
			if err := book.Apply(e); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// DeadLetters implements sale.DeadLetters.
type DeadLetters struct {
	mu      sync.Mutex
	letters []sale.DeadLetter
	buried  map[string]struct{}
}

// NewDeadLetters makes an empty store.
func NewDeadLetters() *DeadLetters { return &DeadLetters{buried: map[string]struct{}{}} }

// Bury implements sale.DeadLetters.
func (d *DeadLetters) Bury(ctx context.Context, letter sale.DeadLetter) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	id := fmt.Sprintf("%s-%d-%d", letter.Epoch, letter.Seq, letter.Line)
	if _, again := d.buried[id]; again {
		return nil
	}
	d.buried[id] = struct{}{}
	letter.Raw = slices.Clone(letter.Raw)
	d.letters = append(d.letters, letter)
	return nil
}

// Letters are those buried, in order.
func (d *DeadLetters) Letters() []sale.DeadLetter {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.letters)
}

// Announcer implements sale.Announcer by remembering.
type Announcer struct {
	mu       sync.Mutex
	statuses []sale.Status
}

// Announce implements sale.Announcer.
func (a *Announcer) Announce(statuses []sale.Status) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.statuses = append(a.statuses, statuses...)
	return nil
}

// Heard are all statuses announced so far, in order, repeated ones too.
func (a *Announcer) Heard() []sale.Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.statuses)
}
