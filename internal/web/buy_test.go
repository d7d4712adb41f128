package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"firstcome/internal/sale"
)

const (
	asJSON = "application/json"
	asForm = "application/x-www-form-urlencoded"
)

func TestAnOrderIsTaken(t *testing.T) {
	for _, c := range []struct{ contentType, body string }{
		{asJSON, `{"email":"Laskar@Mail.com","product":"tshirt","quantity":2}`},
		{asJSON, " {\n\t\"quantity\" : 2 , \"email\":\"laskar@mail.com\"}\r\n"},
		{asJSON, `{"em\u0061il":"laskar\u0040mail.com","quantity":2}`},
		{"Application/JSON; charset=utf-8", `{"email":"laskar@mail.com","quantity":2}`},
		{asForm, "email=laskar%40mail.com&quantity=2&product=tshirt"},
		{asForm + "; charset=UTF-8", "email=LASKAR@mail.com&quantity=2"},
	} {
		w := newTown(t, "tshirt")
		_, addr := open(t, w, nil)
		r := send(t, "POST", "http://"+addr+"/buy", c.body, "Content-Type", c.contentType)
		id := bought(t, r)
		status, ok := w.book.Status(id, "laskar@mail.com")
		if !ok || status.Email != "laskar@mail.com" || status.Quantity != 2 || status.Product != "tshirt" {
			t.Errorf("%s: %+v", c.body, status)
		}
		if want := `{"message":"Your order is in the queue","order":` + string(status.AppendJSON(nil)) + `}`; r.body != want {
			t.Errorf("answer\n%s, want\n%s", r.body, want)
		}
		if r.Header.Get("Content-Type") != asJSON || r.Header.Get("Idempotent-Replayed") != "" {
			t.Errorf("headers %v", r.Header)
		}
		if id[6]>>4 != 7 {
			t.Errorf("%s is no UUID of version 7", id)
		}
		if w.catchUps() != 0 {
			t.Error("an order without a key has no business with the leader")
		}
	}
}

