package web

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestHostsOfTheirOwn(t *testing.T) {
	hosts := NewHosts("ops.hosts", "Shop.Example", "intranet.")
	for host, own := range map[string]bool{
		"":                         true, // HTTP/1.0
		"127.0.0.1":                true,
		"127.0.0.1:4001":           true,
		"192.0.2.7:4001":           true,
		"[::1]":                    true,
		"[2001:db8::1]:4001":       true,
		"localhost":                true,
		"LocalHost.:4001":          true,
		"a.localhost:80":           true,
		"shop.example":             true,
		"SHOP.example.:4001":       true,
		"intranet":                 true,
		"evil.example":             false,
		"evil.example:4001":        false,
		"localhost.evil.example":   false,
		"127.0.0.1.evil.example":   false,
		"a.shop.example":           false,
		"shop.example.evil:4001":   false,
		"notlocalhost":             false,
		"evil.example:4001:1":      false,
		"[evil.example]":           false,
		"127.0.0.1@evil.example":   false,
		"localhost@evil.example:1": false,
		"2130706433":               false, // browsers send 127.0.0.1 for it
	} {
		if hosts.serve(host) != own {
			t.Errorf("%q: own %v", host, !own)
		}
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil)
		r.Host = host
		hosts.Guard(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })).ServeHTTP(w, r)
		if own && w.Code != 204 {
			t.Errorf("%q gets %d", host, w.Code)
		} else if !own {
			wantProblem(t, reply{w.Result(), w.Body.String()}, 421, "ops.hosts")
		}
	}
	for _, name := range []string{"", "*", "shop.example:80", "https://shop.example", "a b", "-a", ".example", "[::1]"} {
		if CheckHost(name) == nil {
			t.Errorf("%q is taken", name)
		}
	}
	for _, name := range []string{"shop.example", "Shop", "a-b.example"} {
		if err := CheckHost(name); err != nil {
			t.Error(err)
		}
	}
}

// A page with a rebound name sends the port of the listener on the loopback address. A
// proxy on the same machine hands on the public name.
func TestAReboundNameIsRefused(t *testing.T) {
	w := newTown(t, "tshirt")
	var log said
	s, addr := open(t, w, func(c *Config) { c.Hosts, c.Log = []string{"shop.example"}, log.logger() })
	_, port, _ := net.SplitHostPort(addr)
	for host, ok := range map[string]bool{
		"evil.example:" + port:  false,
		"evil.example.:" + port: false,
		"localhost:" + port:     true,
		"a.localhost:" + port:   true,
		"shop.example:" + port:  true,
		addr:                    true,
		"evil.example":          true, // port 80
		"evil.example:443":      true,
	} {
		page := []string{"Host", host, "Origin", "http://" + host}
		answers := map[string]reply{
			"buy":       buy(t, addr, orderBody("a@b.de"), page...),
			"orders":    get(t, "http://"+addr+"/orders?email=a@b.de", page...),
			"page":      get(t, "http://"+addr+"/", page...),
			"nothing":   get(t, "http://"+addr+"/nothing", page...),
			"preflight": send(t, "OPTIONS", "http://"+addr+"/buy", "", page...),
		}
		for name, r := range answers {
			if !ok {
				wantProblem(t, r, 421, "http.hosts")
			} else if r.StatusCode == 421 {
				t.Errorf("%s at %s: %d %s", name, host, r.StatusCode, r.body)
			}
		}
		if code := upgradeStatus(t, addr, page); code != map[bool]int{true: 101, false: 421}[ok] {
			t.Errorf("socket at %s: %d", host, code)
		}
	}
	if s.loopbackPort != port {
		t.Errorf("port %q", s.loopbackPort)
	}
	log.want(t, 1, "under a foreign name", "host=evil.example")
}

type listening struct {
	net.Listener
	at net.Addr
}

func (l listening) Addr() net.Addr { return l.at }

// Elsewhere than on the loopback address the public name is anybody's, and port 80 is
// said by leaving it out.
func TestHostsAreAskedForOnLoopbackOnly(t *testing.T) {
	for ip, want := range map[string]string{"127.0.0.1": "80", "::1": "80", "0.0.0.0": "", "::": "", "192.0.2.1": ""} {
		if got := loopbackPort(listening{at: &net.TCPAddr{IP: net.ParseIP(ip), Port: 80}}); got != want {
			t.Errorf("%s: %q, want %q", ip, got, want)
		}
	}
	if got := loopbackPort(listening{at: &net.UnixAddr{Name: "/x"}}); got != "" {
		t.Errorf("%q", got)
	}
	w := newTown(t, "tshirt")
	s, addr := open(t, w, nil)
	_ = get(t, "http://"+addr+"/products") // it serves
	s.loopbackPort = "80"
	wantProblem(t, get(t, "http://"+addr+"/products", "Host", "evil.example"), 421)
}

