package broker

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/natsd"
	"firstcome/internal/sale"
)

// A queue that is there and did not answer is not a product that nobody sells.
func TestWhyNobodyTookAnOrder(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	srv, err := natsd.Start(ctx, natsd.Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Stop(ctx)
	c, err := Connect(Options{InProcess: srv})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
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
