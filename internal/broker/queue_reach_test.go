package broker

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/natsd"
	"firstcome/internal/sale"
)

// A queue is not opened whose consumer has passed over a message that nobody decided.
func TestConsumerThatPassedOverAMessage(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := natsd.Start(ctx, natsd.Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	c, err := Connect(Options{InProcess: server})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := Provision(ctx, c, Layout{Replicas: 1, MaxMessages: 100, Products: []Product{{ID: "shirt", Supply: 9}, {ID: "mug", Supply: 9}}}); err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"orders.shirt", "orders.mug", "desk.shirt", "orders.mug", "orders.mug"} {
		if _, err := c.js.Publish(ctx, subject, []byte("a message")); err != nil {
			t.Fatal(err)
		}
	}
	q := NewQueue(c, "shirt", Witnesses{})
	if _, err := q.readEpoch(ctx); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		delivered uint64
		pending   int
		newest    sale.Position
		says      string // "": it reaches all
	}{
		"nothing was handed out":            {0, 0, sale.Position{Epoch: q.epoch}, ""},
		"the first is in a hand":            {1, 1, sale.Position{Epoch: q.epoch}, ""},
		"the first was decided":             {1, 0, sale.Position{Epoch: q.epoch, Seq: 1}, ""},
		"both were decided":                 {3, 0, sale.Position{Epoch: q.epoch, Seq: 3}, ""},
		"others are those of other queues":  {5, 0, sale.Position{Epoch: q.epoch, Seq: 3}, ""},
		"the first was passed over":         {1, 0, sale.Position{Epoch: q.epoch}, "message 1,"},
		"the desk's was passed over":        {3, 0, sale.Position{Epoch: q.epoch, Seq: 1}, "message 3,"},
		"one was, and links are of earlier": {1, 0, sale.Position{Epoch: "2020-01-01T00:00:00Z", Seq: 9}, "message 1,"},
	} {
		info := &jetstream.ConsumerInfo{NumAckPending: c.pending, Delivered: jetstream.SequenceInfo{Stream: c.delivered}}
		err := q.reaches(ctx, info, c.newest)
		if (err == nil) != (c.says == "") || err != nil && (!errors.Is(err, sale.ErrBehind) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
