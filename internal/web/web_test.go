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
	"testing"
	"time"

	"go.uber.org/goleak"

	"firstcome/internal/sale"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The process's one clock for Date headers, which fasthttp never stops.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		// A stopped server's janitor, which sleeps for up to 10 s.
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// broadcast delivers statuses as the subscription would.
func broadcast(s *Server, statuses ...sale.Status) {
	for _, status := range statuses {
		status.Turn = 0 // not over NATS
		s.Deliver(status.Email.Token(), status.AppendJSON(nil))
	}
}

func pendingOf(s sale.Status) sale.Status {
	return sale.Status{Order: s.Order, Product: s.Product}
}

// open starts a server for the town and stops it at the test's end.
func open(t testing.TB, w *town, change func(*Config), more ...func(*Server)) (*Server, string) {
	t.Helper()
	cfg := Config{Queue: w, Feed: w, Book: w.book, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.hub.timing.sweep = time.Hour // what a test loses stays lost
	s.drainTime = 0                // connections are kept open by the tests' client
	s.firstByteTime = 0
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

// said is a log that a test reads while it is written.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) logger() *slog.Logger { return slog.New(slog.NewTextHandler(s, nil)) }

// want checks that exactly so many lines hold all of the words.
func (s *said) want(t testing.TB, lines int, words ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for line := range strings.Lines(s.text.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	if n != lines {
		t.Errorf("%d lines of the log say %q, want %d:\n%s", n, words, lines, s.text.String())
	}
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
		OpensAt                      *time.Time `json:"opens_at"`
		LimitPerBuyer                *int64     `json:"limit_per_buyer"`
		Got, Available               *int64
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
	passing := status == 503 || status == 429 || p.Type == "urn:firstcome:paused" || p.Type == "urn:firstcome:not-open"
	if again := r.Header.Get("Retry-After") != ""; again != passing {
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

// awaitTrue waits until ok is true.
func awaitTrue(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

func orderBody(email string) string { return fmt.Sprintf(`{"email":%q}`, email) }
