package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"syscall"
	"testing"

	"firstcome/internal/broker"
	"firstcome/internal/natsd"
)

// onMessage is a log that does something when a message is logged, there and then.
type onMessage struct {
	slog.Handler
	message string
	do      func()
}

func (h onMessage) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.message {
		h.do()
	}
	return nil
}

func (h onMessage) Enabled(context.Context, slog.Level) bool { return true }
func (h onMessage) WithAttrs([]slog.Attr) slog.Handler       { return h }

// starting is an instance on free ports with a store of its own, which does
// something when that message is logged.
func starting(t *testing.T, message string, do func(*instance)) *instance {
	t.Helper()
	cfg := defaultConfig()
	cfg.HTTP.Listen, cfg.Ops.Listen, cfg.NATS.Embedded.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.NATS.Embedded.StoreDir = t.TempDir()
	cfg.Products = []productConfig{{ID: "tshirt", Stock: 5}}
	in := newInstance(cfg, nil)
	in.log = slog.New(onMessage{slog.DiscardHandler, message, func() { do(in) }})
	return in
}

// A stream that is not there yet when the parts look for it is waited for, like
// everything else of a cluster.
func TestStartWaitsForTheStreams(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	waited := 0
	in := starting(t, "waiting for the streams", func(in *instance) {
		waited++
		if err := broker.Provision(ctx, in.conn, in.cfg.layout()); err != nil {
			t.Errorf("provision: %v", err)
		}
	})
	var err error
	in.nats, err = natsd.Start(ctx, natsd.Config{Listen: in.cfg.NATS.Embedded.Listen, StoreDir: in.cfg.NATS.Embedded.StoreDir,
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if in.conn, err = broker.Connect(broker.Options{InProcess: in.nats}); err != nil {
		t.Fatal(err)
	}
	if err := in.build(ctx); err != nil || waited != 1 {
		t.Errorf("it waited %d times: %v", waited, err)
	}
	if _, ok := in.book.Only(); !ok || in.deciders == nil {
		t.Error("it does not sell what came")
	}
	if err := in.stop(); err != nil {
		t.Error(err)
	}
}

// An instance answers every connection: while it waits for NATS its port is
// closed. A port that it could not have ends the start all the same before that.
func TestPortIsClosedWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	waited := 0
	in := starting(t, "waiting for NATS", func(in *instance) {
		waited++
		if conn, err := net.Dial("tcp", in.cfg.HTTP.Listen); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dialling it: %v, %v", conn, err)
		}
		cancel()
	})
	free := rand.New(rand.NewPCG(rand.Uint64(), 0))
	in.cfg.HTTP.Listen = fmt.Sprintf("127.0.0.1:%d", freePort(t, free))
	in.cfg.NATS.URL = fmt.Sprintf("nats://127.0.0.1:%d", freePort(t, free))
	if err := in.run(ctx, serveOptions{}); err != nil || waited != 1 {
		t.Errorf("it waited %d times: %v", waited, err)
	}

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	late := starting(t, "waiting for NATS", func(*instance) { t.Error("it waits for NATS") })
	late.cfg.HTTP.Listen, late.cfg.NATS.URL = taken.Addr().String(), in.cfg.NATS.URL
	if err := late.run(bounded(t), serveOptions{}); !errors.Is(err, syscall.EADDRINUSE) || !strings.HasPrefix(err.Error(), "http.listen: ") {
		t.Errorf("it ended with %v", err)
	}
}

// What a start waits for may need a part that has failed meanwhile.
func TestStartEndsWithAPartThatFails(t *testing.T) {
	t.Parallel()
	ctx := bounded(t)
	in := starting(t, "waiting for NATS", func(in *instance) {
		if err := in.nats.Stop(ctx); err != nil {
			t.Errorf("stop NATS: %v", err)
		}
	})
	in.cfg.NATS.Provision = false // and nobody else does it
	err := in.run(ctx, serveOptions{ready: func(addresses) { t.Error("it is ready") }})
	if err == nil || !strings.Contains(err.Error(), "the embedded NATS server ended") || ctx.Err() != nil {
		t.Errorf("it ended with %v", err)
	}
}