func TestBadInputChangesNothing(t *testing.T) {
	w := newTown(t, "tshirt", "mug")
	_, addr := open(t, w, nil)
	long := strings.Repeat("a", 300)
	cases := []struct {
		name        string
		contentType string
		body        string
		status      int
		words       []string
	}{
		{"empty", asJSON, "", 400, nil},
		{"space", asJSON, " \n", 400, nil},
		{"garbage", asJSON, "{]", 400, nil},
		{"cut short", asJSON, `{"email":"a@b.de"`, 400, nil},
		{"comma at the end", asJSON, `{"email":"a@b.de",}`, 400, nil},
		{"array", asJSON, `[]`, 400, []string{"object"}},
		{"null", asJSON, `null`, 400, []string{"object"}},
		{"a string", asJSON, `"email"`, 400, []string{"object"}},
		{"trailing object", asJSON, `{"email":"a@b.de","product":"mug"}{}`, 400, nil},
		{"trailing word", asJSON, `{"email":"a@b.de","product":"mug"} x`, 400, nil},
		{"byte order mark", asJSON, "\ufeff" + `{"email":"a@b.de","product":"mug"}`, 400, nil},
		{"unknown field", asJSON, `{"email":"a@b.de","product":"mug","price":1}`, 400, []string{`"price"`}},
		{"other letters", asJSON, `{"Email":"a@b.de","product":"mug"}`, 400, []string{`"Email"`}},
		{"long unknown field", asJSON, `{"` + strings.Repeat("ü", 1000) + `":1}`, 400, []string{"ü"}},
		{"field with markup", asJSON, `{"<script>":1}`, 400, nil},
		{"email twice", asJSON, `{"email":"a@b.de","email":"a@b.de","product":"mug"}`, 400, []string{"email"}},
		{"quantity twice", asJSON, `{"email":"a@b.de","quantity":1,"quantity":1,"product":"mug"}`, 400, []string{"quantity"}},
		{"email missing", asJSON, `{"product":"mug"}`, 400, []string{"email", "missing"}},
		{"email null", asJSON, `{"email":null,"product":"mug"}`, 400, []string{"email"}},
		{"email a number", asJSON, `{"email":5,"product":"mug"}`, 400, []string{"email", "string"}},
		{"email a list", asJSON, `{"email":["a@b.de"],"product":"mug"}`, 400, []string{"email"}},
		{"email empty", asJSON, `{"email":"","product":"mug"}`, 400, []string{"email", "empty"}},
		{"display name", asJSON, `{"email":"Bob <a@b.c>","product":"mug"}`, 400, []string{"email"}},
		{"no dot", asJSON, `{"email":"a@b","product":"mug"}`, 400, []string{"email"}},
		{"300 characters", asJSON, `{"email":"` + long + `@b.de","product":"mug"}`, 400, []string{"email"}},
		{"CR LF", asJSON, `{"email":"a@b.de\r\nx","product":"mug"}`, 400, []string{"email"}},
		{"bare CR LF", asJSON, "{\"email\":\"a@b.de\r\n\",\"product\":\"mug\"}", 400, nil},
		{"NUL", asJSON, `{"email":"a\u0000@b.de","product":"mug"}`, 400, []string{"email"}},
		{"bad UTF-8", asJSON, "{\"email\":\"\xff@b.de\",\"product\":\"mug\"}", 400, []string{"email"}},
		{"space before", asJSON, `{"email":" a@b.de","product":"mug"}`, 400, []string{"email"}},
		{"product missing", asJSON, `{"email":"a@b.de"}`, 400, []string{"product"}},
		{"product null", asJSON, `{"email":"a@b.de","product":null}`, 400, []string{"product"}},
		{"product empty", asJSON, `{"email":"a@b.de","product":""}`, 400, []string{"product"}},
		{"product malformed", asJSON, `{"email":"a@b.de","product":"T-Shirt"}`, 400, []string{"product"}},
		{"product wildcard", asJSON, `{"email":"a@b.de","product":"*"}`, 400, []string{"product"}},
		{"product unknown", asJSON, `{"email":"a@b.de","product":"car"}`, 404, nil},
		{"quantity 0", asJSON, `{"email":"a@b.de","product":"mug","quantity":0}`, 400, []string{"quantity"}},
		{"quantity -1", asJSON, `{"email":"a@b.de","product":"mug","quantity":-1}`, 400, []string{"quantity"}},
		{"quantity 1.5", asJSON, `{"email":"a@b.de","product":"mug","quantity":1.5}`, 400, []string{"quantity"}},
		{"quantity 1.0", asJSON, `{"email":"a@b.de","product":"mug","quantity":1.0}`, 400, []string{"quantity"}},
		{"quantity 1e0", asJSON, `{"email":"a@b.de","product":"mug","quantity":1e0}`, 400, []string{"quantity"}},
		{"quantity 01", asJSON, `{"email":"a@b.de","product":"mug","quantity":01}`, 400, nil},
		{"quantity 1001", asJSON, `{"email":"a@b.de","product":"mug","quantity":1001}`, 400, []string{"quantity"}},
		{"quantity 10^12", asJSON, `{"email":"a@b.de","product":"mug","quantity":1000000000000}`, 400, []string{"quantity"}},
		{"quantity a string", asJSON, `{"email":"a@b.de","product":"mug","quantity":"1"}`, 400, []string{"quantity"}},
		{"quantity null", asJSON, `{"email":"a@b.de","product":"mug","quantity":null}`, 400, []string{"quantity"}},
		{"quantity true", asJSON, `{"email":"a@b.de","product":"mug","quantity":true}`, 400, []string{"quantity"}},
		{"deep", asJSON, strings.Repeat(`{"email":`, 300), 400, nil},
		{"form empty", asForm, "", 400, []string{"email"}},
		{"form unknown", asForm, "email=a@b.de&product=mug&x=1", 400, []string{`"x"`}},
		{"form twice", asForm, "email=a@b.de&product=mug&email=a@b.de", 400, []string{"email"}},
		{"form empty quantity", asForm, "email=a@b.de&product=mug&quantity=", 400, []string{"quantity"}},
		{"form 1.0", asForm, "email=a@b.de&product=mug&quantity=1.0", 400, []string{"quantity"}},
		{"form empty product", asForm, "email=a@b.de&product=", 400, []string{"product"}},
		{"form bad escape", asForm, "email=a%4", 400, nil},
		{"form semicolon", asForm, "email=a@b.de;product=mug", 400, nil},
		{"form product missing", asForm, "email=a@b.de", 400, []string{"product"}},
		{"no type", "", `{"email":"a@b.de","product":"mug"}`, 415, nil},
		{"text", "text/plain", `{"email":"a@b.de","product":"mug"}`, 415, nil},
		{"json of another kind", "application/json-patch+json", `{"email":"a@b.de","product":"mug"}`, 415, nil},
		{"multipart", "multipart/form-data; boundary=x", "--x--", 415, nil},
		{"4097 bytes", asJSON, `{"email":"a@b.de","product":"mug"}` + strings.Repeat(" ", 4097-34), 413, nil},
		{"1 MiB", asJSON, strings.Repeat(" ", 1<<20), 413, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var header []string
			if c.contentType != "" {
				header = []string{"Content-Type", c.contentType}
			}
			wantProblem(t, send(t, "POST", "http://"+addr+"/buy", c.body, header...), c.status, c.words...)
		})
	}
	for _, encoding := range []string{"gzip", "br", "identity"} {
		wantProblem(t, buy(t, addr, `{"email":"a@b.de","product":"mug"}`, "Content-Encoding", encoding), 415)
	}
	wantProblem(t, buy(t, addr, `{"email":"a@b.de","product":"mug"}`, "Content-Encoding", "", "Content-Encoding", "gzip"), 415)
	for _, key := range []string{"", " ", "two words", "umläut", strings.Repeat("k", 256)} {
		wantProblem(t, buy(t, addr, `{"email":"a@b.de","product":"mug"}`, "Idempotency-Key", key), 400, "Idempotency-Key")
	}
	wantProblem(t, buy(t, addr, `{"email":"a@b.de","product":"mug"}`, "Idempotency-Key", "a", "Idempotency-Key", "b"), 400, "Idempotency-Key")
	if n := w.orders(); n != 0 {
		t.Errorf("%d orders were placed", n)
	}
	// 4096 bytes are still read, and so is a key of 255.
	bought(t, buy(t, addr, `{"email":"a@b.de","product":"mug"}`+strings.Repeat(" ", 4096-34), "Idempotency-Key", strings.Repeat("~", 255)))
}

