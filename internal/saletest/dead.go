package saletest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"firstcome/internal/sale"
)

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
