package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
	"firstcome/internal/web"
)

// opsServer is the operator's port: probes, metrics and profiles.
type opsServer struct {
	http  *http.Server
	ready atomic.Pointer[readiness] // nil before the start and after the stop
}

// newOpsServer answers to the host that it listens on, too: it was configured as well.
func newOpsServer(cfg opsConfig, registry prometheus.Gatherer) *opsServer {
	o := &opsServer{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", o.readyz)
	mux.HandleFunc("GET /sellz", o.sellz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	hosts := cfg.Hosts
	if host, _, err := net.SplitHostPort(cfg.Listen); err == nil {
		hosts = append(slices.Clone(hosts), host)
	}
	o.http = &http.Server{Handler: web.NewHosts("ops.hosts", hosts...).Guard(mux), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	return o
}

// open says that the instance is built, and what its readiness hangs on.
func (o *opsServer) open(r readiness) { o.ready.Store(&r) }

// refuse says that the instance is about to stop.
func (o *opsServer) refuse() { o.ready.Store(nil) }

// readyz is 200 from the opening of http.listen to the beginning of the stop, save while
// no broker has been connected for a while: then another instance serves buyers better.
// A lost quorum, a full book or a stuck product leave it 200. They are the same on every
// instance, and without any the page and known orders would be gone, too.
func (o *opsServer) readyz(w http.ResponseWriter, _ *http.Request) {
	switch r := o.ready.Load(); {
	case r == nil:
		http.Error(w, "starting or stopping", http.StatusServiceUnavailable)
	case r.conn.Away() > awayTime:
		http.Error(w, "NATS is away", http.StatusServiceUnavailable)
	default:
		fmt.Fprintln(w, "ready")
	}
}

// awayTime is how long an instance may be without any broker and stay ready.
const awayTime = 10 * time.Second

// sellz is 200 if orders of every product can be queued and decided, whether its door is
// open or not. The body names each product either way.
func (o *opsServer) sellz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	products, sells := o.ready.Load().products(ctx)
	w.Header().Set("Content-Type", "application/json")
	if !sells {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(struct { // a caller that is gone needs no answer
		Products []productHealth `json:"products"`
	}{products})
}

// productHealth is what /sellz says of a product.
type productHealth struct {
	ID     sale.ProductID `json:"id"`
	State  sale.State     `json:"state"`
	Reason string         `json:"reason"` // why its orders cannot be queued or decided; "" if they can
}

// readiness is what an instance needs to sell.
type readiness struct {
	conn        *broker.Conn
	feed        *broker.Feed
	book        *sale.Book
	intake      *broker.Intake
	maxMessages int64
}

// products tells of each product whether its orders can be queued and decided, and
// whether that holds for all.
func (r *readiness) products(ctx context.Context) (products []productHealth, sells bool) {
	if r == nil {
		return []productHealth{}, false
	}
	reason := ""
	if err := r.check(ctx); err != nil {
		reason = err.Error()
	}
	products, sells = []productHealth{}, reason == ""
	now := time.Now()
	for _, p := range r.book.Products() {
		h := productHealth{ID: p.Product, State: p.State(now), Reason: cmp.Or(p.Stuck, reason)}
		sells = sells && h.Reason == ""
		products = append(products, h)
	}
	return products, sells
}

// check is what holds for all products.
func (r *readiness) check(ctx context.Context) error {
	if !r.conn.Connected() {
		return errors.New("NATS is away")
	}
	if err := r.feed.CatchUp(ctx); err != nil {
		return err
	}
	if r.book.Full() {
		return errors.New("the book is full: raise book.max_orders")
	}
	if room := r.maxMessages - min(100, r.maxMessages/100); r.book.Queued() >= room { // the rest is the desk's
		return errors.New("the queue is full: " + strconv.FormatInt(r.book.Queued(), 10) + " messages wait")
	}
	return r.intake.Failing()
}

// serve returns nil once stop was called.
func (o *opsServer) serve(ln net.Listener) error {
	if err := o.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("the operator's port: %w", err)
	}
	return nil
}

func (o *opsServer) stop(ctx context.Context) error { return o.http.Shutdown(ctx) }
