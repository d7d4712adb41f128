package web

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

var testStart = time.Now()

func TestHopsAreRead(t *testing.T) {
	for hop, want := range map[string]string{
		"192.0.2.1":                    "192.0.2.1",
		"192.0.2.1:443":                "192.0.2.1",
		"192.0.2.1:_azure.1-a_b":       "192.0.2.1",
		"2001:db8::1":                  "2001:db8::1",
		"[2001:db8::1]":                "2001:db8::1",
		"[2001:db8::1]:443":            "2001:db8::1",
		"[2001:db8::1]:_port":          "2001:db8::1",
		"[fe80::1%eth0]:443":           "fe80::1",
		"fe80::1%eth0":                 "fe80::1",
		"::ffff:192.0.2.1":             "192.0.2.1",
		"[::ffff:192.0.2.1]:443":       "192.0.2.1",
		`"192.0.2.1"`:                  "192.0.2.1",
		`"192.0.2.1:443"`:              "192.0.2.1",
		`"[2001:db8::1]:443"`:          "2001:db8::1",
		`"\[2001:db8::1\]:443"`:        "2001:db8::1",
		"":                             "",
		"unknown":                      "",
		"_hidden":                      "",
		"unix:":                        "",
		"unix:/run/nginx.sock":         "",
		"shop.example":                 "",
		"shop.example:443":             "",
		"192.0.2.1:":                   "",
		"192.0.2.1:123456":             "",
		"192.0.2.1:http":               "",
		"192.0.2.1:443:1":              "",
		"192.0.2.1 ":                   "",
		"192.0.2":                      "",
		"192.0.2.256":                  "",
		"192.0.2.01":                   "",
		"[192.0.2.1]":                  "",
		"[192.0.2.1]:443":              "",
		"[2001:db8::1":                 "",
		"2001:db8::1]":                 "",
		"[2001:db8::1]443":             "",
		"[2001:db8::1]:":               "",
		"[]":                           "",
		`"`:                            "",
		`""`:                           "",
		`"192.0.2.1`:                   "",
		"http://192.0.2.1":             "",
		strings.Repeat("1", 4096):      "",
		"192.0.2.1, 192.0.2.2":         "",
		"2001:db8::1:2:3:4:5:6:7:8:9":  "",
		"for=192.0.2.1":                "",
		"::ffff:192.0.2.1%eth0":        "192.0.2.1",
		"[2001:db8::1]:443, 192.0.2.2": "",
	} {
		got, ok := readHop(hop)
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%q is read as %s, %v", hop, got, ok)
		}
	}
}

// What is read is a plain address, and says the same however it is spelled again.
func FuzzHop(f *testing.F) {
	for _, hop := range []string{"192.0.2.1:443", "[2001:db8::1]:443", "[fe80::1%eth0]", `"::ffff:192.0.2.1"`, "unix:", "_x", `"\["`, "[", "]:1", ":1"} {
		f.Add(hop)
	}
	f.Fuzz(func(t *testing.T, hop string) {
		ip, ok := readHop(hop)
		if !ok {
			return
		}
		if !ip.IsValid() || ip.Is4In6() || ip.Zone() != "" {
			t.Errorf("%q is read as %s", hop, ip)
		}
		text := ip.String()
		if ip.Is6() {
			text = "[" + text + "]"
		}
		for _, again := range []string{ip.String(), text + ":443", `"` + text + `:1"`} {
			if same, ok := readHop(again); !ok || same != ip {
				t.Errorf("%q is read as %s, but %q as %s, %v", hop, ip, again, same, ok)
			}
		}
	})
}

// A list splits at commas outside of quotes and loses nothing.
func FuzzForwarded(f *testing.F) {
	for _, value := range []string{`for=192.0.2.1;host=shop.example, For="[2001:db8::1]:443"`, `host="a,b;c"`, `for="\"`, `;=,=;`, `"`} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if got := strings.Join(splitOutside(value, ','), ","); got != value {
			t.Errorf("%q becomes %q", value, got)
		}
		var head fasthttp.RequestHeader
		head.Set("Forwarded", value)
		for _, name := range []string{"for", "host"} {
			if n := len(forwarded(&head, name, "-")); n != len(listed(head.PeekAll("Forwarded"))) {
				t.Errorf("%q has %d elements with %s", value, n, name)
			}
		}
	})
}