func TestSlashesTooMany(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	for _, path := range []string{"//buy", "/buy/", "///buy//"} {
		bought(t, send(t, "POST", "http://"+addr+path, orderBody("a@b.de"), "Content-Type", asJSON))
	}
	for path, want := range map[string]string{
		"//":                    "<!doctype html>",
		"//products":            `{"products":[`,
		"/products/":            `{"products":[`,
		"/products//tshirt":     `{"id":"tshirt"`,
		"//orders?email=a@b.de": `{"orders":[{`,
		"/orders/?email=a@b.de": `{"orders":[{`,
		"/page//app.js":         "//",
	} {
		// talk, as net/http has its own opinion on such paths
		if r := talk(t, addr, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); r.StatusCode != 200 || !strings.HasPrefix(r.body, want) {
			t.Errorf("%s: %d %.80s", path, r.StatusCode, r.body)
		}
	}
	if r := send(t, "OPTIONS", "http://"+addr+"//buy/", ""); r.StatusCode != 204 || r.Header.Get("Allow") != "POST, OPTIONS" {
		t.Errorf("OPTIONS: %d", r.StatusCode)
	}
	wantProblem(t, get(t, "http://"+addr+"//buy/"), 405)
	if code := upgradeStatusAt(t, "ws://"+addr+"//ws/?email=a@b.de"); code != 101 {
		t.Errorf("a socket: %d", code)
	}
	// A query is not a path.
	wantProblem(t, get(t, "http://"+addr+"/orders?email=a//b@c.d/"), 400, "email")
	for _, path := range []string{"//nothing", "/nothing/", "/%2fbuy", "/orders/x//y"} {
		wantProblem(t, get(t, "http://"+addr+path), 404)
	}
}

// Below a path of another site, everything that the page and the answers point to is
// below it, too.
func TestBelowAPath(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, func(c *Config) { c.TrustedProxies = []string{"127.0.0.1"} })
	_, stranger := open(t, w, nil)
	for prefix, want := range map[string]string{
		"/drop":                        "/drop",
		"/drop/":                       "/drop",
		"/a/b-c.d~e%20":                "/a/b-c.d~e%20",
		"":                             "",
		"/":                            "",
		"drop":                         "",
		"//evil.example":               "",
		"/drop//x":                     "",
		`/\evil.example`:               "",
		"/drop x":                      "",
		"/drop?x":                      "",
		"https://evil.example":         "",
		"/" + strings.Repeat("x", 256): "",
	} {
		r := buy(t, addr, orderBody("a@b.de"), "X-Forwarded-Prefix", prefix)
		location := r.Header.Get("Location")
		id, ok := strings.CutPrefix(location, want+"/orders/")
		if r.StatusCode != 202 || !ok || len(id) != 36 {
			t.Errorf("%q: %d, Location %q", prefix, r.StatusCode, location)
		}
	}
	bought(t, buy(t, addr, orderBody("a@b.de"), "X-Forwarded-Prefix", "/a", "X-Forwarded-Prefix", "/b"))
	bought(t, buy(t, stranger, orderBody("a@b.de"), "X-Forwarded-Prefix", "/drop"))

	html := get(t, "http://"+addr+"/").body
	for _, rooted := range []string{`href="/`, `src="/`, `action="/`} {
		if strings.Contains(html, rooted) {
			t.Errorf("the page has %s…", rooted)
		}
	}
	for name := range loadPage().files {
		path := "/page/" + name
		if strings.HasSuffix(path, ".js") {
			for _, rooted := range []string{"fetch('/", "fetch(`/", "location.host", "location.origin"} {
				if strings.Contains(get(t, "http://"+addr+path).body, rooted) {
					t.Errorf("%s has %s…", path, rooted)
				}
			}
		}
	}
}

// A + that was not encoded is a space, and the detail says so.
func TestAPlusInAnAddress(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, nil)
	for _, path := range []string{"/orders", "/orders/01900000-0000-7000-8000-000000000000", "/ws"} {
		wantProblem(t, get(t, "http://"+addr+path+"?email=ann+drop@example.com"), 400, "email", "%2B")
	}
	form := func(body string) reply { return send(t, "POST", "http://"+addr+"/buy", body, "Content-Type", asForm) }
	wantProblem(t, form("email=ann+drop@example.com"), 400, "email", "%2B")
	bought(t, form("email=ann%2Bdrop@example.com"))
	bought(t, buy(t, addr, orderBody("ann+drop@example.com")))
	if r := buy(t, addr, orderBody("ann drop@example.com")); r.StatusCode != 400 || strings.Contains(r.body, "%2B") {
		t.Errorf("a space in JSON: %d %s", r.StatusCode, r.body)
	}
	if r := get(t, "http://"+addr+"/orders?email=annexample.com"); r.StatusCode != 400 || strings.Contains(r.body, "%2B") {
		t.Errorf("no space: %d %s", r.StatusCode, r.body)
	}
}

func TestHeadersAndIdleTime(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, func(c *Config) { c.MaxHeaderBytes, c.IdleTimeout = 2048, 50*time.Millisecond })
	long := func(n int) string {
		head := "GET /products HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: "
		return head + strings.Repeat("x", n-len(head)-4) + "\r\n\r\n"
	}
	if r := talk(t, addr, long(2048)); r.StatusCode != 200 {
		t.Errorf("%d", r.StatusCode)
	}
	wantProblem(t, talk(t, addr, long(2049)), 431, "2048 bytes")

	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("GET /products HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 1024); err == nil; _, err = c.Read(b) {
	}
	if late, ok := err.(net.Error); ok && late.Timeout() {
		t.Error("an idle connection is not closed")
	}

	s, _ := open(t, w, nil)
	if server := s.app.Server(); server.IdleTimeout != 130*time.Second || server.ReadBufferSize != 8192 {
		t.Errorf("%s, %d bytes", server.IdleTimeout, server.ReadBufferSize)
	}
}
