package web

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"firstcome/internal/sale"
)

func TestOrdersAreShown(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	id := bought(t, buy(t, addr, `{"email":"a@b.de","quantity":2}`))
	for _, want := range []string{`"status":"pending"`, `"status":"accepted","message":"Your order has been approved","place":1,"rev":1`} {
		r := get(t, "http://"+addr+"/orders/"+id.String()+"?email=A@b.de")
		status, _ := w.book.Status(id, "a@b.de")
		if r.StatusCode != 200 || r.body != string(status.AppendJSON(nil)) || !strings.Contains(r.body, want) {
			t.Errorf("%d %s, want %s", r.StatusCode, r.body, want)
		}
		if r.Header.Get("Content-Type") != asJSON || r.Header.Get("Cache-Control") != "private, no-cache" {
			t.Errorf("%v", r.Header)
		}
		w.decide(t)
	}
}

func TestTheListIsNewestFirst(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	var want []string
	for i := range 103 {
		id := bought(t, buy(t, addr, orderBody("a@b.de")))
		if i >= 3 {
			status, _ := w.book.Status(id, "a@b.de")
			want = append([]string{string(status.AppendJSON(nil))}, want...)
		}
	}
	bought(t, buy(t, addr, orderBody("other@b.de")))
	w.fail(nil, sale.ErrUnavailable) // the book still answers
	r := get(t, "http://"+addr+"/orders?email=a@b.de")
	if r.StatusCode != 200 || r.body != `{"orders":[`+strings.Join(want, ",")+`]}` {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
}

// An order that has not changed costs no body.
func TestOrdersHaveTags(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	_, elsewhere := open(t, w, nil)
	id := bought(t, buy(t, addr, orderBody("a@b.de")))
	for _, path := range []string{"/orders/" + id.String() + "?email=a@b.de", "/orders?email=a@b.de"} {
		first := get(t, "http://"+addr+path)
		tag := first.Header.Get("ETag")
		if len(tag) < 10 || tag[0] != '"' {
			t.Errorf("%s: ETag %q", path, tag)
		}
		for _, seen := range []string{tag, "W/" + tag, `"x", ` + tag + `,"y"`, "*"} {
			r := get(t, "http://"+elsewhere+path, "If-None-Match", seen)
			if r.StatusCode != 304 || r.body != "" || r.Header.Get("ETag") != tag || r.Header.Get("Content-Type") != "" ||
				r.Header.Get("Cache-Control") != "private, no-cache" || r.Header.Get("Vary") != "Origin, Authorization, Cookie, Accept" {
				t.Errorf("%s with %s: %d %v %q", path, seen, r.StatusCode, r.Header, r.body)
			}
		}
		for _, seen := range []string{"", `"x"`, tag[1:], tag[:len(tag)-1]} {
			if r := get(t, "http://"+addr+path, "If-None-Match", seen); r.StatusCode != 200 || r.body != first.body {
				t.Errorf("%s with %s: %d", path, seen, r.StatusCode)
			}
		}
		if first.Header.Get("Vary") != "Origin, Authorization, Cookie, Accept" {
			t.Errorf("%v", first.Header)
		}
		if head := send(t, "HEAD", "http://"+addr+path, ""); head.Header.Get("ETag") != tag || head.StatusCode != 200 {
			t.Errorf("HEAD: %d %v", head.StatusCode, head.Header)
		}
	}
	one, list := get(t, "http://"+addr+"/orders/"+id.String()+"?email=a@b.de").Header.Get("ETag"), get(t, "http://"+addr+"/orders?email=a@b.de").Header.Get("ETag")
	w.decide(t)
	if get(t, "http://"+addr+"/orders/"+id.String()+"?email=a@b.de", "If-None-Match", one).StatusCode != 200 ||
		get(t, "http://"+addr+"/orders?email=a@b.de", "If-None-Match", list).StatusCode != 200 {
		t.Error("the outcome has the tag of the pending order")
	}
}

// A pending order tells how many stand before it, wherever it is read.
func TestAheadIsTold(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil, func(s *Server) { s.hub.timing.line = time.Hour })
	tab := attend(t, s, addr, "a@b.de")
	wantAhead := func(body string, ahead string) {
		t.Helper()
		if !strings.Contains(body, `"message":"Your order is in the queue",`+ahead+`"rev":0,`) {
			t.Errorf("%s, want %q", body, ahead)
		}
	}
	wantAhead(buy(t, addr, orderBody("first@b.de")).body, `"ahead":0,`)
	mine := buy(t, addr, orderBody("a@b.de"), "Idempotency-Key", "k")
	wantAhead(mine.body, `"ahead":1,`)
	id := bought(t, mine)
	wantAhead(buy(t, addr, orderBody("a@b.de"), "Idempotency-Key", "k").body, `"ahead":1,`)
	wantAhead(get(t, "http://"+addr+"/orders/"+id.String()+"?email=a@b.de").body, `"ahead":1,`)
	wantAhead(get(t, "http://"+addr+"/orders?email=a@b.de").body, `"ahead":1,`)
	status, _ := w.book.Status(id, "a@b.de")
	broadcast(s, status)
	wantAhead(tab.order().receivedRaw, `"ahead":1,`)
	again := watch(t, addr, "a@b.de")
	wantAhead(again.order().receivedRaw, `"ahead":1,`)
	w.decide(t)
	if r := get(t, "http://"+addr+"/orders/"+id.String()+"?email=a@b.de"); strings.Contains(r.body, "ahead") {
		t.Errorf("%s", r.body)
	}
	w.deaf = true // the book has not heard of it
	wantAhead(buy(t, addr, orderBody("a@b.de")).body, "")
}