func TestTheClientIsTheHopThatNoProxyVouchesFor(t *testing.T) {
	for _, c := range []struct {
		name, trusted, peer string
		header              []string
		client, unreadable  string
	}{
		{"no header", "127.0.0.1", "127.0.0.1", nil, "127.0.0.1", ""},
		{"a stranger's header", "10.0.0.1", "192.0.2.9", []string{"X-Forwarded-For", "192.0.2.1"}, "192.0.2.9", ""},
		{"one hop", "127.0.0.1", "127.0.0.1", []string{"X-Forwarded-For", "192.0.2.1:5123"}, "192.0.2.1", ""},
		{"a forged hop", "127.0.0.1", "127.0.0.1", []string{"X-Forwarded-For", "192.0.2.66, 192.0.2.1"}, "192.0.2.1", ""},
		{"trusted hops with ports", "127.0.0.1,10.0.0.0/8", "127.0.0.1",
			[]string{"X-Forwarded-For", "192.0.2.66, 192.0.2.1, 10.0.0.1:5000, [::ffff:10.0.0.2]:1"}, "192.0.2.1", ""},
		{"several lines", "127.0.0.1,10.0.0.0/8", "127.0.0.1",
			[]string{"X-Forwarded-For", "192.0.2.66", "X-Forwarded-For", "192.0.2.1, 10.0.0.2", "X-Forwarded-For", "10.0.0.1"}, "192.0.2.1", ""},
		{"empty elements", "127.0.0.1", "127.0.0.1", []string{"X-Forwarded-For", " 192.0.2.1 ,\t, ,", "X-Forwarded-For", ""}, "192.0.2.1", ""},
		{"nothing but commas", "127.0.0.1", "127.0.0.1", []string{"X-Forwarded-For", ",,"}, "127.0.0.1", ""},
		{"unreadable", "127.0.0.1,10.0.0.0/8", "127.0.0.1", []string{"X-Forwarded-For", "192.0.2.66, unknown, 10.0.0.1"}, "10.0.0.1", "unknown"},
		{"unreadable to the left", "127.0.0.1", "127.0.0.1", []string{"X-Forwarded-For", "unknown, 192.0.2.1"}, "192.0.2.1", ""},
		{"a client's quote", "127.0.0.1", "127.0.0.1", []string{"X-Forwarded-For", `"x, 192.0.2.1`}, "192.0.2.1", ""},
		{"a quoted hop", "127.0.0.1,10.0.0.0/8", "127.0.0.1", []string{"X-Forwarded-For", `"[2001:db8::1]:443", "10.0.0.1"`}, "2001:db8::1", ""},
		{"all trusted", "127.0.0.1,10.0.0.0/8", "127.0.0.1", []string{"X-Forwarded-For", "10.0.0.9, 10.0.0.1"}, "10.0.0.9", ""},
		{"a zone", "fe80::1", "fe80::1%eth0", []string{"X-Forwarded-For", "192.0.2.1"}, "192.0.2.1", ""},
		{"a mapped range", "::ffff:127.0.0.0/104", "127.1.2.3", []string{"X-Forwarded-For", "192.0.2.1"}, "192.0.2.1", ""},
		{"a mapped address", "::ffff:127.0.0.1", "::ffff:127.0.0.1", []string{"X-Forwarded-For", "192.0.2.1"}, "192.0.2.1", ""},
		{"all of IPv4", "::ffff:0:0/96", "203.0.113.1", []string{"X-Forwarded-For", "2001:db8::1"}, "2001:db8::1", ""},
		{"Forwarded", "127.0.0.1,10.0.0.0/8", "127.0.0.1",
			[]string{"Forwarded", `for=192.0.2.66;proto=https, FOR="[2001:db8::1]:443";host="a,b", proto=http;for=10.0.0.1`}, "2001:db8::1", ""},
		{"Forwarded beside X-Forwarded-For", "127.0.0.1", "127.0.0.1", []string{"Forwarded", "for=192.0.2.66", "X-Forwarded-For", "192.0.2.1"}, "192.0.2.1", ""},
		{"Forwarded beside an empty X-Forwarded-For", "127.0.0.1", "127.0.0.1", []string{"Forwarded", "for=192.0.2.66", "X-Forwarded-For", ""}, "127.0.0.1", ""},
		{"Forwarded, hidden", "127.0.0.1", "127.0.0.1", []string{"Forwarded", "for=192.0.2.66, for=_hidden"}, "127.0.0.1", "_hidden"},
		{"Forwarded without for", "127.0.0.1", "127.0.0.1", []string{"Forwarded", "for=192.0.2.66, host=shop.example"}, "127.0.0.1", "nothing"},
		{"Forwarded, a quote without end", "127.0.0.1", "127.0.0.1", []string{"Forwarded", `for="192.0.2.66, for=192.0.2.1`}, "127.0.0.1", `"192.0.2.66, for=192.0.2.1`},
	} {
		t.Run(c.name, func(t *testing.T) {
			ps, err := newProxies(strings.Split(c.trusted, ","))
			if err != nil {
				t.Fatal(err)
			}
			var head fasthttp.RequestHeader
			for i := 0; i < len(c.header); i += 2 {
				head.Add(c.header[i], c.header[i+1])
			}
			client, unreadable := ps.client(netip.MustParseAddr(c.peer), hops(&head))
			if client.String() != c.client || unreadable != c.unreadable {
				t.Errorf("client %s, unreadable %q", client, unreadable)
			}
		})
	}
}