func TestRequestsThatAreNone(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	post := "POST /buy HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	pad := func(total int) string { // a request with a head of that many bytes
		head := "GET /products HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: "
		return head + strings.Repeat("x", total-len(head)-4) + "\r\n\r\n"
	}
	for _, c := range []struct {
		name, raw string
		status    int
	}{
		{"no HTTP", "hello\r\n\r\n", 400},
		{"no version", "GET /\r\n\r\n", 400},
		{"header without colon", "GET /products HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", 400},
		{"length of letters", post + "Content-Length: abc\r\n\r\n", 400},
		{"huge length", post + "Content-Length: 99999999999\r\n\r\n", 413},
		{"huge length, expecting to go on", post + "Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n", 413},
		{"chunked", post + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("800\r\n"+strings.Repeat(" ", 2048)+"\r\n", 3) + "0\r\n\r\n", 413},
		{"huge body, sent to its end", post + "Content-Length: 4194304\r\n\r\n" + strings.Repeat("x", 4<<20), 413},
		{"bad chunk", post + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
		{"8192 bytes of headers", pad(8192), 200},
		{"8193 bytes of headers", pad(8193), 431},
		{"20000 bytes of headers", pad(20000), 431},
		{"long request line", "GET /" + strings.Repeat("x", 9000) + " HTTP/1.1\r\nHost: x\r\n\r\n", 431},
		{"unknown method", "BREW /buy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405},
		{"unknown method, unknown path", "BREW /pot HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := talk(t, addr, c.raw)
			if c.status == 200 {
				if r.StatusCode != 200 {
					t.Errorf("%d %s", r.StatusCode, r.body)
				}
				return
			}
			wantProblem(t, r, c.status)
			if strings.Contains(r.body, "fasthttp") || strings.Contains(r.body, "error") {
				t.Errorf("internal text: %s", r.body)
			}
		})
	}
	if n := w.orders(); n != 0 {
		t.Errorf("%d orders were placed", n)
	}
}

