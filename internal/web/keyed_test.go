package web

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"firstcome/internal/sale"
)

func TestAPanicStaysInside(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, func(c *Config) { c.Queue = panicking{} })
	for range 2 {
		r := buy(t, addr, orderBody("a@b.de"), "Idempotency-Key", "k")
		wantProblem(t, r, 500)
		if strings.Contains(r.body, "secret") {
			t.Errorf("internal text: %s", r.body)
		}
	}
}

type panicking struct{}

func TestOneKeyIsOneOrder(t *testing.T) {
	w := newTown(t, "tshirt")
	w.gate = make(chan struct{})
	_, addr := open(t, w, nil)
	replies := make([]reply, 40)
	var all sync.WaitGroup
	for i := range replies {
		all.Go(func() {
			replies[i], _ = trySend("POST", "http://"+addr+"/buy", `{"email":"a@b.de","quantity":3}`,
				"Content-Type", asJSON, "Idempotency-Key", "forty")
		})
	}
	awaitTrue(t, "39 wait for the first", func() bool { return inAwait() == 39 })
	close(w.gate)
	all.Wait()
	id := sale.KeyedID("a@b.de", "tshirt", "forty")
	for _, r := range replies {
		if r.Response == nil || bought(t, r) != id {
			t.Fatalf("%+v", r)
		}
	}
	if n := w.orders(); n != 1 {
		t.Fatalf("%d orders", n)
	}

	w.decide(t)
	w.set("tshirt", func(s *sale.Stock) { s.Available, s.Sold = 0, s.Supplied })
	r := buy(t, addr, `{"email":"A@B.de","quantity":3,"product":"tshirt"}`, "Idempotency-Key", "forty")
	if bought(t, r) != id || r.Header.Get("Idempotent-Replayed") != "true" || !strings.Contains(r.body, `"status":"accepted"`) {
		t.Errorf("replay: %v %s", r.Header, r.body)
	}
	wantProblem(t, buy(t, addr, `{"email":"a@b.de","quantity":4}`, "Idempotency-Key", "forty"), 422)
	wantProblem(t, buy(t, addr, `{"email":"a@b.de","quantity":3}`, "Idempotency-Key", "other"), 409)
	wantProblem(t, buy(t, addr, `{"email":"c@b.de","quantity":3}`, "Idempotency-Key", "forty"), 409) // another buyer's key is another key
}

// TestQuantitiesMeetInOneKey: of concurrent requests with one key and several
// quantities exactly one quantity is ordered, and the others are 422.
func TestQuantitiesMeetInOneKey(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	replies := make([]reply, 20)
	var all sync.WaitGroup
	for i := range replies {
		all.Go(func() {
			replies[i], _ = trySend("POST", "http://"+addr+"/buy", fmt.Sprintf(`{"email":"a@b.de","quantity":%d}`, 1+i%2),
				"Content-Type", asJSON, "Idempotency-Key", "k")
		})
	}
	all.Wait()
	status, ok := w.book.Taken(sale.KeyedID("a@b.de", "tshirt", "k"), "tshirt")
	if !ok || w.orders() != 1 {
		t.Fatalf("%d orders", w.orders())
	}
	for i, r := range replies {
		want := 422
		if 1+i%2 == status.Quantity {
			want = 202
		}
		if r.Response == nil || r.StatusCode != want {
			t.Errorf("quantity %d: %s, want %d", 1+i%2, r.body, want)
		}
	}
}

// inAwait is how many requests wait for another one with their key.
func inAwait() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "web.await(")
}

// TestARefusedKeyIsFree: a request of another quantity that waits for one that is
// then refused is judged by itself.
func TestARefusedKeyIsFree(t *testing.T) {
	var fs flights
	id := sale.KeyedID("a@b.de", "tshirt", "k")
	f, first := fs.join(id, 1)
	if !first {
		t.Fatal("not the first")
	}
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	s.flights.byID = map[sale.OrderID]*flight{id: f}
	got := make(chan reply, 1)
	go func() {
		r, _ := trySend("POST", "http://"+addr+"/buy", `{"email":"a@b.de","quantity":2}`, "Content-Type", asJSON, "Idempotency-Key", "k")
		got <- r
	}()
	awaitTrue(t, "it waits", func() bool { return inAwait() == 1 })
	f.err = errQueueFull
	s.flights.land(id, f)
	if r := <-got; r.Response == nil || r.StatusCode != 202 {
		t.Errorf("%+v", r)
	}
}

func TestAnOrderOfAnotherInstanceIsReplayed(t *testing.T) {
	w := newTown(t, "tshirt")
	w.silent = true // the book hears of orders only when it catches up
	_, addr := open(t, w, nil)
	id := bought(t, buy(t, addr, orderBody("a@b.de"), "Idempotency-Key", "k"))
	w.set("tshirt", func(s *sale.Stock) { s.Available, s.Sold = 0, s.Supplied })
	r := buy(t, addr, orderBody("a@b.de"), "Idempotency-Key", "k")
	if bought(t, r) != id || r.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%v %s", r.Header, r.body)
	}
	w.fail(nil, sale.ErrUnavailable)
	wantProblem(t, buy(t, addr, orderBody("a@b.de"), "Idempotency-Key", "new"), 503)
	if w.orders() != 1 {
		t.Errorf("%d orders", w.orders())
	}
}
