package broker

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Servers that are away may come back, so it is no limit, but the log says which setting
// asks for more than there are.
func TestTooFewServersNameTheReplicas(t *testing.T) {
	t.Parallel()
	err := limitError(&jetstream.APIError{Code: 400, ErrorCode: noPeers, Description: "no suitable peers for placement"})
	if Final(err) || !strings.Contains(err.Error(), "nats.replicas") {
		t.Error(err)
	}
}

// A start without products waits while it cannot be told whether the store has any.
func TestNoProductIsSaidOfAStoreThatAnswers(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]bool{
		`{"error":{"code":404,"err_code":10059,"description":"stream not found"}}`:                         true,
		`{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`: false,
	} {
		c, err := Connect(Options{URLs: withoutJetStream(t).ClientURL()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.broadcast.Subscribe("$JS.API.STREAM.INFO.KV_stock", func(m *nats.Msg) { _ = m.Respond([]byte(answer)) }); err != nil {
			t.Fatal(err)
		}
		if err := c.broadcast.Flush(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := ProvisionSold(ctx, c); err == nil || errors.Is(err, ErrNoProduct) != want {
			t.Errorf("%s: %v", answer, err)
		}
	}
}
