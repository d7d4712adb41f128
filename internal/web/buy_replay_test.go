package web

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
	w.steer(t, "tshirt", left(0))
	r := buy(t, addr, `{"email":"A@B.de","quantity":3,"product":"tshirt"}`, "Idempotency-Key", "forty")
	if bought(t, r) != id || r.Header.Get("Idempotent-Replayed") != "true" || !strings.Contains(r.body, `"status":"accepted"`) {
		t.Errorf("replay: %v %s", r.Header, r.body)
	}
	wantProblem(t, buy(t, addr, `{"email":"a@b.de","quantity":4}`, "Idempotency-Key", "forty"), 422)
	wantProblem(t, buy(t, addr, `{"email":"a@b.de","quantity":3}`, "Idempotency-Key", "other"), 409)
	wantProblem(t, buy(t, addr, `{"email":"c@b.de","quantity":3}`, "Idempotency-Key", "forty"), 409) // the same key of another buyer is another key
}

// Of concurrent requests with one key and several quantities, one quantity is ordered,
// and the others are 422.
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

// inAwait is how many requests wait for the first one with their key.
func inAwait() int {
	stacks := make([]byte, 1<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "web.await(")
}

// A request that waits for one of another quantity is placed if that one is refused,
// unless that one may have been stored.
func TestARefusedKeyIsFree(t *testing.T) {
	id := sale.KeyedID("a@b.de", "tshirt", "k")
	for refused, want := range map[*problem]int{errQueueFull: 202, errAway: 202, errUnsure: 422} {
		s, addr := open(t, newTown(t, "tshirt"), nil)
		f, first := s.flights.join(id, 1)
		if !first {
			t.Fatal("not the first")
		}
		got := make(chan reply, 1)
		go func() {
			r, _ := trySend("POST", "http://"+addr+"/buy", `{"email":"a@b.de","quantity":2}`, "Content-Type", asJSON, "Idempotency-Key", "k")
			got <- r
		}()
		awaitTrue(t, "it waits", func() bool { return inAwait() == 1 })
		f.err = refused
		s.flights.finish(id, f, time.Now())
		if r := <-got; r.Response == nil || r.StatusCode != want {
			t.Errorf("after %q: %s, want %d", refused.detail, r.body, want)
		}
	}
}

// A key whose order may have been stored is bound to its quantity for a while (P4).
func TestAKeyWhoseOrderMayBeStored(t *testing.T) {
	w := newTown(t, "tshirt")
	var passed atomic.Int64
	_, addr := open(t, w, func(c *Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(passed.Load())) }
	})
	order := func(key string, quantity int) reply {
		return buy(t, addr, fmt.Sprintf(`{"email":"a@b.de","quantity":%d}`, quantity), "Idempotency-Key", key)
	}
	w.fail(fmt.Errorf("orders: %w", sale.ErrUnavailable), nil)
	for _, key := range []string{"retried", "stored", "given-up"} {
		wantProblem(t, order(key, 1), 503)
	}
	w.fail(fmt.Errorf("orders: %w", sale.ErrQueueFull), nil)
	wantProblem(t, order("refused", 1), 503)
	w.fail(nil, sale.ErrUnavailable)
	wantProblem(t, order("not-asked", 1), 503)

	w.fail(nil, nil)
	wantProblem(t, order("retried", 2), 422)
	if n := w.orders(); n != 0 {
		t.Fatalf("%d orders", n)
	}
	if id := bought(t, order("retried", 1)); id != sale.KeyedID("a@b.de", "tshirt", "retried") {
		t.Errorf("it is placed again as %s", id)
	}
	w.publish(t, sale.KeyedID("a@b.de", "tshirt", "stored"), "a@b.de", "tshirt") // late
	if r := order("stored", 1); r.StatusCode != 202 || r.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	bought(t, order("refused", 2))
	bought(t, order("not-asked", 2))

	passed.Store(int64(unsureTime - time.Second))
	wantProblem(t, order("given-up", 2), 422)
	passed.Store(int64(2*unsureTime + time.Second))
	bought(t, order("given-up", 2))
	if n := w.orders(); n != 5 {
		t.Errorf("%d orders", n)
	}
}

func TestUnsureIsBounded(t *testing.T) {
	var u unsure
	now := time.Now()
	id := func(n int) sale.OrderID { return sale.KeyedID("a@b.de", "tshirt", fmt.Sprint(n)) }
	const many = 3*maxUnsure + 1
	for n := range many {
		u.remember(id(n), n, now)
	}
	if len(u.young)+len(u.old) > 2*maxUnsure {
		t.Errorf("%d and %d are remembered", len(u.young), len(u.old))
	}
	for n := many - maxUnsure; n < many; n++ {
		if quantity, known := u.quantity(id(n), now); !known || quantity != n {
			t.Fatalf("%d is %d, %v", n, quantity, known)
		}
	}
	if _, known := u.quantity(id(0), now); known {
		t.Error("the oldest is not forgotten")
	}
	u.remember(id(-1), 1, now.Add(unsureTime-1)) // in the rest of young's time
	if _, known := u.quantity(id(-1), now.Add(2*unsureTime-2)); !known {
		t.Error("forgotten before its time")
	}
	if u.quantity(id(-1), now.Add(3*unsureTime)); len(u.young)+len(u.old) > 0 {
		t.Errorf("%d and %d are never forgotten", len(u.young), len(u.old))
	}
}

func TestAnOrderOfAnotherInstanceIsReplayed(t *testing.T) {
	w := newTown(t, "tshirt")
	w.deaf = true // the book hears of orders only when it catches up
	_, addr := open(t, w, nil)
	id := bought(t, buy(t, addr, orderBody("a@b.de"), "Idempotency-Key", "k"))
	w.steer(t, "tshirt", left(0))
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
