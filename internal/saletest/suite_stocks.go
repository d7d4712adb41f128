package saletest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"firstcome/internal/sale"
)

// callTimeout bounds every call of the suites, for a busy three-node cluster too.
const callTimeout = 15 * time.Second

// StocksRig is a store under test.
type StocksRig struct {
	// Open gives a client of the store; several are used at once.
	Open func(testing.TB) sale.Stocks
	// Seed stores a product's first value.
	Seed func(testing.TB, sale.Stock)
}

// TestStocks holds an implementation to the contract of sale.Stocks. open makes
// an empty store.
func TestStocks(t *testing.T, open func(t *testing.T) StocksRig) {
	rig := open(t)
	t.Run("nothing there", func(t *testing.T) {
		_, _, err := rig.Open(t).Load(within(t), "nowhere")
		wantErr(t, err, sale.ErrNotFound)
	})
	t.Run("a value comes back as it was stored", func(t *testing.T) {
		s, want := rig.Open(t), fullStock("whole")
		rig.Seed(t, want)
		if got, _ := load(t, s, "whole"); !reflect.DeepEqual(got, want) {
			t.Errorf("loaded %+v, seeded %+v", got, want)
		}
	})
	t.Run("a value of the largest group", func(t *testing.T) { testLargest(t, rig) })
	t.Run("replace", func(t *testing.T) { testReplace(t, rig) })
	t.Run("a stale version changes nothing", func(t *testing.T) { testStale(t, rig) })
	t.Run("a version is of one product", func(t *testing.T) { testVersions(t, rig) })
	t.Run("one of many wins", func(t *testing.T) { testOneWins(t, rig) })
	t.Run("an ended context", func(t *testing.T) {
		s := rig.Open(t)
		rig.Seed(t, fullStock("ended"))
		before, v := load(t, s, "ended")
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, _, err := s.Load(ctx, "ended"); err == nil || errors.Is(err, sale.ErrNotFound) {
			t.Errorf("load gave %v", err)
		}
		// Whether it was stored is open; that nobody else was first is not.
		next := before
		next.Decided++
		if _, err := s.Replace(ctx, v, &next); err == nil || errors.Is(err, sale.ErrConflict) {
			t.Errorf("replace gave %v", err)
		}
	})
}

// testLargest stores the last entry of a message of as many lines as one may have.
func testLargest(t *testing.T, rig StocksRig) {
	s := rig.Open(t)
	rig.Seed(t, fullStock("large"))
	stock, v := load(t, s, "large")
	first := stock.Last.Orders[0]
	first.Email = sale.Email(strings.Repeat("*", 64) + "@" + strings.Repeat("a.", 93) + "com")
	stock.Last.Outcomes, stock.Last.Orders = nil, nil
	for range sale.MaxLines {
		stock.Last.Outcomes = append(stock.Last.Outcomes, sale.Accepted)
		stock.Last.Orders = append(stock.Last.Orders, first)
	}
	if _, err := s.Replace(within(t), v, &stock); err != nil {
		t.Fatalf("%d bytes: %v", len(stock.Encode()), err)
	}
	if got, _ := load(t, s, "large"); !reflect.DeepEqual(got, stock) {
		t.Errorf("%d bytes came back as %d", len(stock.Encode()), len(got.Encode()))
	}
}

func testReplace(t *testing.T, rig StocksRig) {
	s, other := rig.Open(t), rig.Open(t)
	rig.Seed(t, fullStock("swap"))
	stock, v := load(t, s, "swap")
	for range 5 {
		stock.Available--
		stock.Sold++
		next, err := s.Replace(within(t), v, &stock)
		if err != nil {
			t.Fatal(err)
		}
		// Another client sees it at once, under the same version.
		got, gotVersion := load(t, other, "swap")
		if !reflect.DeepEqual(got, stock) || gotVersion != next || next == v {
			t.Fatalf("loaded %+v as %d, stored %+v as %d after %d", got, gotVersion, stock, next, v)
		}
		v = next
	}
}

