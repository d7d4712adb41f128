package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"os"
	"regexp"
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
func (c config) layout() broker.Layout {
	l := broker.Layout{Replicas: c.NATS.Replicas, MaxMessages: c.Queue.MaxMessages}
	for _, p := range c.Products {
		l.Products = append(l.Products, broker.Product{ID: sale.ProductID(p.ID), Supply: p.Stock, LimitPerBuyer: p.LimitPerBuyer})
	}
	return l
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

func newWeb(cfg config, demo bool, queue web.Queue, feed web.Feed, book *sale.Book, log *slog.Logger) (*web.Server, error) {
	room := web.ConnectionRoom()
	if room > 0 {
		log.Info("as many connections of buyers fit as the limit of open files (ulimit -n) leaves room for", "connections", room)
	}
	listings, err := cfg.listings()
	if err != nil {
		return nil, err
	}
	return web.New(web.Config{
		Queue: queue, Feed: feed, Book: book, MaxMessages: cfg.Queue.MaxMessages, Listings: listings,
		AllowedOrigins: cfg.HTTP.AllowedOrigins, AllowLoopbackOrigins: demo,
		TrustedProxies: cfg.HTTP.TrustedProxies, Hosts: cfg.HTTP.Hosts,
		PerAddress: float64(cfg.Limits.PerAddress), PerBuyer: float64(cfg.Limits.PerBuyer),
		SocketsPerAddress: cfg.Limits.SocketsPerAddress, SocketsPerBuyer: cfg.Limits.SocketsPerBuyer,
		MaxConnections: room, MaxHeaderBytes: cfg.HTTP.MaxHeaderBytes, IdleTimeout: cfg.HTTP.IdleTimeout,
		Log: log, Now: time.Now,
	})
}

// listings are how the products are shown.
func (c config) listings() ([]web.Listing, error) {
	all := make([]web.Listing, len(c.Products))
	for i, p := range c.Products {
		all[i] = web.Listing{Product: sale.ProductID(p.ID), Title: p.Title, Description: p.Description, Price: p.Price, NextURL: p.NextURL}
		if p.Image == "" {
			continue
		}
		var err error
		if all[i].Image, err = web.ReadImage(p.Image); err != nil {
			return nil, fmt.Errorf("%s.image: %w", index("products", i), err)
		}
	}
	return all, nil
}

// defaultName tells this instance from every other one, also on the same host and after
// a restart: it stands in every link that the instance decides.
func defaultName() string {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	host = regexp.MustCompile(`[^A-Za-z0-9._-]+`).ReplaceAllString(host, "-")
	var random [2]byte
	_, _ = rand.Read(random[:]) // it never fails (crypto/rand)
	return fmt.Sprintf("%.59s-%s", host, hex.EncodeToString(random[:]))
}

// warnOpen tells at every start what anybody who reaches this machine may do.
func warnOpen(cfg config, log *slog.Logger) {
	if !onLoopback(cfg.Ops.Listen) {
		log.Warn("the operator's port asks nobody for a password and listens beyond this machine: keep it off the public network",
			"ops.listen", cfg.Ops.Listen)
	}
	if e := cfg.NATS.Embedded; cfg.NATS.URL == "" && e.Config == "" && !onLoopback(e.Listen) {
		log.Warn("the embedded NATS server asks nobody for a password and listens beyond this machine: anybody there can order and steer; set nats.embedded.config with users",
			"nats.embedded.listen", e.Listen)
	}
}

// onLoopback reports whether only this machine reaches the address. A name that cannot
// be looked up cannot be listened on, either.
func onLoopback(address string) bool {
	at, err := net.ResolveTCPAddr("tcp", address)
	return err == nil && at.IP.IsLoopback()
}

// warnProducts tells where what is sold is not what the configuration says: that
// counts only while a product is new.
func warnProducts(cfg config, book *sale.Book, log *slog.Logger) {
	for _, p := range cfg.Products {
		product, sold := book.Product(sale.ProductID(p.ID))
		switch {
		case !sold && !cfg.NATS.Provision:
			log.Warn("not sold until an admin runs firstcome provision", "product", p.ID)
		case sold && product.LimitPerBuyer != p.LimitPerBuyer:
			log.Warn("the stored limit_per_buyer holds, not the configured one",
				"product", p.ID, "stored", product.LimitPerBuyer, "configured", p.LimitPerBuyer,
				"change", fmt.Sprintf("firstcome stock set %s --limit-per-buyer %d", p.ID, p.LimitPerBuyer))
		}
	}
}
