package web

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"firstcome/internal/sale"
)

// refusal is a problem with the members that the door adds.
type refusal struct {
	Type          string
	OpensAt       string `json:"opens_at"`
	LimitPerBuyer int64  `json:"limit_per_buyer"`
	Got           int64
	Available     int64
}

func refused(t testing.TB, r reply, status int, kind, retry string) refusal {
	t.Helper()
	wantProblem(t, r, status)
	var p refusal
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Fatal(err)
	}
	if got := r.Header.Get("Retry-After"); p.Type != "urn:firstcome:"+kind || got != retry {
		t.Errorf("%s, Retry-After %q, want %s and %q", p.Type, got, kind, retry)
	}
	return p
}

// limited is a desk line that sets the limit of a product.
func limited(units int64) sale.DeskLine {
	return sale.DeskLine{Do: sale.DoTerms, LimitPerBuyer: &units}
}

// What could not be accepted anyway is refused without touching the queue, and an order
// that was placed before is still answered.
func TestTheDoorRefusesWhatCannotBeAccepted(t *testing.T) {
	w := newTown(t, "tshirt")
	clock := newHandClock()
	s, addr := open(t, w, func(c *Config) { c.Now = clock.now })
	order := func(quantity int) string { return fmt.Sprintf(`{"email":"a@b.de","quantity":%d}`, quantity) }
	replay := func() {
		t.Helper()
		if r := buy(t, addr, order(2), "Idempotency-Key", "k"); r.StatusCode != 202 || r.Header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("a replay: %d %s", r.StatusCode, r.body)
		}
	}
	bought(t, buy(t, addr, order(2), "Idempotency-Key", "k"))
	w.decide(t)
	placed := w.placing.Load()

	if p := refused(t, buy(t, addr, order(4)), 409, "not-enough", ""); p.Available != 3 {
		t.Errorf("%+v", p)
	}
	w.steer(t, "tshirt", limited(4))
	if p := refused(t, buy(t, addr, order(4)), 409, "limit-reached", ""); p.LimitPerBuyer != 4 || p.Got != 2 { // it is said first
		t.Errorf("%+v", p)
	}
	refused(t, buy(t, addr, order(3), "Idempotency-Key", "new"), 409, "limit-reached", "")
	replay()
	w.book.SetStuck("tshirt", "a witness failed", true)
	refused(t, buy(t, addr, order(4)), 503, "stuck", "5")
	replay()
	w.steer(t, "tshirt", paused(true))
	refused(t, buy(t, addr, order(4)), 409, "paused", "5")
	opens := clock.now().Add(90*time.Second + time.Microsecond)
	w.steer(t, "tshirt", hours(&opens, nil))
	if p := refused(t, buy(t, addr, order(1)), 409, "not-open", "91"); p.OpensAt != opens.Format(time.RFC3339Nano) {
		t.Errorf("opens at %s, not %s", p.OpensAt, opens)
	}
	replay()
	clock.set(opens.Add(-time.Microsecond))
	refused(t, buy(t, addr, order(1)), 409, "not-open", "1")
	clock.set(opens)
	refused(t, buy(t, addr, order(1)), 409, "paused", "5")
	if n := w.placing.Load(); n != placed {
		t.Errorf("%d refused orders were placed", n-placed)
	}

	w.steer(t, "tshirt", paused(false))
	w.book.SetStuck("tshirt", "", false)
	bought(t, buy(t, addr, order(2))) // up to the limit
	bought(t, buy(t, addr, order(2))) // the one before is undecided: what it comes to is not known here
	if out := w.decide(t); out[0].Outcome != sale.Accepted || out[1].Outcome != sale.LimitReached {
		t.Errorf("%+v", out)
	}
	s.Refuse()
	refused(t, buy(t, addr, order(1)), 503, "shutting-down", "1") // before the limit
	w.steer(t, "tshirt", left(0))
	refused(t, buy(t, addr, order(1)), 409, "sold-out", "")
}

// Nobody fills the queue alone: of one buyer, a thousand orders may be undecided.
func TestOneBuyerHasAThousandUndecidedOrders(t *testing.T) {
	w := newTown(t, "tshirt", "mug")
	_, addr := open(t, w, nil)
	order := func(email, product string) string { return fmt.Sprintf(`{"email":%q,"product":%q}`, email, product) }
	for n := range maxWaiting - 1 {
		w.publish(t, sale.KeyedID("a@b.de", "tshirt", fmt.Sprint(n)), "a@b.de", "tshirt")
	}
	id := bought(t, buy(t, addr, order("a@b.de", "mug"), "Idempotency-Key", "k"))
	refused(t, buy(t, addr, order("a@b.de", "tshirt")), 429, "too-many-waiting", "1")
	refused(t, buy(t, addr, order("a@b.de", "mug"), "Idempotency-Key", "new"), 429, "too-many-waiting", "1")
	if bought(t, buy(t, addr, order("a@b.de", "mug"), "Idempotency-Key", "k")) != id {
		t.Error("a replay is another order")
	}
	bought(t, buy(t, addr, order("c@b.de", "tshirt")))
	w.decide(t)
	bought(t, buy(t, addr, order("a@b.de", "mug")))
}

func TestDetailsOfTheDoorHaveFigures(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	if r := buy(t, addr, `{"email":"a@b.de","quantity":6}`); !strings.Contains(r.body, "than are left: 5.") {
		t.Error(r.body)
	}
	w.steer(t, "tshirt", limited(1))
	if r := buy(t, addr, `{"email":"a@b.de","quantity":2}`); !strings.Contains(r.body, "may have 1 ") || !strings.Contains(r.body, "has 0.") {
		t.Error(r.body)
	}
}