func testStale(t *testing.T, rig StocksRig) {
	s := rig.Open(t)
	rig.Seed(t, fullStock("stale"))
	stock, old := load(t, s, "stale")
	first, second := stock, stock
	first.Decided++
	second.Decided += 2
	if _, err := s.Replace(within(t), old, &first); err != nil {
		t.Fatal(err)
	}
	_, err := s.Replace(within(t), old, &second)
	wantErr(t, err, sale.ErrConflict)
	// The same value again is no exception: it was not this caller who stored it.
	_, err = s.Replace(within(t), old, &first)
	wantErr(t, err, sale.ErrConflict)
	if got, _ := load(t, s, "stale"); !reflect.DeepEqual(got, first) {
		t.Errorf("loaded %+v, want %+v", got, first)
	}
}

func testVersions(t *testing.T, rig StocksRig) {
	s := rig.Open(t)
	rig.Seed(t, fullStock("left"))
	rig.Seed(t, fullStock("right"))
	left, leftVersion := load(t, s, "left")
	right, rightVersion := load(t, s, "right")
	right.Decided++
	newer, err := s.Replace(within(t), rightVersion, &right)
	if err != nil {
		t.Fatal(err)
	}
	left.Decided++
	_, err = s.Replace(within(t), newer, &left)
	wantErr(t, err, sale.ErrConflict)
	if _, err := s.Replace(within(t), leftVersion, &left); err != nil {
		t.Errorf("another product's swap got in the way: %v", err)
	}
}

// testOneWins lets several clients count one number up: every success must be
// visible in the sum, and every failure must be a conflict.
func testOneWins(t *testing.T, rig StocksRig) {
	const clients, each = 4, 8
	rig.Seed(t, fullStock("race"))
	begin, _ := load(t, rig.Open(t), "race")
	var wg sync.WaitGroup
	for range clients {
		s := rig.Open(t)
		wg.Go(func() {
			for won := 0; won < each; {
				stock, v, err := s.Load(within(t), "race")
				if err != nil {
					t.Errorf("load: %v", err)
					return
				}
				stock.Decided++
				switch _, err := s.Replace(within(t), v, &stock); {
				case err == nil:
					won++
				case !errors.Is(err, sale.ErrConflict):
					t.Errorf("replace: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if end, _ := load(t, rig.Open(t), "race"); end.Decided != begin.Decided+clients*each {
		t.Errorf("%d swaps won, the value counts %d", clients*each, end.Decided-begin.Decided)
	}
}

// fullStock is a value with every field set.
func fullStock(product sale.ProductID) sale.Stock {
	at := time.Date(2026, 3, 1, 9, 0, 0, 123456000, time.UTC)
	opens, closes := at.Add(-time.Hour), at.Add(time.Hour)
	order := func(place uint64, outcome sale.Outcome) sale.EntryOrder {
		return sale.EntryOrder{Place: place, Outcome: outcome, Order: sale.Order{ID: sale.KeyedID("a=*@b.c", product, fmt.Sprint(place)),
			Email: "a=*@b.c", Quantity: 10, PlacedAt: at.Add(-time.Second)}}
	}
	return sale.Stock{
		Product: product, Available: 90, Sold: 10, Supplied: 100, Decided: 12, Entries: 3, LimitPerBuyer: 2,
		OpensAt: &opens, ClosesAt: &closes, Paused: true,
		Last: &sale.Last{
			Head: sale.Head{Epoch: "2026-03-01T08:00:00.000000001Z", Seq: 7, N: 3, Prev: "ab", Supplied: 100,
				Available: 90, Decided: 12, DecidedAt: at},
			Outcomes: []sale.Outcome{sale.Accepted, sale.Dead, sale.SoldOut, sale.LimitReached, sale.Duplicate},
			Orders:   []sale.EntryOrder{order(10, sale.Accepted), order(11, sale.SoldOut), order(12, sale.LimitReached), order(0, sale.Duplicate)},
		},
		LedgerHead: "cd",
	}
}

func load(t *testing.T, s sale.Stocks, product sale.ProductID) (sale.Stock, sale.Version) {
	t.Helper()
	stock, v, err := s.Load(within(t), product)
	if err != nil {
		t.Fatal(err)
	}
	return stock, v
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	t.Cleanup(cancel)
	return ctx
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