func TestARangeThatIsNeitherIPv4NorIPv6IsRefused(t *testing.T) {
	for _, proxy := range []string{"::ffff:0:0/90", "::ffff:10.0.0.0/8"} {
		if err := CheckProxy(proxy); err == nil {
			t.Errorf("%s is taken", proxy)
		}
	}
}

// Two buyers behind a proxy that writes ports are two, one with two ports is one, and
// what cannot be read is logged once.
func TestBuyersBehindAProxyWithPorts(t *testing.T) {
	w := newTown(t, "tshirt")
	now := time.Now()
	var log said
	_, addr := open(t, w, func(c *Config) {
		c.PerAddress, c.Now, c.TrustedProxies, c.Log = 1, func() time.Time { return now }, []string{"::ffff:127.0.0.0/104"}, log.logger()
	})
	for _, c := range []struct {
		name, value string
		status      int
	}{
		{"X-Forwarded-For", "203.0.113.7:51234", 202},
		{"X-Forwarded-For", "203.0.113.7:51235", 429},
		{"X-Forwarded-For", "198.51.100.9:40000", 202},
		{"X-Forwarded-For", "[2001:db8::7]:443", 202},
		{"X-Forwarded-For", "[2001:db8::8]", 429}, // of the same 64 bits
		{"X-Forwarded-For", "[2001:db8:0:1::7]", 202},
		{"Forwarded", `for="[2001:db8:0:2::7]:443"`, 202},
		{"Forwarded", "for=198.51.100.9", 429},
		{"X-Forwarded-For", "unknown", 202}, // the proxy's own
		{"X-Forwarded-For", "unix:", 429},
	} {
		if r := buy(t, addr, orderBody("a@b.de"), c.name, c.value); r.StatusCode != c.status {
			t.Errorf("%s: %s is %d, want %d", c.name, c.value, r.StatusCode, c.status)
		}
	}
	log.want(t, 1, "what is no address", "read=unknown counts=127.0.0.1")
	log.want(t, 1, "what is no address")
}

