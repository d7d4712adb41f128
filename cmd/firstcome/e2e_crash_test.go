package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// crashSeed decides when the process is killed; CRASH_SEED repeats a run.
func crashSeed(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text, ok := os.LookupEnv("CRASH_SEED"); ok {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("CRASH_SEED=%d", seed)
	return seed
}

// town is a crowd of buyers who insist: each repeats an order under its key until
// the shop, or the one that comes after it, has answered.
type town struct {
	t    *testing.T
	shop atomic.Pointer[shop]
	acks chan struct{} // one for every 202; has room for all
	stop chan struct{} // closed when the test has failed

	mu    sync.Mutex
	taken map[string]status // as answered with 202
}

// buyer orders until the shop is sold out.
func (w *town) buyer(n int) {
	for k := 0; ; k++ {
		email := fmt.Sprintf("buyer%d-%d@example.com", n, k)
		quantity := 1
		if k%4 == 3 {
			quantity = 2
		}
		a, ok := w.insist(email, quantity)
		switch {
		case !ok:
			return
		case a.code == http.StatusConflict:
			detail := a.problem(w.t, http.StatusConflict)
			if strings.Contains(detail, "more units than are left") {
				continue // two, with one left: the next order is for one
			}
			if !strings.Contains(detail, "sold out") {
				w.t.Errorf("refused: %s", detail)
			}
			return
		case a.code != http.StatusAccepted:
			w.t.Errorf("answered %d: %s", a.code, a.body)
			return
		}
		o := a.order(w.t)
		w.mu.Lock()
		if _, twice := w.taken[o.ID]; twice {
			w.t.Errorf("two orders were given the id %s", o.ID)
		}
		w.taken[o.ID] = o
		w.mu.Unlock()
		w.acks <- struct{}{}
	}
}

func (w *town) insist(email string, quantity int) (answer, bool) {
	for {
		a, err := w.shop.Load().tryBuy(email, quantity, "Idempotency-Key", "of-"+email)
		if err == nil && a.code != http.StatusServiceUnavailable && !bytes.Contains(a.body, []byte(`"urn:firstcome:paused"`)) {
			return a, true
		}
		select {
		case <-w.stop:
			return a, false
		case <-time.After(10 * time.Millisecond): // the shop is down, or paused
		}
	}
}

// P1, P3, P4, P5 and P8 outlive the process: it is killed six times at random
// moments of a busy sale, and started again on what it left. Twice the desk has just
// spoken: it restocks, and pauses the sale.
func TestKilledSixTimes(t *testing.T) {
	t.Parallel()
	const units, restock, buyers, kills = 1500, 300, 8, 6
	random := rand.New(rand.NewPCG(crashSeed(t), 0))
	store := t.TempDir()
	again := func() *shop { return open(t, store, fmt.Sprintf("products: [ { id: tshirt, stock: %d } ]", units)) }

	w := &town{t: t, acks: make(chan struct{}, 4*(units+restock)), stop: make(chan struct{}), taken: map[string]status{}}
	w.shop.Store(again())
	var crowd sync.WaitGroup
	for n := range buyers {
		crowd.Go(func() { w.buyer(n) })
	}
	defer crowd.Wait()
	defer close(w.stop)

	const supplyID, pauseID = "0192aaaa-0000-7000-8000-000000000001", "0192aaaa-0000-7000-8000-000000000002"
	for kill := range kills {
		for range 20 + random.IntN(130) {
			select {
			case <-w.acks:
			case <-time.After(patience):
				t.Fatalf("no order was taken any more\n%s", w.shop.Load().said)
			}
		}
		switch kill {
		case 1:
			w.shop.Load().desk(fmt.Sprintf(`{"id":%q,"do":"supply","units":%d}`, supplyID, restock))
		case 3:
			w.shop.Load().desk(fmt.Sprintf(`{"id":%q,"do":"terms","paused":true}`, pauseID))
		}
		time.Sleep(time.Duration(random.IntN(30_000)) * time.Microsecond) // the random moment
		w.shop.Load().kill()
		w.shop.Store(again())
		if kill == 3 {
			s := w.shop.Load()
			if state := s.product("tshirt").State; state != "paused" {
				t.Errorf("paused before the kill, the shop is %s after it", state)
			}
			s.stock("set", "tshirt", "--paused=false").want(t, 0, "paused: true → false")
		}
	}
	crowd.Wait() // sold out
	s := w.shop.Load()
	s.drained("tshirt")

	var sold int64
	outcomes := map[string]status{}
	for _, o := range w.taken {
		now := s.look(o)
		switch now.Status {
		case "accepted":
			sold += int64(now.Quantity)
		case "sold_out":
		default:
			t.Errorf("order %s is %s in the end", o.ID, now.Status)
		}
		outcomes[now.ID] = now
	}
	if sold != units+restock {
		t.Errorf("%d units in accepted orders, want %d", sold, units+restock)
	}
	s.sold(units + restock)
	h := compareHistory(t, s, outcomes)
	if is := h.newest(); is.Supplied != units+restock || is.Sold != units+restock {
		t.Errorf("the history ends with %s", is.value)
	}
	for _, id := range []string{supplyID, pauseID} {
		if lines := h.desk(id); len(lines) != 1 || lines[0] != "" {
			t.Errorf("desk line %s came to %q, want one that is not refused", id, lines)
		}
	}
	s.auditGreen()
	s.stop()
}

// P2 and P3: orders that wait when the process is killed are decided, in their
// order, by the one that comes after it; what was decided stays as it was.
func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	slow := []string{"products: [ { id: tshirt, stock: 4 } ]", "worker: { processing_time: 1s }"}
	s := open(t, store, slow...)
	k := s.follow("ann@example.com")

	var orders []status
	for range 5 {
		orders = append(orders, s.buy("ann@example.com", 1).order(t))
	}
	decided := k.outcome(orders[0].ID)
	if p := s.product("tshirt"); p.Waiting == 0 {
		t.Fatalf("nobody waits: %+v", p)
	}
	s.kill()

	s = open(t, store, slow...)
	if now := s.look(orders[0]); now != decided {
		t.Errorf("the first order was %+v, and is %+v after the restart", decided, now)
	}
	k = s.follow("ann@example.com")
	for i, o := range orders {
		now := k.outcome(o.ID)
		want := "accepted"
		if i == 4 {
			want = "sold_out"
		}
		if now.Status != want || now.Place != uint64(i+1) || now.PlacedAt != o.PlacedAt {
			t.Errorf("order %d became %+v, want %s at place %d", i+1, now, want, i+1)
		}
	}
	before := s.get("/orders?email=ann@example.com").body
	product := s.product("tshirt")
	s.auditGreen()
	s.stop()

	s = open(t, store, "products: [ { id: tshirt, stock: 4000 } ]") // only the first supply counts
	if after := s.get("/orders?email=ann@example.com").body; string(after) != string(before) {
		t.Errorf("the orders were\n%s\nand are after a restart\n%s", before, after)
	}
	if now := s.product("tshirt"); now != product {
		t.Errorf("the product was %+v, and is %+v after a restart", product, now)
	}
	s.stop()
}

