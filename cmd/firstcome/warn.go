package main

import (
	"fmt"

	"firstcome/internal/sale"
)

// warnProducts tells where what is sold is not what the configuration says: that
// counts only while a product is new.
func (in *instance) warnProducts() {
	for _, p := range in.cfg.Products {
		stock, sold := in.shop.Product(sale.ProductID(p.ID))
		switch {
		case !sold && !in.cfg.NATS.Provision:
			in.log.Warn("not sold until an admin runs firstcome provision", "product", p.ID)
		case sold && stock.LimitPerBuyer != p.LimitPerBuyer:
			in.log.Warn("the stored limit_per_buyer holds, not the configured one",
				"product", p.ID, "stored", stock.LimitPerBuyer, "configured", p.LimitPerBuyer,
				"change", fmt.Sprintf("firstcome stock set %s --limit-per-buyer %d", p.ID, p.LimitPerBuyer))
		}
	}
}

// warnFull tells once that the book is full, which it stays: nothing is forgotten.
func (in *instance) warnFull() {
	if in.toldFull || !in.book.Full() {
		return
	}
	in.toldFull = true
	in.log.Warn("the book is full: new orders are refused until book.max_orders is raised", "max_orders", in.cfg.Book.MaxOrders)
}
