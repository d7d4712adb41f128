package broker_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// odd are headers that any publisher can write, and that look like words of
// the server's.
var odd = []nats.Header{
	{"Status": {"100"}}, // a heartbeat
	{"Status": {"204"}, "Description": {"EOB"}},
	{"Status": {"404"}},
	{"Status": {"408"}},
	{"Status": {"409"}, "Description": {"Consumer Deleted"}},
	{"Status": {"423"}},
	{"Status": {"503"}}, // nobody answers
	{"Nats-Pin-Id": {"mine"}},
	{"Nats-Sequence": {"9000000"}},
	{"Nats-Sequence": {"x"}},
	{"Nats-Time-Stamp": {"yesterday"}},
	{"Nats-Subject": {"orders.mug"}},
	{"Nats-Num-Pending": {"0"}},
	{"Nats-Stream": {"KV_stock"}},
}

// publishOdd publishes an empty message and an order under each of the headers, and
// returns the orders.
func publishOdd(t testing.TB, js jetstream.JetStream) (orders []sale.Order) {
	t.Helper()
	for _, header := range odd {
		o := newOrder("odd@x.com")
		for _, data := range [][]byte{nil, lines([]sale.Order{o})} {
			msg := &nats.Msg{Subject: "orders.shirt", Header: nats.Header{}, Data: data}
			for key, values := range header {
				msg.Header[key] = values
			}
			if _, err := js.PublishMsg(within(t), msg); err != nil {
				t.Fatal(err)
			}
		}
		orders = append(orders, o)
	}
	return orders
}

// Whatever a message says of itself, it is decided or buried and holds nobody up
// (P3, P5), and the deciding instance goes on.
func TestDecidedWhateverTheHeaders(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.slowly() // a pin that runs out is another's
		js := w.admin(t)
		r := follow(t, w.sell(t, 50, "shirt", "mug"))
		r.caughtUp(t)
		w.work(t, "shirt")
		before := newOrder("before@x.com")
		publishOrders(t, js, "shirt", before)
		accepted := func(o sale.Order) bool {
			s, known := r.book.Status(o.ID, o.Email)
			return known && s.Outcome == sale.Accepted && s.Product == "shirt"
		}
		eventually(t, "the first order is accepted", func() bool { return accepted(before) })
		pin := pinned(t, js)
		for _, o := range publishOdd(t, js) {
			eventually(t, "the orders with odd headers are accepted", func() bool { return accepted(o) })
		}
		if now := pinned(t, js); now != pin || pin == "" {
			t.Errorf("the product went from %q to %q", pin, now)
		}
		if n := len(w.letters(t)); n != len(odd) {
			t.Errorf("%d dead letters, want the %d messages without an order", n, len(odd))
		}
	})
}

// A waiting order is known whatever its message's headers are, to an instance that starts
// after it and to one that hears it.
func TestWaitingWhateverTheHeaders(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		js := w.admin(t)
		c := w.sell(t, 50, "shirt", "mug")
		early := follow(t, c)
		early.caughtUp(t)
		waiting := append(publishOdd(t, js), newOrder("last@x.com"))
		publishOrders(t, js, "shirt", waiting[len(waiting)-1])
		late := follow(t, w.connect(t))
		for _, r := range []*reader{early, late} {
			r.caughtUp(t)
			for _, o := range waiting {
				r.wantStatus(t, o, "shirt", sale.Pending)
			}
		}
	})
}
