package saletest

import (
	"slices"
	"sync"

	"firstcome/internal/sale"
)

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
