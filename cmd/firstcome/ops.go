package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// opsServer is the operator's port: probes, metrics and profiles.
type opsServer struct {
	in    *instance
	http  *http.Server
	ready atomic.Bool // built, and not stopping
}

func newOpsServer(in *instance) *opsServer {
	o := &opsServer{in: in}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", o.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(in.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	o.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	return o
}

// readyz is 200 only while orders can be queued and decided: NATS answers for
// both streams, the book is up to date, orders are stored if there are any, and not
// every worker is stuck.
func (o *opsServer) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := o.check(ctx); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (o *opsServer) check(ctx context.Context) error {
	in := o.in
	switch {
	case !o.ready.Load():
		return errors.New("starting or stopping")
	case !in.conn.Connected():
		return errors.New("NATS is away")
	}
	if err := in.follower.CatchUp(ctx); err != nil {
		return err
	}
	if in.book.Full() {
		return errors.New("the book is full: raise book.max_orders")
	}
	if err := in.intake.Failing(); err != nil {
		return err
	}
	if in.crew != nil {
		return in.crew.stuck()
	}
	return nil
}

// serve returns nil once stop was called.
func (o *opsServer) serve(ln net.Listener) error {
	if err := o.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("the operator's port: %w", err)
	}
	return nil
}

func (o *opsServer) stop(ctx context.Context) error { return o.http.Shutdown(ctx) }
