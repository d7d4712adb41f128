package saletest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"firstcome/internal/sale"
)

// History implements sale.History. As in the real one, sequences rise across all
// products, and besides Append a value can be written by hand.
type History struct {
	mu        sync.Mutex
	newest    sale.Seq
	revisions map[sale.ProductID][]Revision
	deaf      bool
	changed   chan struct{} // closed at every change
}

// Revision is a stored value. An empty one is the marker of a deletion.
type Revision struct {
	Seq   sale.Seq
	Value []byte
}

// NewHistory makes an empty history.
func NewHistory() *History {
	return &History{revisions: map[sale.ProductID][]Revision{}, changed: make(chan struct{})}
}

// Append implements sale.History.
func (h *History) Append(ctx context.Context, product sale.ProductID, after sale.Seq, revision []byte) (sale.Seq, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if newest := h.last(product); newest != after {
		return 0, fmt.Errorf("append to %s after revision %d, the newest is %d: %w", product, after, newest, sale.ErrConflict)
	}
	return h.put(product, revision), nil
}

// Next implements sale.History.
func (h *History) Next(ctx context.Context, product sale.ProductID, after sale.Seq) (sale.Seq, []byte, error) {
	if err := ctx.Err(); err != nil {
		return 0, nil, err
	}
	if later, _ := h.after(product, after); len(later) > 0 {
		return later[0].Seq, later[0].Value, nil
	}
	return 0, nil, fmt.Errorf("%s after revision %d: %w", product, after, sale.ErrNotFound)
}

// Put stores a value by hand: after whatever there is.
func (h *History) Put(product sale.ProductID, value []byte) sale.Seq {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.put(product, value)
}

// Delete marks the product's key as deleted, by hand. The revisions stay.
func (h *History) Delete(product sale.ProductID) sale.Seq { return h.Put(product, nil) }

// Revert stores the value of an earlier revision again, by hand.
func (h *History) Revert(product sale.ProductID, to sale.Seq) sale.Seq {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := slices.IndexFunc(h.revisions[product], func(r Revision) bool { return r.Seq == to })
	return h.put(product, h.revisions[product][at].Value)
}

// Revisions are all of the product's, in order.
func (h *History) Revisions(product sale.ProductID) []Revision {
	all, _ := h.after(product, 0)
	return all
}

// SetDeaf makes the feeds hear nothing, or again what they missed and what comes.
func (h *History) SetDeaf(deaf bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deaf = deaf
	h.wake()
}

// Feed applies the product's revisions to a book, those there are and those to come,
// until ctx ends or the book takes no more.
func (h *History) Feed(ctx context.Context, product sale.ProductID, book *sale.Book) error {
	for {
		_, seen := book.Head(product)
		later, changed := h.after(product, seen)
		for _, r := range later {
			if h.isDeaf() {
				break
			}
			if err := book.Apply(product, r.Seq, r.Value); err != nil {
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

func (h *History) isDeaf() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.deaf
}

// after are the product's revisions after one, and what is closed when there are more.
func (h *History) after(product sale.ProductID, seq sale.Seq) ([]Revision, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.revisions[product]
	from, _ := slices.BinarySearchFunc(all, seq+1, func(r Revision, seq sale.Seq) int { return int(r.Seq) - int(seq) })
	later := slices.Clone(all[from:])
	for i := range later {
		later[i].Value = slices.Clone(later[i].Value)
	}
	return later, h.changed
}

func (h *History) last(product sale.ProductID) sale.Seq {
	if all := h.revisions[product]; len(all) > 0 {
		return all[len(all)-1].Seq
	}
	return 0
}

func (h *History) put(product sale.ProductID, value []byte) sale.Seq {
	h.newest++
	h.revisions[product] = append(h.revisions[product], Revision{h.newest, slices.Clone(value)})
	h.wake()
	return h.newest
}

func (h *History) wake() {
	close(h.changed)
	h.changed = make(chan struct{})
}