func TestAChunkedBodyIsTaken(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	body := orderBody("a@b.de")
	r := talk(t, addr, "POST /buy HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"+
		fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body))
	bought(t, r)
}

func TestPathsAndMethods(t *testing.T) {
	w := newTown(t, "tshirt")
	at := time.Now()
	_, addr := open(t, w, func(c *Config) { c.Now = func() time.Time { return at } }) // two answers are compared
	for _, path := range []string{"/metrics", "/debug/pprof/", "/livez", "/BUY", "/page", "/page/", "/page/index.html", "/page/..%2fserver.go", "/page/../server.go", "/orders/x/y"} {
		wantProblem(t, get(t, "http://"+addr+path+"?email=a@b.de"), 404)
	}
	for _, c := range []struct{ method, path, allow string }{
		{"GET", "/buy", "POST, OPTIONS"},
		{"PUT", "/buy", "POST, OPTIONS"},
		{"POST", "/orders", "GET, HEAD, OPTIONS"},
		{"DELETE", "/orders/0190", "GET, HEAD, OPTIONS"},
		{"POST", "/products", "GET, HEAD, OPTIONS"},
		{"PATCH", "/products/tshirt", "GET, HEAD, OPTIONS"},
		{"POST", "/", "GET, HEAD, OPTIONS"},
		{"TRACE", "/ws", "GET, HEAD, OPTIONS"},
	} {
		r := send(t, c.method, "http://"+addr+c.path, "")
		wantProblem(t, r, 405)
		got := strings.Split(strings.ReplaceAll(strings.Join(r.Header.Values("Allow"), ","), " ", ""), ",")
		for _, m := range strings.Split(c.allow, ", ") {
			if !containsOnce(got, m) {
				t.Errorf("%s %s: Allow %q lacks %s", c.method, c.path, got, m)
			}
		}
	}
	for _, path := range []string{"/", "/products", "/products/tshirt", "/orders?email=a@b.de"} {
		full, head := get(t, "http://"+addr+path), send(t, "HEAD", "http://"+addr+path, "")
		if head.StatusCode != 200 || head.body != "" || head.Header.Get("Content-Type") != full.Header.Get("Content-Type") ||
			head.Header.Get("Content-Length") != fmt.Sprint(len(full.body)) {
			t.Errorf("HEAD %s: %d %v", path, head.StatusCode, head.Header)
		}
	}
	if r := get(t, "http://"+addr+"/products"); r.Header.Get("Server") != "" {
		t.Errorf("Server: %s", r.Header.Get("Server"))
	}
}

func containsOnce(list []string, want string) bool {
	n := 0
	for _, got := range list {
		if got == want {
			n++
		}
	}
	return n == 1
}

