package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// impatient is an instance in this process that calls a product stuck after a second.
func impatient(t *testing.T, change func(*config)) *shop {
	t.Helper()
	cfg := defaultConfig()
	cfg.HTTP.Listen, cfg.Ops.Listen, cfg.NATS.Embedded.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.NATS.Embedded.StoreDir = t.TempDir()
	cfg.Products = []productConfig{{ID: "tshirt", Stock: 99}}
	change(&cfg)
	said := newTranscript()
	in := newInstance(cfg, newLogger(cfg.Log, said))
	in.stuckAfter = time.Second
	ctx, stop := context.WithCancel(context.Background())
	ready, p := make(chan addresses, 1), &process{t: t, said: said, done: make(chan struct{})}
	var err error
	go func() {
		defer close(p.done)
		err = in.run(ctx, serveOptions{ready: func(a addresses) { ready <- a }})
	}()
	t.Cleanup(func() {
		stop()
		if <-p.done; err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("an instance said:\n%s", said)
		}
	})
	select {
	case a := <-ready:
		return visit(p, a.http, a.ops, a.nats)
	case <-p.done:
		t.Fatalf("the instance ended: %v\n%s", err, said)
		return nil
	}
}

// serveOnly is an instance that decides nothing, and on its server another one.
func serveOnly(cfg *config) { cfg.Worker.Enabled = false }

// beside is a second instance, on the server of the first one.
func (s *shop) beside(cfg *config) { cfg.NATS.URL = s.nats }

// is tells whether the instance's API and metrics say the same of tshirt.
func (s *shop) is(state, metric string) bool {
	return s.product("tshirt").State == state &&
		strings.Contains(string(s.get("http://"+s.ops+"/metrics").body), `firstcome_product_stuck{product="tshirt"} `+metric+"\n")
}

// counts wants the log to have said something so often.
func (s *shop) counts(text string, times int) {
	s.t.Helper()
	if n := strings.Count(s.said.String(), text); n != times {
		s.t.Errorf("the log says %d times %q, want %d:\n%s", n, text, times, s.said)
	}
}

const saysStuck, saysOn = "a product is stuck", "a product goes on"

// take pulls a message as the instances do, without being one.
func take(t *testing.T, nc *nats.Conn) *nats.Msg {
	t.Helper()
	msg, err := ask(t, nc).NextMsg(patience)
	if err != nil || !strings.HasPrefix(msg.Reply, "$JS.ACK.") {
		t.Fatalf("the pull brought %+v, %v", msg, err)
	}
	return msg
}