// P4: one key is one order, however often and whenever it is sent.
func TestOneKeyIsOneOrder(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	s := open(t, store, "products: [ { id: tshirt, stock: 2 } ]")
	key := []string{"Idempotency-Key", "cart-4711"}
	forty := func() (ids map[string]int, replayed int) {
		ids = map[string]int{}
		var mu sync.Mutex
		var all sync.WaitGroup
		errs := make([]error, 40)
		for i := range errs {
			all.Go(func() {
				a, err := s.tryBuy("kim@example.com", 1, key...)
				mu.Lock()
				defer mu.Unlock()
				if errs[i] = err; err == nil && a.code != http.StatusAccepted {
					errs[i] = fmt.Errorf("answered %d: %s", a.code, a.body)
				}
				if errs[i] != nil {
					return
				}
				ids[a.order(t).ID]++
				if a.header.Get("Idempotent-Replayed") == "true" {
					replayed++
				}
			})
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		return ids, replayed
	}
	first, _ := forty()
	if len(first) != 1 {
		t.Fatalf("forty requests made %d orders", len(first))
	}
	s.drained("tshirt")
	s.sold(1)
	s.kill()

	s = open(t, store)
	second, replayed := forty()
	if replayed != 40 {
		t.Errorf("%d of 40 answers after the restart say that they are replayed", replayed)
	}
	for id := range second {
		if first[id] == 0 || len(second) != 1 {
			t.Errorf("before the restart %v, after it %v", first, second)
		}
	}
	detail := s.buy("kim@example.com", 2, key...).problem(t, http.StatusUnprocessableEntity)
	if !strings.Contains(detail, "quantity") {
		t.Errorf("the refusal says %q", detail)
	}
	// Another buyer's key of the same text is another order (P7).
	if o := s.buy("lee@example.com", 1, key...).order(t); first[o.ID] != 0 {
		t.Error("two buyers share an order")
	}
	s.sold(2)
	s.buy("max@example.com", 1).problem(t, http.StatusConflict)
	last, replayed := forty()
	if len(last) != 1 || replayed != 40 {
		t.Errorf("sold out: ids %v, %d of 40 replayed", last, replayed)
	}
	s.buy("kim@example.com", 2, key...).problem(t, http.StatusUnprocessableEntity)
	s.drained("tshirt")
	s.sold(2)
	s.auditGreen()
	s.stop()
}
