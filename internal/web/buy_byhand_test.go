package web

import (
	"context"
	"strings"
	"testing"
	"time"

	"firstcome/internal/sale"
)

// publish puts an order into the queue by hand, past the door.
func (w *town) publish(t *testing.T, id sale.OrderID, email sale.Email, product sale.ProductID) {
	t.Helper()
	o := sale.Order{ID: id, Email: email, Quantity: 1, PlacedAt: sale.Instant(time.Now())}
	if err := w.Place(context.Background(), product, o); err != nil {
		t.Fatal(err)
	}
}

// An order published by hand may have an id that another product's order has. Each
// buyer reads their own order, and nothing of the other's (P6, P7).
func TestOneIDOfTwoBuyers(t *testing.T) {
	w := newTown(t, "tshirt", "mug")
	w.steer(t, "mug", left(0))
	s, addr := open(t, w, nil, func(s *Server) { s.hub.timing.line = time.Hour })
	id := sale.KeyedID("somebody@b.de", "tshirt", "by hand")
	read := func(email, product, status string) {
		t.Helper()
		r := get(t, "http://"+addr+"/orders/"+id.String()+"?email="+email)
		for _, want := range []string{`"email":"` + email, `"product":"` + product, `"status":"` + status} {
			if r.StatusCode != 200 || !strings.Contains(r.body, want+`"`) {
				t.Errorf("%s reads %d %s, want %s", email, r.StatusCode, r.body, want)
			}
		}
	}
	w.publish(t, id, "ann@b.de", "tshirt")
	w.decide(t)
	ann := watch(t, addr, "ann@b.de")
	ann.wantOrder(id, "accepted")
	w.publish(t, id, "bob@b.de", "mug")
	bob := watch(t, addr, "bob@b.de")
	bob.wantOrder(id, "pending")
	read("ann@b.de", "tshirt", "accepted")
	read("bob@b.de", "mug", "pending")
	if his := (&socket{hub: s.hub, email: "bob@b.de"}); his.decided(id) {
		t.Error("the outcome of one is taken for the other's")
	}

	w.decide(t)
	s.Refresh() // no broadcast arrives
	bob.wantOrder(id, "sold_out")
	read("ann@b.de", "tshirt", "accepted")
	read("bob@b.de", "mug", "sold_out")
	wantProblem(t, get(t, "http://"+addr+"/orders/"+id.String()+"?email=eve@b.de"), 404)
	for _, b := range []struct {
		*screen
		email string
	}{{ann, "ann@b.de"}, {bob, "bob@b.de"}} {
		last := bought(t, buy(t, addr, `{"email":"`+b.email+`","product":"tshirt"}`))
		broadcast(s, w.decide(t)...)
		b.wantOrder(last, "accepted") // and nothing in between
	}
}

// An order published by hand may have the id of another buyer's key. That key can then
// not be used for the same product; for other products it can.
func TestAKeysIDPublishedByHand(t *testing.T) {
	for _, c := range []struct {
		email   sale.Email
		product sale.ProductID
		status  int
	}{{"eve@b.de", "tshirt", 422}, {"eve@b.de", "mug", 202}, {"a@b.de", "mug", 202}, {"a@b.de", "tshirt", 202}} {
		w := newTown(t, "tshirt", "mug")
		_, addr := open(t, w, nil)
		id := sale.KeyedID("a@b.de", "tshirt", "k")
		w.publish(t, id, c.email, c.product)
		for range 2 {
			r := buy(t, addr, `{"email":"a@b.de","product":"tshirt"}`, "Idempotency-Key", "k")
			if r.StatusCode != c.status || strings.Contains(r.body, "eve") {
				t.Errorf("%s of %s: %d %s", c.product, c.email, r.StatusCode, r.body)
			}
			if c.status == 202 && (bought(t, r) != id || !strings.Contains(r.body, `"product":"tshirt"`)) {
				t.Errorf("%s of %s: %s", c.product, c.email, r.body)
			}
		}
	}
}

// While requests with one key wait for the first of them, an order published by hand
// takes their id. They get their own order all the same (P7).
func TestAWaitingRequestGetsItsOwnOrder(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	id := sale.KeyedID("a@b.de", "tshirt", "k")
	f, _ := s.flights.join(id, 1)
	got := make(chan reply, 1)
	go func() {
		r, _ := trySend("POST", "http://"+addr+"/buy", orderBody("a@b.de"), "Content-Type", asJSON, "Idempotency-Key", "k")
		got <- r
	}()
	awaitTrue(t, "it waits", func() bool { return inAwait() == 1 })
	w.publish(t, id, "eve@b.de", "tshirt")
	f.status, f.err = sale.Status{Order: sale.Order{ID: id, Email: "a@b.de", Quantity: 1}, Product: "tshirt"}, nil
	s.flights.finish(id, f, time.Now())
	if r := <-got; r.Response == nil || bought(t, r) != id || !strings.Contains(r.body, `"email":"a@b.de"`) {
		t.Errorf("%+v", r)
	}
}
