package sale

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// load reads the stock value and brings book and ledger up to it. The entry that
// it carries may be missing from the ledger, if the worker that decided it died
// just then: writing it again is no harm, and its statuses may not have been
// heard, so they are broadcast again.
func (w *Worker) load(ctx context.Context) error {
	step, cancel := context.WithTimeout(ctx, w.StepTimeout)
	defer cancel()
	if err := w.flush(step); err != nil {
		w.report("an entry was not written at the first try", err, 0)
	}
	stock, version, err := w.Stocks.Load(step, w.Product)
	if err != nil {
		return fmt.Errorf("load the stock: %w", err)
	}
	if stock.Last != nil {
		if err := w.Book.Reach(step, w.Ledger, w.Product, stock.Entries-1); err != nil {
			return err
		}
		known := w.Book.Entries(w.Product) >= stock.Entries
		entry, data, err := carried(&stock)
		if err != nil {
			return err
		}
		if w.written < entry.N {
			if err := w.append(step, entry.N, data); err != nil {
				return err
			}
			w.written = entry.N
		}
		if err := w.Book.Apply(entry); err != nil {
			return err
		}
		if !known {
			w.announce(entry)
		}
	}
	w.stock, w.version, w.held, w.untidy = stock, version, true, 0
	return nil
}

// carried is the entry in the stock value, with its bytes.
func carried(stock *Stock) (*Entry, []byte, error) {
	entry := stock.Entry()
	data := entry.Encode()
	if hash := hashEntry(data); hash != stock.LedgerHead {
		return nil, nil, fmt.Errorf("the stock carries an entry %d that hashes to %s, and says %s", entry.N, hash, stock.LedgerHead)
	}
	return entry, data, nil
}

// write begins to append an entry. flush waits for its end.
func (w *Worker) write(n uint64, data []byte) {
	w.writing = make(chan error, 1)
	go func(done chan<- error) {
		ctx, cancel := context.WithTimeout(context.Background(), w.StepTimeout)
		defer cancel()
		done <- w.append(ctx, n, data)
	}(w.writing)
}

// flush waits until nothing is being written any more. After a failure the
// entry is written again by the next load.
func (w *Worker) flush(ctx context.Context) error {
	if w.writing == nil {
		return nil
	}
	select {
	case err := <-w.writing:
		w.writing = nil
		if err == nil {
			w.written = w.stock.Entries
		}
		return err
	case <-ctx.Done():
		return fmt.Errorf("append entry %d: %w", w.stock.Entries, context.Cause(ctx))
	}
}

// failed collects the end of a write without waiting, and tells whether it went
// wrong.
func (w *Worker) failed() bool {
	if len(w.writing) == 0 {
		return false
	}
	return w.flush(context.Background()) != nil
}

// append writes the entry, once. Finding it there already is how a repetition
// ends; finding another one there would be the end of P8.
func (w *Worker) append(ctx context.Context, n uint64, data []byte) error {
	err := w.Ledger.Append(ctx, w.Product, n, data)
	if errors.Is(err, ErrEntryTaken) {
		stored, readErr := w.Ledger.Entry(ctx, w.Product, n)
		switch {
		case readErr != nil:
			err = readErr
		case !bytes.Equal(stored, data):
			return fmt.Errorf("the ledger holds another entry %d of %s than the one decided", n, w.Product)
		default:
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("append entry %d: %w", n, err)
	}
	return nil
}

// tidyUp finishes, without a message in hand, what a worker left behind that died
// or failed between the swap and the ledger.
func (w *Worker) tidyUp(ctx context.Context) {
	w.held = false
	if err := w.load(ctx); err != nil {
		if w.report("the ledger is behind the stock", err, w.untidy) {
			w.stuck.Store(&err)
		}
		w.untidy++
		return
	}
	w.stuck.Store(nil)
}
