package sale_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"firstcome/internal/sale"
	"firstcome/internal/saletest"
)

// A book whose feed is away is brought up from the ledger, and one whose feed is
// there is left to it.
func TestReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := decided(t) // two entries
		calls := &saletest.Faults{}
		ledger := calls.Ledger(s.ledger)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()

		fed := newBook()
		following, stop := context.WithCancel(t.Context())
		followed := s.follow(following, product, fed)
		if err := fed.Reach(ctx, ledger, product, 2); err != nil || len(calls.Calls()) != 0 {
			t.Errorf("with its feed: %v, after the calls %v", err, calls.Calls())
		}
		stop()
		<-followed

		alone := newBook()
		if err := alone.Reach(ctx, ledger, product, 2); err != nil || alone.Entries(product) != 2 {
			t.Errorf("without its feed the book has %d entries: %v", alone.Entries(product), err)
		}
		if err := alone.Reach(ctx, ledger, product, 3); !errors.Is(err, sale.ErrNotFound) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it has reached what nobody wrote: %v", err)
		}
		if ctx.Err() == nil {
			t.Error("it did not wait for what might still come")
		}
	})
}