// An unknown order and another buyer's are the same bytes, found the same way (P7).
func TestAForeignOrderLooksUnknown(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	id := bought(t, buy(t, addr, orderBody("a@b.de")))
	rounds := w.catchUps()
	foreign := get(t, "http://"+addr+"/orders/"+id.String()+"?email=eve@b.de")
	if w.catchUps() != rounds+1 {
		t.Error("a foreign order is known without asking the leader")
	}
	unknown := get(t, "http://"+addr+"/orders/01900000-0000-7000-8000-000000000000?email=eve@b.de")
	malformed := get(t, "http://"+addr+"/orders/5?email=eve@b.de")
	wantProblem(t, unknown, 404)
	foreign.Header.Del("Date")
	unknown.Header.Del("Date")
	if foreign.body != unknown.body || malformed.body != unknown.body || fmt.Sprint(foreign.Header) != fmt.Sprint(unknown.Header) {
		t.Errorf("foreign %v %s\nunknown %v %s", foreign.Header, foreign.body, unknown.Header, unknown.body)
	}
	if r := get(t, "http://"+addr+"/orders?email=eve@b.de"); r.body != `{"orders":[]}` {
		t.Errorf("%s", r.body)
	}
	w.fail(nil, sale.ErrUnavailable)
	wantProblem(t, get(t, "http://"+addr+"/orders/"+id.String()+"?email=eve@b.de"), 503)
	wantProblem(t, get(t, "http://"+addr+"/orders/01900000-0000-7000-8000-000000000000?email=eve@b.de"), 503)
	if r := get(t, "http://"+addr+"/orders/"+id.String()+"?email=a@b.de"); r.StatusCode != 200 {
		t.Errorf("what the book holds needs no leader: %d", r.StatusCode)
	}
}

func TestAnOrderTakenElsewhereIsFound(t *testing.T) {
	w := newTown(t, "tshirt")
	w.deaf = true
	_, addr := open(t, w, nil)
	id := bought(t, buy(t, addr, orderBody("a@b.de")))
	if r := get(t, "http://"+addr+"/orders/"+id.String()+"?email=a@b.de"); r.StatusCode != 200 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
	id = bought(t, buy(t, addr, orderBody("a@b.de")))
	if r := get(t, "http://"+addr+"/orders?email=a@b.de"); !strings.Contains(r.body, id.String()) {
		t.Errorf("%s", r.body)
	}
}

func TestEmailsOfQueries(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	for _, query := range []string{"", "?email=", "?email=a@b", "?email=a@b.de&email=a@b.de", "?email=a+b@c.de", "?Email=a@b.de", "?email=a%00@b.de", "?email=%22a%22@b.de"} {
		for _, path := range []string{"/orders", "/orders/01900000-0000-7000-8000-000000000000", "/ws"} {
			if path == "/ws" && !strings.HasPrefix(query, "?email=") {
				wantProblem(t, get(t, "http://"+addr+path+query), 426) // a watcher needs none
				continue
			}
			wantProblem(t, get(t, "http://"+addr+path+query), 400, "email")
		}
	}
	if r := get(t, "http://"+addr+"/orders?email=a%2Bb@c.de"); r.StatusCode != 200 {
		t.Errorf("%d %s", r.StatusCode, r.body)
	}
}

func TestProducts(t *testing.T) {
	w := newTown(t, "tshirt", "mug")
	at := time.Date(2026, 11, 28, 12, 0, 0, 123456000, time.UTC)
	_, addr := open(t, w, func(c *Config) { c.Now = func() time.Time { return at } })
	bought(t, buy(t, addr, `{"email":"a@b.de","product":"tshirt","quantity":2}`))
	w.decide(t)
	bought(t, buy(t, addr, `{"email":"a@b.de","product":"tshirt"}`))
	tshirt := `{"id":"tshirt","available":3,"sold":2,"supplied":5,"waiting":1,"limit_per_buyer":0,"state":"open"}`
	mug := `{"id":"mug","available":5,"sold":0,"supplied":5,"waiting":0,"limit_per_buyer":0,"state":"open"}`
	for path, want := range map[string]string{
		"/products":        `{"products":[` + mug + `,` + tshirt + `],"server_time":"2026-11-28T12:00:00.123456Z"}`,
		"/products/tshirt": tshirt,
	} {
		if r := get(t, "http://"+addr+path); r.StatusCode != 200 || r.body != want || r.Header.Get("Content-Type") != asJSON {
			t.Errorf("%s: %d %s", path, r.StatusCode, r.body)
		}
	}
	for _, id := range []string{"car", "T-Shirt", "a.b", "*", strings.Repeat("a", 64)} {
		wantProblem(t, get(t, "http://"+addr+"/products/"+id), 404)
	}
}