// Each row breaks one more rule, from the last check to the first: the earliest check
// answers.
func TestChecksComeInOrder(t *testing.T) {
	w := newTown(t, "tshirt", "mug")
	clock := newHandClock()
	_, addr := open(t, w, func(c *Config) { c.PerBuyer = 1; c.Now = clock.now })
	ok := `{"email":"a@b.de","product":"tshirt"}`
	bought(t, buy(t, addr, ok, "Idempotency-Key", "one"))
	clock.pass(time.Minute)

	w.fail(sale.ErrQueueFull, nil)
	wantProblem(t, buy(t, addr, ok), 503, "waiting")
	clock.pass(time.Minute)
	w.steer(t, "tshirt", paused(true))
	wantProblem(t, buy(t, addr, ok), 409, "paused")
	wantProblem(t, buy(t, addr, ok), 429)
	wantProblem(t, buy(t, addr, `{"email":"a@b.de","product":"tshirt","quantity":2}`, "Idempotency-Key", "one"), 422, "Idempotency-Key")
	if r := buy(t, addr, ok, "Idempotency-Key", "one"); r.StatusCode != 202 {
		t.Errorf("a replay: %d %s", r.StatusCode, r.body)
	}
	wantProblem(t, buy(t, addr, `{"email":"a@b.de","product":"car"}`, "Idempotency-Key", "one"), 404)
	wantProblem(t, buy(t, addr, `{"email":"a@b.de","product":"car","quantity":0}`), 400, "quantity")
	wantProblem(t, buy(t, addr, `{"email":"a@b.de","product":"car"}`, "Idempotency-Key", ""), 400, "Idempotency-Key")
	wantProblem(t, send(t, "POST", "http://"+addr+"/buy", `{"email":""}`, "Content-Type", "text/plain"), 415)
	big := strings.Repeat("x", 5000)
	wantProblem(t, send(t, "POST", "http://"+addr+"/buy", big, "Content-Type", "text/plain"), 413)
	wantProblem(t, send(t, "POST", "http://"+addr+"/buy", big, "Content-Type", "text/plain", "Origin", "https://evil.example"), 403)
	if n := w.orders(); n != 1 {
		t.Errorf("%d orders", n)
	}
}

func TestTheDoor(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	past, future := sale.Instant(time.Now().Add(-time.Hour)), sale.Instant(time.Now().Add(time.Hour))
	for _, c := range []struct {
		close, open sale.DeskLine
		word        string
		state       sale.State
	}{
		{left(0), left(5), "sold out", sale.StateSoldOut},
		{paused(true), paused(false), "paused", sale.StatePaused},
		{hours(&future, nil), hours(nil, nil), "not begun", sale.StateNotOpen},
		{hours(nil, &past), hours(nil, nil), "over", sale.StateClosed},
	} {
		w.steer(t, "tshirt", c.close)
		wantProblem(t, buy(t, addr, orderBody("a@b.de")), 409, c.word)
		if r := get(t, "http://"+addr+"/products/tshirt"); !strings.Contains(r.body, `"state":"`+string(c.state)+`"`) {
			t.Errorf("%s", r.body)
		}
		w.steer(t, "tshirt", c.open)
	}
	bought(t, buy(t, addr, `{"email":"a@b.de","quantity":5}`))
}

// A pause closes the door from when it stands in the queue, and its end opens the door
// when it is decided.
func TestAPauseClosesTheDoorAtOnce(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	key := []string{"Idempotency-Key", "k"}
	id := bought(t, buy(t, addr, orderBody("a@b.de"), key...))
	door := func(closed bool) {
		t.Helper()
		state := `"state":"open"`
		if r := buy(t, addr, orderBody("a@b.de")); closed {
			state = `"state":"paused"`
			wantProblem(t, r, 409, "paused")
		} else {
			bought(t, r)
		}
		if r := get(t, "http://"+addr+"/products/tshirt"); !strings.Contains(r.body, state) {
			t.Errorf("%s, want %s", r.body, state)
		}
		if bought(t, buy(t, addr, orderBody("a@b.de"), key...)) != id {
			t.Error("a replay is another order")
		}
	}
	door(false)
	w.queueDesk("tshirt", paused(true))
	door(true)
	w.decide(t)
	door(true)
	w.queueDesk("tshirt", paused(false))
	door(true)
	w.decide(t)
	door(false)
}

