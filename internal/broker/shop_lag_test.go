package broker_test

import (
	"bytes"
	"fmt"
	"testing"

	"firstcome/internal/sale"
)

// TestCatchUpOutrunsADeafWatch: with the broker that kept an instance's consumers
// they are gone, and the watch notices much later. The readers do not wait for it.
func TestCatchUpOutrunsADeafWatch(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		c := w.sell(t, 5, "shirt")
		r := follow(t, w.connect(t))
		r.caughtUp(t)
		js := w.admin(t)
		stream, err := js.Stream(within(t), "KV_stock")
		if err != nil {
			t.Fatal(err)
		}
		for name := range stream.ConsumerNames(within(t)).Name() {
			if err := stream.DeleteConsumer(within(t), name); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 { // a new one besides older ones
			if _, err := openStocks(t, c).Change(within(t), "shirt", func(s sale.Stock) (sale.Stock, error) { return s.Supply(1) }); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.CatchUp(within(t)); err != nil { // gives up long before the watch is back
			t.Error(err)
		}
		if !available(r.shop, "shirt", 8)() {
			t.Error("the shop does not know what was changed before it was asked")
		}
	})
}

// TestCatchUpOutrunsADeafFeed: the same with the consumer that brings the ledger.
func TestCatchUpOutrunsADeafFeed(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.sell(t, 5, "shirt")
		g := w.gate()
		r := follow(t, dial(t, w.options(t, g)))
		r.caughtUp(t)
		g.losing(func(frame []byte) bool { return bytes.Contains(frame, []byte("$JS.ACK.LEDGER.")) })
		js := w.admin(t)
		stop := w.work(t, "shirt") // its book is another one
		orders := make([]sale.Order, 3)
		for i := range orders { // an entry each
			orders[i] = newOrder(fmt.Sprintf("a%d@x.com", i))
			publishOrders(t, js, "shirt", orders[i])
		}
		eventually(t, "they are decided", func() bool { return len(w.read(t, "LEDGER")) == len(orders) })
		stop()
		r.caughtUp(t)
		for _, o := range orders {
			r.wantStatus(t, o, "shirt", sale.Accepted)
		}
	})
}