func TestOrigins(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, func(c *Config) { c.AllowedOrigins = []string{"https://shop.example", "capacitor://localhost"} })
	_, demo := open(t, w, func(c *Config) { c.AllowLoopbackOrigins = true })
	for _, c := range []struct {
		addr, origin, host string
		ok                 bool
	}{
		{addr, "capacitor://localhost", "", true},
		{addr, "ionic://localhost", "", false},
		{addr, "https://shop.example", "", true},
		{addr, "http://shop.example", "", false},
		{addr, "https://shop.example:8443", "", false},
		{addr, "https://shop.example.evil.example", "", false},
		{addr, "https://evil.example", "", false},
		{addr, "null", "", false},
		{addr, "shop.example", "", false},
		{addr, "http://" + addr, "", true},
		{addr, "https://Shop.Internal", "shop.internal", true},
		{addr, "https://shop.internal", "shop.internal:443", true},
		{addr, "https://shop.internal", "shop.internal:80", true}, // a proxy that ends TLS
		{addr, "http://shop.internal:8080", "shop.internal", false},
		{addr, "http://shop.internal", "shop.internal:8080", false},
		{addr, "http://localhost:5173", "", false},
		{demo, "http://localhost:5173", "", true},
		{demo, "http://127.0.0.1:5173", "", true},
		{demo, "https://[::1]:5173", "", true},
		{demo, "http://localhost.evil.example", "", false},
		{demo, "null", "", false},
		{demo, "https://shop.example", "", false},
	} {
		header := []string{"Content-Type", asJSON, "Origin", c.origin}
		if c.host != "" {
			header = append(header, "Host", c.host)
		}
		n := w.orders()
		post := send(t, "POST", "http://"+c.addr+"/buy", orderBody("a@b.de"), header...)
		read := send(t, "GET", "http://"+c.addr+"/products", "", header...)
		lost := send(t, "GET", "http://"+c.addr+"/nothing", "", header...)
		flight := send(t, "OPTIONS", "http://"+c.addr+"/buy", "", append(header, "Access-Control-Request-Method", "POST")...)
		for _, r := range []reply{post, read, lost, flight} {
			if r.Header.Get("Vary") != "Origin" {
				t.Errorf("%s: Vary %q", c.origin, r.Header.Get("Vary"))
			}
			allowed, exposed := r.Header.Get("Access-Control-Allow-Origin"), r.Header.Get("Access-Control-Expose-Headers")
			if c.ok && (allowed != c.origin || exposed != "Location, Idempotent-Replayed, Retry-After, ETag") || !c.ok && allowed+exposed != "" {
				t.Errorf("%s at %s: %v", c.origin, c.addr, r.Header)
			}
			credentials := c.ok && (c.origin == "https://shop.example" || c.origin == "capacitor://localhost") // the configured ones
			if got := r.Header.Get("Access-Control-Allow-Credentials"); got != map[bool]string{true: "true"}[credentials] {
				t.Errorf("%s at %s: credentials %q", c.origin, c.addr, got)
			}
		}
		if read.StatusCode != 200 || flight.StatusCode != 204 || flight.body != "" {
			t.Errorf("%s: %d, preflight %d", c.origin, read.StatusCode, flight.StatusCode)
		}
		asked := flight.Header.Get("Access-Control-Allow-Methods") + "|" + flight.Header.Get("Access-Control-Allow-Headers")
		if want := "POST, OPTIONS|Content-Type, Idempotency-Key"; c.ok && asked != want || !c.ok && asked != "|" {
			t.Errorf("%s: preflight %q", c.origin, asked)
		}
		status := upgradeStatus(t, c.addr, header)
		if c.ok {
			bought(t, post)
			if status != 101 {
				t.Errorf("%s: %d for a socket", c.origin, status)
			}
		} else {
			wantProblem(t, post, 403)
			if status != 403 || w.orders() != n {
				t.Errorf("%s: %d for a socket", c.origin, status)
			}
		}
	}
}

func TestBadConfig(t *testing.T) {
	w := newTown(t, "tshirt")
	good := Config{Queue: w, Feed: w, Book: w.book}
	for _, origin := range []string{"", "*", "null", "shop.example", "https://", "https://Shop.example", "https://shop.example/", "https://*.shop.example"} {
		c := good
		c.AllowedOrigins = []string{origin}
		if _, err := New(c); err == nil || CheckOrigin(origin) == nil {
			t.Errorf("origin %q is taken", origin)
		}
	}
	for _, proxy := range []string{"", "proxy", "10.0.0.0/33"} {
		c := good
		c.TrustedProxies = []string{proxy}
		if _, err := New(c); err == nil || CheckProxy(proxy) == nil {
			t.Errorf("proxy %q is taken", proxy)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a server of nothing")
	}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
}
