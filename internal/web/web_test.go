package web

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"firstcome/internal/sale"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The process's one clock for Date headers, which fasthttp never stops.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		// A stopped server's janitor, which looks up from its sleep every 10 s.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// town is what stands behind the server: a queue, the newest stock values and a
// follower, all of one shop, with a real book.
type town struct {
	book *sale.Book

	mu       sync.Mutex
	stocks   map[sale.ProductID]sale.Stock
	placed   []sale.Message
	told     int // of placed, how many the book has been told
	decided  int // of placed, how many are decided
	silent   bool
	placeErr error
	reachErr error
	reached  int           // rounds of CatchUp
	gate     chan struct{} // if not nil, Place waits for it
	placing  atomic.Int64  // calls of Place
}

func newTown(t testing.TB, products ...sale.ProductID) *town {
	w := &town{book: sale.NewBook(1_000_000), stocks: map[sale.ProductID]sale.Stock{}}
	for _, p := range products {
		s, err := sale.NewStock(p, 5, 0)
		if err != nil {
			t.Fatal(err)
		}
		w.stocks[p] = s
	}
	return w
}

func (w *town) Place(ctx context.Context, product sale.ProductID, o sale.Order) error {
	w.mu.Lock()
	gate := w.gate
	w.placing.Add(1)
	w.mu.Unlock()
	if gate != nil {
		<-gate
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.placeErr != nil {
		return w.placeErr
	}
	seq := uint64(len(w.placed) + 1)
	w.placed = append(w.placed, sale.Message{Product: product, Epoch: "2026-01-01T00:00:00Z", Seq: seq,
		StoredAt: o.PlacedAt, Data: o.AppendLine(nil)})
	if !w.silent {
		w.tell()
	}
	return nil
}

func (w *town) tell() {
	for ; w.told < len(w.placed); w.told++ {
		m := &w.placed[w.told]
		w.book.Expect(m, m.Lines())
	}
}

func (w *town) CatchUp(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reached++
	if w.reachErr != nil {
		return w.reachErr
	}
	w.tell()
	return nil
}

func (w *town) Product(id sale.ProductID) (sale.Stock, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s, ok := w.stocks[id]
	return s, ok
}

func (w *town) Only() (sale.Stock, bool) {
	if all := w.Products(); len(all) == 1 {
		return all[0], true
	}
	return sale.Stock{}, false
}

func (w *town) Products() []sale.Stock {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []sale.Stock
	for _, s := range w.stocks {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b sale.Stock) int { return strings.Compare(string(a.Product), string(b.Product)) })
	return all
}

func (w *town) set(id sale.ProductID, change func(*sale.Stock)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stocks[id]
	change(&s)
	w.stocks[id] = s
}

func (w *town) fail(place, reach error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.placeErr, w.reachErr = place, reach
}

func (w *town) orders() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.placed)
}

func (w *town) rounds() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reached
}

// decide decides everything that was placed, as the worker would, and returns the
// outcomes, which it does not broadcast.
func (w *town) decide(t testing.TB) []sale.Status {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell()
	var all []sale.Status
	for ; w.decided < len(w.placed); w.decided++ {
		m := &w.placed[w.decided]
		lines := m.Lines()
		next, outcomes := sale.Decide(w.stocks[m.Product], w.book, lines)
		next.Entries++
		e := &sale.Entry{Product: m.Product, Head: sale.Head{Epoch: m.Epoch, Seq: m.Seq, N: next.Entries,
			Supplied: next.Supplied, Available: next.Available, Decided: next.Decided, DecidedAt: sale.Instant(time.Now())}}
		for i := range lines {
			place := uint64(0)
			if outcomes[i].Final() {
				place = next.Decided
			}
			e.Orders = append(e.Orders, sale.EntryOrder{Order: lines[i].Order, Place: place, Outcome: outcomes[i]})
		}
		if err := w.book.Apply(e); err != nil {
			t.Fatal(err)
		}
		w.stocks[m.Product] = next
		for _, o := range e.Orders {
			if s, ok := w.book.Status(o.ID, o.Email); ok && o.Outcome.Final() {
				all = append(all, s)
			}
		}
	}
	return all
}

