package broker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// A line as long as a message may be is buried, cut: it would stop the queue for good
// otherwise (P5).
func TestLongestLineIsBuried(t *testing.T) {
	t.Parallel()
	ctx, c := alone(t, "")
	stream, err := c.js.CreateStream(ctx, jetstream.StreamConfig{Name: deadStream, Subjects: []string{deadPrefix + "*"}})
	if err != nil {
		t.Fatal(err)
	}
	raw := bytes.Repeat([]byte("x"), int(c.orders.MaxPayload()))
	letter := sale.DeadLetter{Product: "shirt", Epoch: "2026-03-01T08:00:00Z", Seq: 1, Line: 1, Reason: "it is no order", Raw: raw}
	if err := NewDeadLetters(c).Bury(ctx, letter); err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetMsg(ctx, 1)
	if err != nil || !bytes.HasPrefix(raw, msg.Data) || len(msg.Data) < len(raw)/2 || !strings.Contains(msg.Header.Get(headerReason), "cut from") {
		t.Errorf("%d bytes, %v, %v", len(msg.Data), msg.Header, err)
	}
}

// A server that could not take the largest group is refused at the start.
func TestCheckAsksForRoom(t *testing.T) {
	t.Parallel()
	ctx, c := alone(t, "max_payload: 64KB\n")
	if err := c.Check(ctx); !errors.Is(err, ErrTooOld) || !strings.Contains(err.Error(), "max_payload") {
		t.Errorf("%v", err)
	}
}

// What the client dropped of the broadcasts is made up for like what was missed
// while it was away (P6). A pull that was not read is nobody's loss.
func TestDroppedBroadcastsAreMadeUpFor(t *testing.T) {
	t.Parallel()
	c := &Conn{}
	returned := 0
	c.OnReturn(func() { returned++ })
	for role, want := range map[string]int{ordersRole: 0, broadcastRole: 1} {
		returned = 0
		c.asyncError(role, slog.New(slog.DiscardHandler), nil, nats.ErrSlowConsumer)
		if returned != want {
			t.Errorf("%s: told %d times", role, returned)
		}
	}
}

// What happens to groups is what Failing judges by.
func TestGroupsAreNoted(t *testing.T) {
	t.Parallel()
	ctx, c := alone(t, "")
	in := NewIntake(c, sale.NewBook(10), NewAnnouncer(c), nil, Grouping{MaxOrders: 1, InFlight: 1})
	order := sale.Order{ID: sale.KeyedID("a@b.de", "shirt", "k"), Email: "a@b.de", Quantity: 1}
	if err := in.Place(ctx, "shirt", order); !errors.Is(err, sale.ErrUnavailable) {
		t.Fatalf("without a queue: %v", err)
	}
	if f := in.outage.Load(); f == nil || !errors.Is(f.err, sale.ErrUnavailable) {
		t.Errorf("it was not noted: %v", f)
	}
	if _, err := c.js.CreateStream(ctx, jetstream.StreamConfig{Name: ordersStream, Subjects: []string{"orders.shirt"}}); err != nil {
		t.Fatal(err)
	}
	if err := in.Place(ctx, "shirt", order); err != nil {
		t.Fatal(err)
	}
	if f := in.outage.Load(); f != nil {
		t.Errorf("stored, it fails: %v", f.err)
	}
	if err := in.Close(ctx); err != nil {
		t.Error(err)
	}
}

// Whose message could not be looked at has the pin all the same, and gives it back.
func TestPinComesWithTheMessage(t *testing.T) {
	t.Parallel()
	_, c := alone(t, "")
	sub, err := c.orders.SubscribeSync("nothing")
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	q := NewQueue(c, "shirt", Witnesses{})
	msg := &nats.Msg{Sub: sub, Reply: "$JS.ACK.ORDERS.shirt.1.7.0.1700000000000000000.0"} // the consumer's count went back
	if d, err := q.delivery(gone, msg); err == nil || !q.pinned {
		t.Errorf("%v, %v; pinned: %v", d, err, q.pinned)
	}
}
