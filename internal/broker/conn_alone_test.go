package broker

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/natsd"
	"firstcome/internal/sale"
)

// alone connects to a server of its own, with these lines of configuration.
func alone(t *testing.T, lines string) (context.Context, *Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	srv, err := natsd.Start(ctx, natsd.Config{Listen: "127.0.0.1:0", ConfigFile: file, StoreDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	c, err := Connect(Options{InProcess: srv})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return ctx, c
}

// A queue that is there and did not answer is not a product that nobody sells.
func TestWhyNobodyTookAnOrder(t *testing.T) {
	t.Parallel()
	ctx, c := alone(t, "")
	if err := c.whyNobodyTook(ctx, "shirt"); !errors.Is(err, sale.ErrUnknownProduct) {
		t.Errorf("without a queue: %v", err)
	}
	if _, err := c.js.CreateStream(ctx, jetstream.StreamConfig{Name: ordersStream, Subjects: []string{"orders.shirt"}}); err != nil {
		t.Fatal(err)
	}
	if err := c.whyNobodyTook(ctx, "shirt"); !errors.Is(err, sale.ErrUnavailable) {
		t.Errorf("of the queue's product: %v", err)
	}
	if err := c.whyNobodyTook(ctx, "mug"); !errors.Is(err, sale.ErrUnknownProduct) {
		t.Errorf("of another product: %v", err)
	}
}

// withoutJetStream starts a server that answers nothing of JetStream.
func withoutJetStream(t *testing.T) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, ServerName: "deaf"})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server did not start")
	}
	return s
}

// A cluster whose servers have just started knows them one by one.
func TestCreationWaitsForTheServers(t *testing.T) {
	t.Parallel()
	plain := withoutJetStream(t)
	c, err := Connect(Options{URLs: plain.ClientURL()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	asked := 0
	if _, err := c.broadcast.Subscribe("$JS.API.STREAM.CREATE.ORDERS", func(m *nats.Msg) {
		answer := `{"error":{"code":400,"err_code":10005,"description":"no suitable peers for placement"}}`
		if asked++; asked == 3 {
			answer = `{"config":{"name":"ORDERS"},"created":"2026-03-01T08:00:00Z","state":{}}`
		}
		if err := m.Respond([]byte(answer)); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := c.broadcast.Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := createStream(ctx, c, jetstream.StreamConfig{Name: ordersStream}); err != nil || asked != 3 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}
