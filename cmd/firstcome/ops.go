package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
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

// readyz is 200 only while orders can be queued and decided: NATS answers for
// both streams, the book is up to date, orders are stored if there are any, and not
// every worker is stuck.
func (o *opsServer) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := o.ready.Load().check(ctx); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// readiness is what an instance needs to sell.
type readiness struct {
	conn     *broker.Conn
	feed     *broker.Feed
	book     *sale.Book
	intake   *broker.Intake
	deciders *deciders
}

func (r *readiness) check(ctx context.Context) error {
	switch {
	case r == nil:
		return errors.New("starting or stopping")
	case !r.conn.Connected():
		return errors.New("NATS is away")
	}
	if err := r.feed.CatchUp(ctx); err != nil {
		return err
	}
	if r.book.Full() {
		return errors.New("the book is full: raise book.max_orders")
	}
	if err := r.intake.Failing(); err != nil {
		return err
	}
	return r.deciders.stuck()
}

// serve returns nil once stop was called.
func (o *opsServer) serve(ln net.Listener) error {
	if err := o.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("the operator's port: %w", err)
	}
	return nil
}

func (o *opsServer) stop(ctx context.Context) error { return o.http.Shutdown(ctx) }
