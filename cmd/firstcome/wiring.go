package main

import (
	"fmt"
	"log/slog"
	"time"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
	"firstcome/internal/web"
)

// options say how to reach NATS.
func (c natsConfig) options(log *slog.Logger) broker.Options {
	return broker.Options{URLs: c.URL, Name: "firstcome", Credentials: c.Credentials,
		User: c.User, Password: string(c.Password), Token: string(c.Token),
		CA: c.TLS.CA, Cert: c.TLS.Cert, Key: c.TLS.Key, Log: log}
}

// layout is what must exist in JetStream.
func (c config) layout() (broker.Layout, error) {
	l := broker.Layout{Replicas: c.NATS.Replicas, MaxMessages: c.Queue.MaxMessages}
	for _, p := range c.Products {
		stock, err := sale.NewStock(sale.ProductID(p.ID), p.Stock, p.LimitPerBuyer)
		if err != nil {
			return l, fmt.Errorf("product %s: %w", p.ID, err)
		}
		l.Products = append(l.Products, stock)
	}
	return l, nil
}

// grouping is how orders are put together. While work per order is imitated, each
// goes alone: grouped, they would share one order's time.
func (c config) grouping() broker.Grouping {
	g := broker.Grouping{MaxOrders: c.Group.MaxOrders, MaxWait: c.Group.MaxWait, InFlight: c.Group.InFlight, Worth: broker.Worth}
	if c.Worker.ProcessingTime > 0 {
		g.MaxOrders = 1
	}
	return g
}

func (in *instance) newWeb(o serveOptions) (*web.Server, error) {
	return web.New(web.Config{
		Queue: in.intake, Shop: in.shop, Follower: in.follower, Book: in.book,
		AllowedOrigins: in.cfg.HTTP.AllowedOrigins, AllowLoopbackOrigins: o.demo,
		TrustedProxies: in.cfg.HTTP.TrustedProxies,
		PerAddress:     float64(in.cfg.Limits.PerAddress), PerBuyer: float64(in.cfg.Limits.PerBuyer),
		Log: in.log, Now: time.Now,
	})
}
