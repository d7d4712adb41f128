package broker

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

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