func TestOriginsBehindAProxy(t *testing.T) {
	w := newTown(t, "tshirt")
	w.steer(t, "tshirt", left(1000))
	var log said
	var later atomic.Int64 // seconds
	behind := func(proxy string) string {
		_, addr := open(t, w, func(c *Config) {
			c.TrustedProxies, c.Log = []string{proxy}, log.logger()
			c.Now = func() time.Time { return testStart.Add(time.Duration(later.Load()) * time.Second) }
		})
		return addr
	}
	trusted, untrusted := behind("127.0.0.1"), behind("10.0.0.1")
	for _, c := range []struct {
		addr, host, origin, name, value string
		ok                              bool
	}{
		{trusted, "firstcome:4000", "https://shop.example", "X-Forwarded-Host", "shop.example", true},
		{trusted, "firstcome:4000", "https://shop.example:8443", "X-Forwarded-Host", "Shop.Example:8443", true},
		{trusted, "firstcome:4000", "https://shop.example", "X-Forwarded-Host", "shop.example:443, inner.example", true},
		{trusted, "firstcome:4000", "https://shop.example", "Forwarded", `for=192.0.2.1;host="shop.example:80"`, true},
		{trusted, "firstcome:4000", "https://shop.example:8443", "X-Forwarded-Host", "shop.example", false},
		{trusted, "firstcome:4000", "https://evil.example", "X-Forwarded-Host", "shop.example", false},
		{trusted, "firstcome:4000", "https://evil.example", "Forwarded", "host=shop.example", false},
		{trusted, "firstcome:4000", "https://:443", "Forwarded", "for=192.0.2.1", false},
		{trusted, "firstcome:4000", "null", "X-Forwarded-Host", "null", false},
		{untrusted, "firstcome:4000", "https://shop.example", "X-Forwarded-Host", "shop.example", false},
		{untrusted, "firstcome:4000", "https://shop.example", "Forwarded", "host=shop.example", false},
	} {
		later.Add(1)
		header := []string{"Host", c.host, "Origin", c.origin, c.name, c.value}
		r := buy(t, c.addr, orderBody("a@b.de"), header...)
		socket := upgradeStatus(t, c.addr, header)
		if c.ok && (r.StatusCode != 202 || socket != 101) || !c.ok && (r.StatusCode != 403 || socket != 403) {
			t.Errorf("%s with %s: %s at %s: %d, socket %d", c.origin, c.name, c.value, c.host, r.StatusCode, socket)
		}
	}
	log.want(t, 2, "origin=https://evil.example host=firstcome:4000 forwarded_host=shop.example peer_is_trusted=true times=2")
	log.want(t, 2, "origin=https://shop.example host=firstcome:4000 forwarded_host=shop.example peer_is_trusted=false")
}

// Refusals are logged once a second, with their number, also those that end with the
// preflight.
func TestRefusedOriginsAreLogged(t *testing.T) {
	w := newTown(t, "tshirt")
	var log said
	clock := newHandClock()
	_, addr := open(t, w, func(c *Config) { c.Log, c.Now = log.logger(), clock.now })
	flight := func() {
		send(t, "OPTIONS", "http://"+addr+"/buy", "", "Origin", "https://evil.example", "Access-Control-Request-Method", "POST")
	}
	get(t, "http://"+addr+"/products", "Origin", "https://evil.example") // it is answered
	log.want(t, 0, "level=WARN")
	for range 3 {
		flight()
	}
	log.want(t, 1, "origin=https://evil.example host="+addr+" times=1")
	clock.pass(time.Second)
	wantProblem(t, buy(t, addr, orderBody("a@b.de"), "Origin", "https://"+strings.Repeat("x", 3000)), 403)
	log.want(t, 1, "xxx… host=", "times=3")
	log.want(t, 2, "level=WARN")
}

func TestPreflightsAllowWhatIsAskedFor(t *testing.T) {
	w := newTown(t, "tshirt")
	_, addr := open(t, w, func(c *Config) { c.AllowedOrigins = []string{"https://shop.example"} })
	usual := "Content-Type, Idempotency-Key"
	for asked, want := range map[string]string{
		"":  usual,
		"x": "x",
		"baggage,content-type,idempotency-key,sentry-trace,traceparent": "baggage,content-type,idempotency-key,sentry-trace,traceparent",
		"a , b\t,c":                            "a , b\t,c",
		"a,,b":                                 usual,
		"a b":                                  usual,
		"x-ü":                                  usual,
		"(a)":                                  usual,
		strings.Repeat("a", 1024):              strings.Repeat("a", 1024),
		strings.Repeat("a", 1025):              usual,
		"*":                                    "*",
		"a;q=1":                                usual,
		strings.Repeat("a,", 511) + "bb":       strings.Repeat("a,", 511) + "bb",
		strings.Repeat("a,", 511) + "bb,cc,dd": usual,
	} {
		for _, path := range []string{"/buy", "/products", "/orders/x"} {
			r := send(t, "OPTIONS", "http://"+addr+path, "", "Origin", "https://shop.example",
				"Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", asked)
			if got := r.Header.Get("Access-Control-Allow-Headers"); r.StatusCode != 204 || got != want {
				t.Errorf("%s: asked for %.40q, allowed %.40q", path, asked, got)
			}
		}
	}
	r := send(t, "OPTIONS", "http://"+addr+"/buy", "", "Origin", "https://evil.example", "Access-Control-Request-Headers", "x")
	for name := range r.Header {
		if strings.HasPrefix(name, "Access-Control-") {
			t.Errorf("a stranger is told %s", name)
		}
	}
}
