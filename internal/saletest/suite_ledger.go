package saletest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"firstcome/internal/sale"
)

// LedgerRig is a ledger under test.
type LedgerRig struct {
	// Open gives a client of the ledger; several are used at once.
	Open func(testing.TB) sale.Ledger
	// Products are two products that the ledger has no entries of.
	Products [2]sale.ProductID
}

// TestLedger holds an implementation to the contract of sale.Ledger. open makes
// an empty ledger.
func TestLedger(t *testing.T, open func(t *testing.T) LedgerRig) {
	rig := open(t)
	shirt, mug := rig.Products[0], rig.Products[1]
	l, other := rig.Open(t), rig.Open(t)

	if _, err := l.Entry(within(t), shirt, 1); !errors.Is(err, sale.ErrNotFound) {
		t.Errorf("an entry that nobody wrote: %v", err)
	}
	one := []byte(`{"n":1}`)
	if err := l.Append(within(t), shirt, 1, one); err != nil {
		t.Fatal(err)
	}
	wantEntry(t, other, shirt, 1, `{"n":1}`)
	one[0] = 'x' // the caller's bytes are the caller's

	// An entry is written once, by whomever and whatever the bytes.
	for _, again := range []string{`{"n":1}`, `{"n":2}`, ""} {
		for _, l := range []sale.Ledger{l, other} {
			wantErr(t, l.Append(within(t), shirt, 1, []byte(again)), sale.ErrEntryTaken)
		}
	}
	wantEntry(t, l, shirt, 1, `{"n":1}`)

	// Products have their own numbers.
	if err := l.Append(within(t), mug, 1, []byte("mug")); err != nil {
		t.Fatal(err)
	}
	wantEntry(t, l, mug, 1, "mug")
	wantEntry(t, l, shirt, 1, `{"n":1}`)

	big := bytes.Repeat([]byte("0123456789abcdef"), 960_000/16)
	if err := l.Append(within(t), shirt, 2, big); err != nil {
		t.Errorf("an entry of the largest group: %v", err)
	}
	wantEntry(t, other, shirt, 2, string(big))

	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Append(ctx, shirt, 99, one); err == nil || errors.Is(err, sale.ErrEntryTaken) {
		t.Errorf("append with an ended context: %v", err)
	}
	if _, err := l.Entry(ctx, shirt, 1); err == nil || errors.Is(err, sale.ErrNotFound) {
		t.Errorf("entry with an ended context: %v", err)
	}
	t.Run("one of many wins", func(t *testing.T) { testOneAppends(t, rig) })
}

// testOneAppends lets several clients write different bytes under the same numbers.
func testOneAppends(t *testing.T, rig LedgerRig) {
	const clients, entries = 4, 10
	var wg sync.WaitGroup
	var mu sync.Mutex
	winners := map[uint64][]string{}
	for c := range clients {
		l := rig.Open(t)
		wg.Go(func() {
			for n := uint64(2); n < 2+entries; n++ {
				data := fmt.Sprintf("entry %d by %d", n, c)
				switch err := l.Append(within(t), rig.Products[1], n, []byte(data)); {
				case err == nil:
					mu.Lock()
					winners[n] = append(winners[n], data)
					mu.Unlock()
				case !errors.Is(err, sale.ErrEntryTaken):
					t.Errorf("append %d: %v", n, err)
				}
			}
		})
	}
	wg.Wait()
	for n := uint64(2); n < 2+entries; n++ {
		if len(winners[n]) != 1 {
			t.Errorf("entry %d was written by %q", n, winners[n])
			continue
		}
		wantEntry(t, rig.Open(t), rig.Products[1], n, winners[n][0])
	}
}

// wantEntry reads until the entry is there: a replica may lag, and may not lie.
func wantEntry(t *testing.T, l sale.Ledger, product sale.ProductID, n uint64, want string) {
	t.Helper()
	ctx := within(t)
	for {
		got, err := l.Entry(ctx, product, n)
		if errors.Is(err, sale.ErrNotFound) && ctx.Err() == nil {
			pause(ctx, 10*time.Millisecond)
			continue
		}
		if err != nil || string(got) != want {
			t.Errorf("entry %d of %s: %.80q, %v; want %.80q", n, product, got, err, want)
		}
		return
	}
}

// pause waits before looking again at what no event tells of.
func pause(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}
