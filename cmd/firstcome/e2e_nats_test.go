package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// listener is a subscription to every status, as `nats sub 'status.>'` is one.
type listener struct {
	t   *testing.T
	sub *nats.Subscription
}

func listen(t *testing.T, nc *nats.Conn) *listener {
	t.Helper()
	sub, err := nc.SubscribeSync("status.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	return &listener{t, sub}
}

// outcome waits for the next final status on the token's subjects.
func (l *listener) outcome(token string) status {
	l.t.Helper()
	for {
		msg, err := l.sub.NextMsg(patience)
		if err != nil {
			l.t.Fatalf("no outcome for %s: %v", token, err)
		}
		var o status
		if err := json.Unmarshal(msg.Data, &o); err != nil {
			l.t.Fatalf("%s: %v", msg.Data, err)
		}
		if o.Status == "pending" || !strings.HasPrefix(msg.Subject, "status."+token+".") {
			continue
		}
		if want := "status." + token + "." + o.ID; msg.Subject != want {
			l.t.Errorf("broadcast on %s, want %s", msg.Subject, want)
		}
		return o
	}
}

// An order published by hand is a first-class order; what is no order goes to
// DEAD as it came, and holds nobody up.
func TestOrdersPublishedByHand(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	nc, js := jet(t, s.nats)
	heard := listen(t, nc)
	publish := func(data string) uint64 {
		t.Helper()
		return publish(t, js, "orders.tshirt", data)
	}

	before := time.Now()
	publish(`{"email":"cli@example.com"}`)
	o := heard.outcome("cli=40example=2Ecom")
	if o.Status != "accepted" || o.Quantity != 1 || o.Place != 1 || o.Email != "cli@example.com" || o.Rev == 0 {
		t.Errorf("the outcome is %+v", o)
	}
	if placed, err := time.Parse(time.RFC3339Nano, o.PlacedAt); err != nil || placed.Before(before.Add(-time.Second)) {
		t.Errorf("placed at %s, published at %s", o.PlacedAt, before)
	}
	if now := s.look(o); now != o {
		t.Errorf("broadcast as %+v, GET says %+v", o, now)
	}

	const garbage = `{"email":"Bob <a@b.cc>"`
	poison := publish(garbage)
	publish(`{"email":"Next@Example.com","quantity":2}`)
	if o := heard.outcome("next=40example=2Ecom"); o.Status != "accepted" || o.Quantity != 2 || o.Place != 2 {
		t.Errorf("the order after the garbage became %+v", o)
	}
	mixed := publish(strings.Join([]string{
		`{"email":"mix1@example.com"}` + "\r",
		``,
		`nonsense`,
		`{"email":"mix2@example.com","quantity":0}`,
		`{"email":"mix3@example.com","colour":"red","quantity":null}`,
	}, "\n"))
	if o := heard.outcome("mix1=40example=2Ecom"); o.Status != "accepted" || o.Place != 3 {
		t.Errorf("the first line became %+v", o)
	}
	if o := heard.outcome("mix3=40example=2Ecom"); o.Status != "accepted" || o.Place != 4 {
		t.Errorf("the last line became %+v", o)
	}
	hollow := publish("\n\r\n")
	publish(`{"email":"*@x.com"}`) // legal, and no wildcard anywhere
	if o := heard.outcome("=2A=40x=2Ecom"); o.Status != "sold_out" || o.Place != 5 {
		t.Errorf("the sixth unit became %+v", o)
	}

	_, value := stockValue(t, js)
	var stock struct {
		Queue struct{ Epoch string }
	}
	if err := json.Unmarshal(value.Value(), &stock); err != nil {
		t.Fatal(err)
	}
	want := []struct {
		seq  uint64
		line int
		body string
	}{
		{poison, 1, garbage},
		{mixed, 2, `nonsense`},
		{mixed, 3, `{"email":"mix2@example.com","quantity":0}`},
		{hollow, 1, "\n\r\n"},
	}
	dead := stored(t, js, "DEAD")
	if len(dead) != len(want) {
		t.Fatalf("%d dead letters, want %d", len(dead), len(want))
	}
	for i, w := range want {
		d := dead[i]
		if d.Subject != "dead.tshirt" || string(d.Data) != w.body {
			t.Errorf("dead letter %s %q, want %q", d.Subject, d.Data, w.body)
		}
		for name, value := range map[string]string{
			"Firstcome-Seq":  fmt.Sprint(w.seq),
			"Firstcome-Line": fmt.Sprint(w.line),
			"Nats-Msg-Id":    fmt.Sprintf("%s-%d-%d", stock.Queue.Epoch, w.seq, w.line),
		} {
			if got := d.Header.Get(name); got != value {
				t.Errorf("dead letter %q has %s %q, want %q", d.Data, name, got, value)
			}
		}
		if d.Header.Get("Firstcome-Reason") == "" {
			t.Errorf("dead letter %q without a reason", d.Data)
		}
		if _, err := time.Parse(time.RFC3339Nano, d.Header.Get("Firstcome-At")); err != nil {
			t.Error(err)
		}
	}
	s.auditGreen()
	s.stop()
}

// Nobody sells a product of that name, so publishing fails at once.
func TestPublishForUnknownProduct(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	_, js := jet(t, s.nats)
	for _, subject := range []string{"orders.*", "orders.>", "orders.mug"} {
		_, err := js.Publish(bounded(t), subject, []byte(`{"email":"cli@example.com"}`), jetstream.WithRetryAttempts(0))
		if !errors.Is(err, jetstream.ErrNoStreamResponse) {
			t.Errorf("publish to %s: %v, want %v", subject, err, jetstream.ErrNoStreamResponse)
		}
	}
	if n := lastSeq(t, js, "ORDERS"); n != 0 {
		t.Errorf("%d messages were queued", n)
	}
	s.stop()
}

func TestBuyCommand(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	buy := func(args ...string) result {
		t.Helper()
		return cli(t, append([]string{"buy", "--nats", s.nats}, args...)...)
	}
	r := buy("--email", "cli@example.com", "--quantity", "4").want(t, 0, `"status":"accepted"`)
	var o status
	if err := json.Unmarshal([]byte(r.stdout), &o); err != nil {
		t.Fatalf("%s: %v", r.stdout, err)
	}
	if now := s.look(o); now != o {
		t.Errorf("the command printed %+v, GET says %+v", o, now)
	}
	buy("--email", "cli@example.com", "--product", "tshirt", "--quantity", "2").want(t, 1, `"status":"sold_out"`, "not accepted")
	buy("--email", "Bob <a@b.cc>").want(t, 2, "--email")
	buy("--email", "cli@example.com", "--quantity", "1001").want(t, 2, "--quantity")
	buy("--email", "cli@example.com", "--product", "Tee").want(t, 2, "--product")
	buy("--email", "cli@example.com", "--product", "mug").want(t, 1, "mug")
	s.auditGreen()
	s.stop()
}
