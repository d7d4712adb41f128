package sale

import (
	"encoding/json"
	"fmt"
	"slices"
)

// readStock reads a stock value that may break any rule.
func (a *Audit) readStock(value []byte) {
	if value == nil {
		return
	}
	var s Stock
	if err := json.Unmarshal(value, &s); err != nil {
		a.add("P8", "the stock value cannot be read: %v", err)
		return
	}
	a.stock = &s
	a.summary.Available, a.summary.Supplied = s.Available, s.Supplied
	if s.Product != a.product {
		a.add("P8", "the stock value is one of %q", s.Product)
	}
	if s.Supplied < 0 || s.Supplied > MaxUnits || s.Sold < 0 || s.Sold > MaxUnits {
		a.add("P8", "the stock value's figures are out of range: sold %d, supplied %d", s.Sold, s.Supplied)
	}
	switch sum := s.Available + s.Sold; {
	case s.Available < 0:
		a.add("P1", "the stock value has %d units left", s.Available)
	case sum > s.Supplied:
		a.add("P1", "the stock value has %d units left and %d sold, of %d supplied", s.Available, s.Sold, s.Supplied)
	case sum < s.Supplied:
		a.add("P8", "the stock value has %d units left and %d sold, of %d supplied", s.Available, s.Sold, s.Supplied)
	}
}

// compareStock checks that the history explains the stock value (P8).
func (a *Audit) compareStock() {
	s := a.stock
	switch {
	case s == nil:
		if a.n > 0 {
			a.add("P8", "there is no stock value that could be compared with the ledger's %d entries", a.n)
		}
	case s.Last == nil:
		if a.n > 0 || s.Entries > 0 || s.Sold != 0 || s.Decided != 0 || s.LedgerHead != "" {
			a.add("P8", "the stock value says that nothing was decided yet, beside entries %d, sold %d, decided %d; the ledger has %d entries",
				s.Entries, s.Sold, s.Decided, a.n)
		}
	case s.Entries != a.n:
		a.add("P8", "the stock value counts %d entries, the ledger has %d", s.Entries, a.n)
	default:
		a.compareLast(s.Last)
		a.compareSold(a.summary.UnitsSold)
	}
}

// compareLast checks the stock value against the ledger's last entry.
func (a *Audit) compareLast(last *Last) {
	if a.stock.LedgerHead != a.hash {
		a.add("P8", "the stock value's ledger_head is %q, the last entry's hash %q", a.stock.LedgerHead, a.hash)
	}
	if !a.figures {
		return // the last entry could not be read, which was said already
	}
	h, own := a.head, last.Head
	if !h.DecidedAt.Equal(own.DecidedAt) {
		a.add("P8", "the stock value dates entry %d at %v, the ledger at %v", h.N, own.DecidedAt, h.DecidedAt)
	}
	h.DecidedAt = own.DecidedAt
	if h != own {
		a.add("P8", "the stock value's last is %s, the ledger's last entry %s", headline(&own), headline(&h))
	}
	// The next worker writes what the value carries, unless the ledger has it.
	if carried := hashEntry(a.stock.Entry().Encode()); carried != a.hash {
		a.add("P8", "the stock value carries an entry %d with the hash %q, the ledger's has %q", last.N, carried, a.hash)
	}
	a.compareOutcomes(last)
	a.compareRestock(last)
}

func headline(h *Head) string {
	return fmt.Sprintf("entry %d of message %d in %s: supplied %d, available %d, decided %d, prev %q",
		h.N, h.Seq, h.Epoch, h.Supplied, h.Available, h.Decided, h.Prev)
}

// compareOutcomes checks the frozen outcomes, one per line, against the last
// entry's, which has no dead lines.
func (a *Audit) compareOutcomes(last *Last) {
	alive := make([]Outcome, 0, len(last.Outcomes))
	for _, o := range last.Outcomes {
		if o != Dead {
			alive = append(alive, o)
		}
	}
	if !slices.Equal(alive, a.last) {
		a.add("P4", "the stock value's outcomes are not those of entry %d", a.n)
	}
}

// compareRestock checks that what changed since the last decision is supply only.
func (a *Audit) compareRestock(last *Last) {
	s := a.stock
	if s.Supplied-last.Supplied != s.Available-last.Available {
		a.add("P8", "since entry %d the supply changed by %d units and the stock by %d",
			last.N, s.Supplied-last.Supplied, s.Available-last.Available)
	}
	if s.Decided != last.Decided {
		a.add("P8", "the stock value counts %d decided orders, its last entry %d", s.Decided, last.Decided)
	}
}

func (a *Audit) compareSold(units int64) {
	if a.stock.Sold != units && !a.blind {
		a.add("P1", "the stock value counts %d units sold, the ledger accepted %d", a.stock.Sold, units)
	}
}
