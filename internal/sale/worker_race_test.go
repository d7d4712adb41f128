package sale_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"firstcome/internal/sale"
	"firstcome/internal/saletest"
)

// move is what happens to one call of one of several racing workers.
type move struct {
	fault         saletest.Fault
	before, after time.Duration
}

func genMove() *rapid.Generator[move] {
	standstill := rapid.SampledFrom([]time.Duration{0, 0, 0, 0, time.Millisecond, time.Second, 4 * time.Second, 6 * time.Second, 20 * time.Second})
	fault := rapid.SampledFrom([]saletest.Fault{saletest.Pass, saletest.Pass, saletest.Pass, saletest.Pass, saletest.LoseWrite, saletest.LoseReply, saletest.Late})
	return rapid.Custom(func(t *rapid.T) move {
		return move{fault.Draw(t, "fault"), standstill.Draw(t, "before"), standstill.Draw(t, "after")}
	})
}

// faults plays the moves in order, and none when they are used up.
func faults(moves []move, lateBy time.Duration) *saletest.Faults {
	return &saletest.Faults{
		LateBy: lateBy,
		Plan: func(n int, call string) saletest.Fault {
			if n > len(moves) || call == saletest.CallAnnounce {
				return saletest.Pass
			}
			return moves[n-1].fault
		},
		Freeze: func(n int, _ string) (time.Duration, time.Duration) {
			if n > len(moves) {
				return 0, 0
			}
			return moves[n-1].before, moves[n-1].after
		},
	}
}

func genMessage() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		lines := make([]string, rapid.IntRange(1, 4).Draw(t, "lines"))
		for i := range lines {
			lines[i] = "garbage"
			if rapid.IntRange(0, 7).Draw(t, "good") > 0 {
				lines[i] = line(rapid.IntRange(1, 12).Draw(t, "id"), rapid.IntRange(1, 4).Draw(t, "buyer"), rapid.IntRange(1, 3).Draw(t, "quantity"))
			}
		}
		return group(lines...)
	})
}

// Two or three workers that decide one product at the same time, none of which
// knows of the others, each with calls that fail and standstills beyond the time
// to redelivery, leave what one undisturbed worker leaves (P1 to P5, P8).
func TestRacingWorkers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sc := &scenario{supplied: rapid.Int64Range(0, 15).Draw(t, "supplied"), limit: rapid.Int64Range(0, 4).Draw(t, "limit"),
			stages: []stage{{messages: rapid.SliceOfN(genMessage(), 1, 6).Draw(t, "messages")}}}
		crews := make([][]move, rapid.IntRange(2, 3).Draw(t, "workers"))
		for i := range crews {
			crews[i] = rapid.SliceOfN(genMove(), 0, 25).Draw(t, fmt.Sprintf("moves of worker %d", i))
		}
		lateBy := rapid.SampledFrom([]time.Duration{time.Millisecond, 50 * time.Millisecond, 3 * time.Second, 15 * time.Second}).Draw(t, "late by")
		// Bubbles need the real test, and rapid its failures outside of them.
		var want, got *history
		var diff string
		rapid.SyncTest(t, func(t *rapid.T) { want = play(t, sc, &saletest.Faults{}, false) })
		rapid.SyncTest(t, func(t *rapid.T) { got, diff = race(t, sc, crews, lateBy) })
		if diff != "" {
			t.Fatalf("the workers' books differ: %s", diff)
		}
		if diff := got.diff(want); diff != "" {
			t.Fatal(diff)
		}
	})
}

func race(t tester, sc *scenario, crews [][]move, lateBy time.Duration) (*history, string) {
	s := newShop(t, sc)
	s.open(&sc.stages[0])
	var crew []*instance
	for _, moves := range crews {
		crew = append(crew, s.start(faults(moves, lateBy), newBook()))
	}
	for _, i := range crew {
		if err := s.drained(i); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Minute) // most are awake, and what came late has come
	for _, i := range crew {
		i.stop()
	}
	first := s.history(crew[0].book)
	for _, i := range crew[1:] {
		if diff := s.history(i.book).diff(first); diff != "" {
			return first, diff
		}
	}
	return first, ""
}

// Every instance keeps one book for all products; their workers share it.
func TestProductsShareABook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, &scenario{supplied: 1})
		mug, err := sale.NewStock("mug", 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		s.stocks.Seed(mug)
		book := newBook()
		shirts, mugs := s.start(&saletest.Faults{}, book), s.startOn("mug", &saletest.Faults{}, book)
		for i := range 20 {
			// The same id for two products is two orders: each has an outcome of its own.
			s.orders.Publish(product, []byte(line(i, i, 1)))
			s.orders.Publish("mug", []byte(line(i, i, 1)))
		}
		if err := s.drained(shirts); err != nil {
			t.Fatal(err)
		}
		shirts.stop()
		mugs.stop()
		for _, p := range []sale.ProductID{product, "mug"} {
			audit := sale.NewAudit(p, s.stocks.Raw(p))
			for n, data := range s.ledger.Entries(p) {
				audit.Entry(uint64(n+1), data)
			}
			if findings := audit.Finish(); len(findings) > 0 {
				t.Errorf("audit: %v", findings)
			}
			if got := audit.Summary(); got.Accepted != 1 || got.SoldOut != 19 || got.Duplicates != 0 {
				t.Errorf("%+v", got)
			}
		}
	})
}
