package broker_test

import (
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