// ask sends the pull of take, and returns where the message comes.
func ask(t testing.TB, nc *nats.Conn) *nats.Subscription {
	t.Helper()
	inbox := nats.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err == nil {
		err = nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT.ORDERS.tshirt", inbox, []byte(`{"batch":1,"expires":20000000000,"group":"deciders"}`))
	}
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

// steal takes an order of bob's from the instance that decides: once its pin is gone, the
// pull that waits is the stranger's.
func (s *shop) steal(nc *nats.Conn, orders jetstream.Stream) (stolen *nats.Msg) {
	t := s.t
	t.Helper()
	pull := ask(t, nc)
	eventually(t, "a stranger waits for a message", func() bool {
		consumer, err := orders.Consumer(bounded(t), "tshirt")
		return err == nil && consumer.CachedInfo().NumWaiting >= 2
	})
	eventually(t, "the stranger has an order", func() bool {
		if err := orders.UnpinConsumer(bounded(t), "tshirt", "deciders"); err != nil {
			t.Fatal(err)
		}
		s.buy("bob@example.com", 1).order(t)
		var err error
		stolen, err = pull.NextMsg(time.Second)
		return err == nil
	})
	return stolen
}

// A product of which nothing is decided has a closed door, on every instance, until it
// goes on (P3): here somebody has paused its consumer.
func TestPausedConsumer(t *testing.T) {
	t.Parallel()
	one := impatient(t, func(*config) {})
	both := []*shop{one, impatient(t, one.beside)}
	_, js := jet(t, one.nats)
	orders, err := js.Stream(bounded(t), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	one.buy("ann@example.com", 1).order(t)
	one.sold(1)
	if _, err := orders.PauseConsumer(bounded(t), "tshirt", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	key := []string{"Idempotency-Key", "cart-4711"}
	waits := one.buy("ann@example.com", 1, key...).order(t)
	for _, s := range both {
		eventually(t, "the product is stuck", func() bool { return s.is("stuck", "1") })
		refused := s.buy("bob@example.com", 1)
		refused.problem(t, http.StatusServiceUnavailable)
		if !strings.Contains(string(refused.body), `"urn:firstcome:stuck"`) || refused.header.Get("Retry-After") != "5" {
			t.Errorf("refused with %v: %s", refused.header, refused.body)
		}
		if again := s.buy("ann@example.com", 1, key...); again.order(t).ID != waits.ID || again.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("the replay is %s", again.body)
		}
		if a := s.get("http://" + s.ops + "/readyz"); a.code != http.StatusOK {
			t.Errorf("readyz: %d", a.code)
		}
		if a := s.get("http://" + s.ops + "/sellz"); a.code != http.StatusServiceUnavailable ||
			!strings.Contains(string(a.body), `{"id":"tshirt","state":"stuck","reason":"somebody paused the queue's consumer until `) {
			t.Errorf("sellz: %d %s", a.code, a.body)
		}
		s.await(`level=ERROR msg="` + saysStuck + `.*" product=tshirt cause="somebody paused the queue's consumer until `)
	}
	if n := lastSeq(t, js, "ORDERS"); n != 2 {
		t.Errorf("%d messages were stored, want 2: the door is closed", n)
	}
	if _, err := orders.ResumeConsumer(bounded(t), "tshirt"); err != nil {
		t.Fatal(err)
	}
	for _, s := range both {
		eventually(t, "the product goes on", func() bool { return s.is("open", "0") })
		s.await(`level=INFO msg="` + saysOn + `" product=tshirt`)
		s.counts(saysStuck, 1)
		s.counts(saysOn, 1)
		if now := s.look(waits); now.Status != "accepted" {
			t.Errorf("the order that waited is %s", now.Status)
		}
		if a := s.get("http://" + s.ops + "/sellz"); a.code != http.StatusOK || string(a.body) != `{"products":[{"id":"tshirt","state":"open","reason":""}]}`+"\n" {
			t.Errorf("sellz: %d %s", a.code, a.body)
		}
	}
	one.buy("bob@example.com", 1).order(t)
	one.sold(3)
	one.auditGreen()
}

// A consumer that somebody has edited counts none of the orders that it passes over. They
// are in the queue all the same, and do not count as gone (P3): where the server is the
// instance's own, the consumer is made again, and they are decided.
func TestConsumerOfOtherSubjects(t *testing.T) {
	t.Parallel()
	s := impatient(t, func(*config) {})
	_, js := jet(t, s.nats)
	consumer, err := js.Consumer(bounded(t), "ORDERS", "tshirt")
	if err != nil {
		t.Fatal(err)
	}
	wrong := consumer.CachedInfo().Config
	wrong.FilterSubjects = []string{"desk.tshirt"}
	if _, err := js.UpdateConsumer(bounded(t), "ORDERS", wrong); err != nil {
		t.Fatal(err)
	}
	waits := s.buy("ann@example.com", 1).order(t)
	s.await(`level=WARN msg="the queue's consumer passes over messages and is made again" product=tshirt err=".*filter_subjects is `)
	eventually(t, "the order is decided", func() bool { return s.look(waits).Status == "accepted" && s.is("open", "0") })
	s.counts("messages left the queue", 0)
	s.auditGreen()
}

// A consumer that was paused before the start holds up its product alone, and that until
// it is resumed.
func TestStartBesideAPausedConsumer(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	two := "products: [ { id: tshirt, stock: 9 }, { id: mug, stock: 9 } ]"
	s := open(t, store, two)
	_, js := jet(t, s.nats)
	if _, err := js.PauseConsumer(bounded(t), "ORDERS", "tshirt", time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	s.stop()
	s = open(t, store, two)
	if a, b := s.product("tshirt").State, s.product("mug").State; a != "stuck" || b != "open" {
		t.Errorf("the paused product is %s, the other one %s", a, b)
	}
	_, js = jet(t, s.nats)
	if _, err := js.ResumeConsumer(bounded(t), "ORDERS", "tshirt"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the product goes on", func() bool { return s.product("tshirt").State == "open" })
	s.stop()
}

// A message that somebody pulls with the instances' group and never acknowledges holds the
// product up, also on instances that decide nothing. It comes again once it is let go.
func TestMessageInAStrangersHand(t *testing.T) {
	t.Parallel()
	s := impatient(t, serveOnly)
	nc, _ := jet(t, s.nats)
	waits := s.buy("ann@example.com", 1).order(t)
	take(t, nc)
	eventually(t, "the product is stuck", func() bool { return s.is("stuck", "1") })
	s.await(saysStuck + `.*cause="a message was handed out and is not acknowledged"`)
	other := impatient(t, s.beside)
	for _, s := range []*shop{s, other} {
		eventually(t, "the product goes on", func() bool { return s.is("open", "0") })
		if now := s.look(waits); now.Status != "accepted" {
			t.Errorf("the order is %s", now.Status)
		}
	}
	s.await(saysOn)
	s.counts(saysStuck, 1)
	s.auditGreen()
}

// An order that somebody acknowledged is lost, and holds nobody up: the log says so, and
// so does the audit.
func TestOrderAcknowledgedByHand(t *testing.T) {
	t.Parallel()
	s := impatient(t, func(*config) {})
	nc, js := jet(t, s.nats)
	s.buy("ann@example.com", 1).order(t)
	s.sold(1)
	orders, err := js.Stream(bounded(t), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.steal(nc, orders).AckSync(); err != nil {
		t.Fatal(err)
	}
	s.await(`level=ERROR msg="messages left the queue and were never decided; run firstcome audit" product=tshirt messages=1`)
	eventually(t, "nobody waits", func() bool { return s.product("tshirt").Waiting == 0 && s.is("open", "0") })
	o := s.buy("eve@example.com", 1).order(t)
	eventually(t, "the sale goes on", func() bool { return s.look(o).Status == "accepted" })
	audited(t, s.nats).want(t, 1, "BROKEN P3", "gone from the queue, and settled by no link")
	s.counts(saysStuck, 0)
}

// A link of a layout that is not known here stops the product on every instance, for good.
func TestLinkOfANewerFirstcome(t *testing.T) {
	t.Parallel()
	one := impatient(t, func(*config) {})
	both := []*shop{one, impatient(t, func(cfg *config) { one.beside(cfg); serveOnly(cfg) })}
	_, js := jet(t, one.nats)
	kv, value := stockValue(t, js)
	var link map[string]any
	if err := json.Unmarshal(value.Value(), &link); err != nil {
		t.Fatal(err)
	}
	link["v"], link["n"], link["prev"] = 3, 2, sale.HashOf(value.Value())
	newer, err := json.Marshal(link)
	if err == nil {
		_, err = kv.Put(bounded(t), "tshirt", newer)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range both {
		eventually(t, "the product is stuck", func() bool { return s.is("stuck", "1") })
		s.await(saysStuck + `.*cause=".*needs a newer firstcome`)
		s.buy("ann@example.com", 1).problem(t, http.StatusServiceUnavailable)
	}
	if n := lastSeq(t, js, "ORDERS"); n != 0 {
		t.Errorf("%d messages were stored", n)
	}
}

// A server whose clock went back waits too long for a message that nobody has: where it is
// this instance's own, the consumer is made again. A wait of an hour stands for the clock.
func TestMessageThatDoesNotComeAgain(t *testing.T) {
	t.Parallel()
	s := impatient(t, func(*config) {})
	nc, js := jet(t, s.nats)
	s.buy("ann@example.com", 1).order(t)
	s.sold(1)
	orders, err := js.Stream(bounded(t), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := orders.Consumer(bounded(t), "tshirt")
	if err != nil {
		t.Fatal(err)
	}
	slow := consumer.CachedInfo().Config
	slow.AckWait = time.Hour
	if _, err := orders.UpdateConsumer(bounded(t), slow); err != nil {
		t.Fatal(err)
	}
	s.steal(nc, orders)
	s.await(`level=WARN msg="a message was handed out and came back to nobody: the queue's consumer is made again" product=tshirt`)
	s.drained("tshirt")
	eventually(t, "the product goes on", func() bool { return s.is("open", "0") })
	if consumer, err = orders.Consumer(bounded(t), "tshirt"); err != nil || consumer.CachedInfo().Config.AckWait != 5*time.Second {
		t.Errorf("the consumer is %+v, %v", consumer, err)
	}
	s.auditGreen()
}
