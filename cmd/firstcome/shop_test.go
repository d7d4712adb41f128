package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// shop is an instance that serves, and the client of its buyers.
type shop struct {
	*process
	http, ops, nats string // host:port, host:port, URL
	client          *http.Client
}

// open writes a configuration for a store directory and serves it: on free ports,
// selling five t-shirts, unless more holds other sections.
func open(t testing.TB, store string, more ...string) *shop {
	t.Helper()
	lines := []string{fmt.Sprintf("nats: { embedded: { listen: 127.0.0.1:0, store_dir: %q, sync: always } }", store)}
	given := strings.Join(more, "\n")
	for section, usual := range map[string]string{
		"http:":     "http: { listen: 127.0.0.1:0 }",
		"products:": "products: [ { id: tshirt, stock: 5 } ]",
	} {
		if !strings.Contains(given, section) {
			lines = append(lines, usual)
		}
	}
	file := filepath.Join(t.TempDir(), "firstcome.yaml")
	if err := os.WriteFile(file, []byte(strings.Join(append(lines, more...), "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return serving(launch(t, "serve", "--config", file))
}

// serving waits until an instance is ready, and looks where.
func serving(p *process) *shop {
	p.t.Helper()
	at := p.await(`msg=ready http=(\S+) ops=(\S+) nats=(\S+)\n`)
	return visit(p, at[1], at[2], at[3])
}

func visit(p *process, http_, ops, nats string) *shop {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	p.t.Cleanup(transport.CloseIdleConnections)
	return &shop{p, http_, ops, nats, &http.Client{Transport: transport, Timeout: patience}}
}

// status is an order as its buyer sees it.
type status struct {
	ID        string `json:"id"`
	Product   string `json:"product"`
	Email     string `json:"email"`
	Quantity  int    `json:"quantity"`
	Status    string `json:"status"`
	Message   string `json:"message"`
	Place     uint64 `json:"place"`
	Rev       int    `json:"rev"`
	PlacedAt  string `json:"placed_at"`
	DecidedAt string `json:"decided_at"`
}

// answer is an HTTP answer, read to its end.
type answer struct {
	code   int
	header http.Header
	body   []byte
}

func (a answer) decode(t testing.TB, into any) {
	t.Helper()
	if err := json.Unmarshal(a.body, into); err != nil {
		t.Fatalf("%d %s: %v", a.code, a.body, err)
	}
}

// order is the order of a 202.
func (a answer) order(t testing.TB) status {
	t.Helper()
	if a.code != http.StatusAccepted {
		t.Fatalf("answered %d, want 202: %s", a.code, a.body)
	}
	var taken struct{ Order status }
	a.decode(t, &taken)
	return taken.Order
}

// problem is the detail of a problem+json with that status.
func (a answer) problem(t testing.TB, code int) (detail string) {
	t.Helper()
	var p struct {
		Type, Title, Detail, Message string
		Status                       int
	}
	if a.code != code || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("answered %d %s, want a problem %d: %s", a.code, a.header.Get("Content-Type"), code, a.body)
		return ""
	}
	a.decode(t, &p)
	if p.Status != code || p.Type == "" || p.Title == "" || p.Detail == "" || p.Message != p.Detail {
		t.Errorf("an incomplete problem: %s", a.body)
	}
	return p.Detail
}

// ask sends a request; an error is one of the connection.
func (s *shop) ask(method, target, body string, header ...string) (answer, error) {
	if !strings.Contains(target, "://") {
		target = "http://" + s.http + target
	}
	r, err := http.NewRequest(method, target, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	res, err := s.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	read, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, read}, err
}

func (s *shop) get(target string) answer {
	s.t.Helper()
	a, err := s.ask("GET", target, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

// buy places an order, of tshirt, and returns the answer, whatever it is.
func (s *shop) buy(email string, quantity int, header ...string) answer {
	s.t.Helper()
	a, err := s.tryBuy(email, quantity, header...)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *shop) tryBuy(email string, quantity int, header ...string) (answer, error) {
	body := fmt.Sprintf(`{"email":%q,"product":"tshirt","quantity":%d}`, email, quantity)
	return s.ask("POST", "/buy", body, append([]string{"Content-Type", "application/json"}, header...)...)
}

// look asks for one order.
func (s *shop) look(o status) status {
	s.t.Helper()
	a := s.get("/orders/" + o.ID + "?email=" + url.QueryEscape(o.Email))
	if a.code != http.StatusOK {
		s.t.Fatalf("order %s of a 202: answered %d: %s", o.ID, a.code, a.body)
	}
	var now status
	a.decode(s.t, &now)
	return now
}

// product asks for a product's figures.
func (s *shop) product(id string) (p struct {
	ID                                 string
	Available, Sold, Supplied, Waiting int64
	State                              string
}) {
	s.t.Helper()
	s.get("/products/"+id).decode(s.t, &p)
	return p
}

// drained waits until nobody waits for a decision.
func (s *shop) drained(product string) {
	s.t.Helper()
	eventually(s.t, "the line is empty", func() bool { return s.product(product).Waiting == 0 })
}

// sold waits until the figures of tshirt say that so many units are sold; they
// follow the stock value a moment later than an order's outcome.
func (s *shop) sold(units int64) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%d units are sold", units), func() bool { return s.product("tshirt").Sold == units })
}

// eventually polls a state that nothing announces.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("it never came about that %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// audited runs the audit on a NATS server.
func audited(t testing.TB, natsURL string) result {
	t.Helper()
	return cli(t, "audit", "--nats", natsURL)
}

// auditGreen fails unless the audit finds every promise kept.
func (s *shop) auditGreen() {
	s.t.Helper()
	audited(s.t, s.nats).want(s.t, 0, "ok: ")
}

// desk publishes a message on the desk's subject of tshirt, and returns its sequence.
func (s *shop) desk(lines string) uint64 {
	s.t.Helper()
	_, js := jet(s.t, s.nats)
	return publish(s.t, js, "desk.tshirt", lines)
}

// publish stores a message, as `nats pub --jetstream` does.
func publish(t testing.TB, js jetstream.JetStream, subject, data string) uint64 {
	t.Helper()
	ack, err := js.Publish(bounded(t), subject, []byte(data))
	if err != nil {
		t.Fatalf("publish to %s: %v", subject, err)
	}
	return ack.Sequence
}

// jet connects to the shop's NATS server as the nats CLI would.
func jet(t testing.TB, natsURL string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect(natsURL, nats.Timeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	closed := nc.StatusChanged(nats.CLOSED)
	t.Cleanup(func() {
		nc.Close()
		<-closed
	})
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	t.Cleanup(cancel)
	return ctx
}

// stored reads all messages of a stream, in order.
func stored(t testing.TB, js jetstream.JetStream, name string) []*jetstream.RawStreamMsg {
	t.Helper()
	ctx := bounded(t)
	stream, err := js.Stream(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	var all []*jetstream.RawStreamMsg
	state := stream.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq && state.Msgs > 0; seq++ {
		msg, err := stream.GetMsg(ctx, seq)
		if err != nil {
			t.Fatalf("%s message %d: %v", name, seq, err)
		}
		all = append(all, msg)
	}
	return all
}

// lastSeq is the last sequence that a stream has given out.
func lastSeq(t testing.TB, js jetstream.JetStream, name string) uint64 {
	t.Helper()
	stream, err := js.Stream(bounded(t), name)
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.LastSeq
}

// stockValue is the stored value of tshirt, with its revision.
func stockValue(t testing.TB, js jetstream.JetStream) (jetstream.KeyValue, jetstream.KeyValueEntry) {
	t.Helper()
	ctx := bounded(t)
	kv, err := js.KeyValue(ctx, "stock")
	if err != nil {
		t.Fatal(err)
	}
	value, err := kv.Get(ctx, "tshirt")
	if err != nil {
		t.Fatal(err)
	}
	return kv, value
}