// broadcast delivers statuses as the subscription would.
func broadcast(s *Server, statuses ...sale.Status) {
	for i := range statuses {
		s.Deliver(statuses[i].Email.Token(), statuses[i].AppendJSON(nil))
	}
}

func pendingOf(s sale.Status) sale.Status {
	return sale.Status{Order: s.Order, Product: s.Product}
}

// open starts a server for the town and stops it at the test's end.
func open(t testing.TB, w *town, change func(*Config), more ...func(*Server)) (*Server, string) {
	t.Helper()
	cfg := Config{Queue: w, Shop: w, Follower: w, Book: w.book, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.hub.timing.sweep = time.Hour // or what a test loses is looked up
	s.parting = 0                  // connections are kept open by the tests' client
	s.patience = 0
	for _, f := range more {
		f(s)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, ln.Addr().String()
}

// reply is an answer, read to its end.
type reply struct {
	*http.Response
	body string
}

func send(t testing.TB, method, url, body string, header ...string) reply {
	t.Helper()
	r, err := trySend(method, url, body, header...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return r
}

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}

func trySend(method, url, body string, header ...string) (reply, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return reply{}, err
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Add(header[i], header[i+1])
	}
	res, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return reply{res, string(b)}, err
}

func get(t testing.TB, url string, header ...string) reply {
	t.Helper()
	return send(t, http.MethodGet, url, "", header...)
}

func buy(t testing.TB, addr, body string, header ...string) reply {
	t.Helper()
	return send(t, http.MethodPost, "http://"+addr+"/buy", body, append([]string{"Content-Type", "application/json"}, header...)...)
}

// bought is the order of a 202.
func bought(t testing.TB, r reply) sale.OrderID {
	t.Helper()
	var body struct {
		Message string
		Order   struct{ ID, Status string }
	}
	if err := json.Unmarshal([]byte(r.body), &body); err != nil || r.StatusCode != 202 {
		t.Fatalf("%d %s: %v", r.StatusCode, r.body, err)
	}
	id, err := sale.ParseOrderID(body.Order.ID)
	if err != nil || r.Header.Get("Location") != "/orders/"+body.Order.ID {
		t.Fatalf("Location %q of %s: %v", r.Header.Get("Location"), r.body, err)
	}
	return id
}

// wantProblem checks that r is a problem as RFC 9457 describes it, whose detail
// holds each of the words.
func wantProblem(t testing.TB, r reply, status int, words ...string) {
	t.Helper()
	var p struct {
		Type, Title, Detail, Message string
		Status                       int
	}
	d := json.NewDecoder(strings.NewReader(r.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil || r.StatusCode != status || p.Status != status {
		t.Errorf("%d %s, want the problem %d: %v", r.StatusCode, r.body, status, err)
		return
	}
	if ct := r.Header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("Content-Type %q", ct)
	}
	if p.Type == "" || p.Title == "" || p.Detail == "" || p.Message != p.Detail {
		t.Errorf("an incomplete problem: %s", r.body)
	}
	for _, w := range words {
		if !strings.Contains(p.Detail, w) {
			t.Errorf("detail %q does not say %q", p.Detail, w)
		}
	}
	if again := r.Header.Get("Retry-After") != ""; again != (status == 503 || status == 429) {
		t.Errorf("%d with Retry-After %q", status, r.Header.Get("Retry-After"))
	}
}

// talk writes raw bytes on a connection of its own and reads one answer.
func talk(t testing.TB, addr, raw string) reply {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res, string(b)}
}

// awaitTrue waits until ok says yes.
func awaitTrue(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

func orderBody(email string) string { return fmt.Sprintf(`{"email":%q}`, email) }