func TestTheQueueSaysNo(t *testing.T) {
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	for _, c := range []struct {
		err    error
		status int
	}{
		{fmt.Errorf("orders: %w", sale.ErrQueueFull), 503},
		{fmt.Errorf("orders: %w", sale.ErrUnavailable), 503},
		{context.DeadlineExceeded, 503},
		{fmt.Errorf("stream secret-name: broken"), 500},
	} {
		w.fail(c.err, nil)
		r := buy(t, addr, orderBody("a@b.de"))
		wantProblem(t, r, c.status)
		if strings.Contains(r.body, "secret") {
			t.Errorf("internal text: %s", r.body)
		}
	}
	w.fail(nil, nil)
	s.Refuse()
	wantProblem(t, buy(t, addr, orderBody("a@b.de")), 503, "no more orders")
	if r := get(t, "http://"+addr+"/products"); r.StatusCode != 200 {
		t.Errorf("all else is answered: %d", r.StatusCode)
	}
}

func TestAFullBook(t *testing.T) {
	w := newTownOf(t, sale.NewBook(1), "tshirt")
	_, addr := open(t, w, func(c *Config) { c.MaxMessages = 1 }) // the queue is full, too, and checked later
	bought(t, buy(t, addr, orderBody("a@b.de")))
	wantProblem(t, buy(t, addr, orderBody("a@b.de")), 503, "holds")
}

// The last places in the queue are for the desk.
func TestAFullQueue(t *testing.T) {
	for _, c := range []struct{ maxMessages, orders int64 }{{0, 0}, {1, 1}, {99, 99}, {100, 99}, {5000, 4950}, {10_000, 9_900}, {1_000_000, 999_900}} {
		if n := orderRoom(c.maxMessages); n != c.orders {
			t.Errorf("%d orders of %d messages, want %d", n, c.maxMessages, c.orders)
		}
	}

	w := newTown(t, "tshirt", "mug")
	_, addr := open(t, w, func(c *Config) { c.MaxMessages = 200 })
	key := []string{"Idempotency-Key", "k"}
	id := bought(t, buy(t, addr, `{"email":"a@b.de","product":"mug"}`, key...))
	for n := range 196 {
		w.publish(t, sale.KeyedID("c@b.de", "tshirt", fmt.Sprint(n)), "c@b.de", "tshirt")
	}
	bought(t, buy(t, addr, `{"email":"a@b.de","product":"mug"}`))
	placed := w.placing.Load()
	wantProblem(t, buy(t, addr, `{"email":"a@b.de","product":"mug"}`), 503, "waiting")
	wantProblem(t, buy(t, addr, `{"email":"a@b.de","product":"tshirt"}`, "Idempotency-Key", "new"), 503, "waiting")
	if r := buy(t, addr, `{"email":"a@b.de","product":"mug"}`, key...); bought(t, r) != id || r.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("a replay: %v %s", r.Header, r.body)
	}
	if w.placing.Load() != placed {
		t.Error("a refused order was placed")
	}
	w.decide(t)
	bought(t, buy(t, addr, `{"email":"a@b.de","product":"mug"}`))
}

func (panicking) Place(context.Context, sale.ProductID, sale.Order) error { panic("secret") }

func TestResponseIsJSON(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	r := buy(t, addr, orderBody(`o'hara+{x}|~"@x.com`))
	wantProblem(t, r, 400, "email")
	r = buy(t, addr, orderBody("o'hara+{x}|~*=?/@x.com"))
	bought(t, r)
	if !json.Valid([]byte(r.body)) {
		t.Error(r.body)
	}
	if r := get(t, "http://"+addr+"/orders?email=*@x.com"); r.body != `{"orders":[]}` || r.StatusCode != http.StatusOK {
		t.Errorf("a star is a star: %s", r.body)
	}
}
