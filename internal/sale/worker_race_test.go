package sale_test

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"firstcome/internal/sale"
	"firstcome/internal/saletest"
)

// race is what a random round is made of. Its source is shared by all workers.
type race struct {
	mu     sync.Mutex
	random *rand.Rand
	over   atomic.Bool // nothing is written by hand any more
}

func (r *race) n(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.random.IntN(n)
}

// message is one of orders or desk lines, with ids that come again.
func (r *race) message() string {
	lines := make([]string, 1+r.n(4))
	ofDesk := r.n(4) == 0
	for i := range lines {
		switch {
		case r.n(8) == 0:
			lines[i] = "garbage"
		case !ofDesk:
			lines[i] = line(1+r.n(12), 1+r.n(4), 1+r.n(3))
		case r.n(3) == 0:
			lines[i] = terms(90+r.n(6), []string{`"limit_per_buyer":2`, `"limit_per_buyer":0,"paused":true`, `"closes_at":null`}[r.n(3)])
		case r.n(3) == 0:
			lines[i] = available(90+r.n(6), r.n(5))
		default:
			lines[i] = supply(90+r.n(6), []int{-3, -1, 1, 2, 4}[r.n(5)])
		}
	}
	if ofDesk {
		return desk(lines...)
	}
	return group(lines...)
}

// faults lets a worker's first calls fail, stand still beyond the time to redelivery,
// and find values that were written by hand just before them.
func (r *race) faults(s *shop) *saletest.Faults {
	until := r.n(25)
	standstill := func() time.Duration {
		return []time.Duration{8: 0, 1: time.Millisecond, 2: time.Second, 3: 4 * time.Second, 4: 6 * time.Second, 5: 20 * time.Second}[r.n(9)]
	}
	return &saletest.Faults{
		LateBy: []time.Duration{time.Millisecond, 50 * time.Millisecond, 3 * time.Second, 15 * time.Second}[r.n(4)],
		Plan: func(n int, call string) saletest.Fault {
			if r.n(6) == 0 && !r.over.Load() {
				s.byHand(r.n)
			}
			if n > until || call == saletest.CallAnnounce {
				return saletest.Pass
			}
			return []saletest.Fault{7: saletest.Pass, 1: saletest.LoseWrite, 2: saletest.LoseReply, 3: saletest.Late}[r.n(8)]
		},
		Freeze: func(n int, _ string) (time.Duration, time.Duration) {
			if n > until {
				return 0, 0
			}
			return standstill(), standstill()
		},
	}
}

// Two or three workers that decide one product at the same time, none of which knows
// of the others, each with calls that fail and standstills beyond the time to
// redelivery, some with feeds that go deaf, and values of no meaning in between, leave
// what one undisturbed worker leaves (P1 to P5, P8).
func TestRacingWorkers(t *testing.T) {
	rounds := uint64(2000)
	if testing.Short() {
		rounds = 200
	}
	for seed := range rounds {
		r := &race{random: rand.New(rand.NewPCG(seed, 0))}
		sc := &scenario{supplied: int64(r.n(16)), limit: int64(r.n(5))}
		sc.stages = []stage{{}}
		for range 1 + r.n(6) {
			sc.stages[0].messages = append(sc.stages[0].messages, r.message())
		}
		var want, first *record
		var diff string
		synctest.Test(t, func(t *testing.T) { want = play(t, sc, &saletest.Faults{}, false) })
		synctest.Test(t, func(t *testing.T) { first, diff = r.run(newShop(t, sc), sc) })
		if t.Failed() || diff != "" {
			t.Fatalf("seed %d: the workers' books differ: %s", seed, diff)
		}
		if diff := first.diff(want); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
}

// run plays the scenario on several workers, and tells where their books differ.
func (r *race) run(s *shop, sc *scenario) (first *record, diff string) {
	s.open(&sc.stages[0])
	s.store.SetDeaf(r.n(3) == 0)
	workers := make([]*instance, 2+r.n(2))
	for i := range workers {
		workers[i] = s.start(r.faults(s), newBook())
	}
	for _, i := range workers {
		if err := s.drained(i); err != nil {
			s.t.Fatal(err)
		}
	}
	time.Sleep(time.Minute) // most are awake, and what came late has come
	r.over.Store(true)
	s.store.SetDeaf(false)
	synctest.Wait()
	for _, i := range workers {
		i.stop()
	}
	first = s.record(workers[0].book)
	for _, i := range workers[1:] {
		if diff := s.record(i.book).diff(first); diff != "" {
			return first, diff
		}
	}
	return first, ""
}

// Every instance keeps one book for all products; their workers share it.
func TestProductsShareABook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, &scenario{supplied: 1})
		s.create("mug", &scenario{supplied: 1})
		book := newBook()
		shirts, mugs := s.start(&saletest.Faults{}, book), s.startWith("mug", &saletest.Faults{}, book, func(*sale.Worker) {})
		for i := range 20 {
			// The same id for two products is two orders: each has an outcome of its own.
			s.publish(line(i, i, 1))
			s.orders.Publish("mug", []byte(line(i, i, 1)))
		}
		s.publish(desk(supply(91, 1), supply(92, 1)))
		s.orders.PublishDesk("mug", []byte(supply(91, 1)))
		if err := s.drained(shirts); err != nil {
			t.Fatal(err)
		}
		shirts.stop()
		mugs.stop()
		for p, left := range map[sale.ProductID]int64{product: 2, "mug": 1} {
			s.chain(p)
			got, _ := book.Product(p)
			if got.Decided != 20 || got.Sold != 1 || got.Available != left || got.Waiting != 0 {
				t.Errorf("%+v", got)
			}
		}
		if n := book.Len(); n != 40 {
			t.Errorf("the book holds %d orders", n)
		}
	})
}
