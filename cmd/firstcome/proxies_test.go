package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fasthttp/websocket"
)

// door is one way through a proxy to the shop, and what is right there.
type door struct {
	name  string
	at    string // host:port
	path  string // below which the shop is, without a slash at its end
	page  bool   // the page's Origin is known as the shop's own
	live  bool   // sockets are let through
	apart bool   // two buyers have two addresses
}

// Real proxies, each started once with the file that the documents show and with the
// shortest configuration that people use: the page, an order, a socket, and two buyers
// with two addresses.
func TestProxies(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), "http: { listen: 127.0.0.1:0, trusted_proxies: [127.0.0.1] }", "limits: { sockets_per_address: 1 }",
		"products: [ { id: tshirt, stock: 1000 } ]")
	random := rand.New(rand.NewPCG(13, 0))
	listen := func() string { return fmt.Sprintf("127.0.0.1:%d", freePort(t, random)) }
	_, opsPort, _ := net.SplitHostPort(s.ops)
	// A file as it is shown, with the ports of this test.
	shown := func(name string, ports ...string) string {
		t.Helper()
		data, err := os.ReadFile(filepath.Join("..", "..", "configs", "proxies", name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(data)
		for i := 0; i < len(ports); i += 2 {
			if !strings.Contains(text, ports[i]) {
				t.Fatalf("%s does not hold %q any more", name, ports[i])
			}
			text = strings.ReplaceAll(text, ports[i], ports[i+1])
		}
		return text
	}
	write := func(text string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "proxy.conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}

	t.Run("nginx", func(t *testing.T) {
		path := installed(t, "nginx")
		dir := t.TempDir()
		documented, below, bare, usual := listen(), listen(), listen(), listen()
		text := "daemon off;\nmaster_process off;\npid " + dir + "/pid;\nerror_log stderr;\nevents {}\nhttp {\naccess_log off;\n"
		for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
			text += kind + "_temp_path " + dir + "/" + kind + ";\n"
		}
		text += shown("nginx.conf", "127.0.0.1:4000", s.http, "listen 80;", "listen "+documented+";", "listen 8080;", "listen "+below+";") + `
server { listen ` + bare + `; location / { proxy_pass http://` + s.http + `; } }
server { listen ` + usual + `; location / {
	proxy_pass http://` + s.http + `;
	proxy_http_version 1.1;
	proxy_set_header Upgrade $http_upgrade;
	proxy_set_header Connection "upgrade";
	proxy_set_header Host $host;
	proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
} }
}`
		begin(t, exec.Command(path, "-e", "stderr", "-p", dir, "-c", write(text)))
		s.enter(t, 30, door{name: "proxy_pass alone", at: bare})
		s.await(`level=WARN msg="pages of a foreign origin are refused.* origin=https://shop\.example host=` + s.http)
		s.enter(t, 10, door{name: "documented", at: documented, page: true, live: true, apart: true})
		s.enter(t, 20, door{name: "below a path", at: below, path: "/drop", page: true, live: true, apart: true})
		s.enter(t, 40, door{name: "the usual snippet", at: usual, page: true, live: true, apart: true})
	})
	t.Run("caddy", func(t *testing.T) {
		path := installed(t, "caddy")
		documented, short := listen(), listen()
		text := "{\nadmin off\nauto_https off\n}\n" +
			shown("Caddyfile", "127.0.0.1:4000", s.http, "4001", opsPort, "shop.example {", "http://"+documented+", http://shop.example:"+port(documented)+" {") +
			"http://" + short + ", http://shop.example:" + port(short) + " {\nreverse_proxy " + s.http + "\n}\n"
		cmd := exec.Command(path, "run", "--adapter", "caddyfile", "--config", write(text))
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir(), "XDG_DATA_HOME="+t.TempDir())
		begin(t, cmd)
		s.enter(t, 50, door{name: "documented", at: documented, page: true, live: true, apart: true})
		s.enter(t, 60, door{name: "reverse_proxy alone", at: short, page: true, live: true, apart: true})
	})
	t.Run("haproxy", func(t *testing.T) {
		path := installed(t, "haproxy")
		documented, short := listen(), listen()
		text := shown("haproxy.cfg", "127.0.0.1:4000", s.http, "4001", opsPort, "bind :80", "bind "+documented) + `
defaults
	mode http
	timeout connect 5s
	timeout client 60s
	timeout server 60s
listen short
	bind ` + short + `
	server one ` + s.http + "\n"
		begin(t, exec.Command(path, "-db", "-f", write(text)))
		s.enter(t, 70, door{name: "documented", at: documented, page: true, live: true, apart: true})
		s.enter(t, 80, door{name: "a server alone", at: short, page: true, live: true})
	})
	s.stop()
}

// installed is the path of a program that a test needs.
func installed(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	} else if err != nil {
		t.Skip(err)
	}
	return path
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// enter goes through the door as buyers do whose addresses are 127.0.0.n and the next.
func (s *shop) enter(t *testing.T, n int, d door) {
	t.Helper()
	const site = "shop.example"
	host := site
	origin := "https://" + site
	from := func(n int) *net.Dialer {
		return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(n))}, Timeout: patience}
	}
	through := func(n int) *shop {
		transport := &http.Transport{DialContext: from(n).DialContext}
		t.Cleanup(transport.CloseIdleConnections)
		return &shop{s.process, d.at, s.ops, s.nats, &http.Client{Transport: transport, Timeout: patience}}
	}
	buyer := through(n)
	eventually(t, d.name+" lets the page through", func() bool {
		a, err := buyer.ask("GET", d.path+"/", "", "Host", host)
		return err == nil && a.code == 200 && strings.Contains(string(a.body), `<main id="shop"`)
	})
	email := fmt.Sprintf("b%d@example.com", n)
	buy := func(header ...string) answer {
		t.Helper()
		a, err := buyer.ask("POST", d.path+"/buy", fmt.Sprintf(`{"email":%q}`, email),
			append([]string{"Content-Type", "application/json", "Host", host}, header...)...)
		if err != nil {
			t.Fatalf("%s: %v", d.name, err)
		}
		return a
	}
	taken := buy()
	if o := taken.order(t); taken.header.Get("Location") != d.path+"/orders/"+o.ID {
		t.Errorf("%s: Location %q", d.name, taken.header.Get("Location"))
	}
	if a := buy("Origin", origin); d.page {
		a.order(t)
	} else if a.code != 403 {
		t.Errorf("%s: the page may not know its shop, and gets %d", d.name, a.code)
	}
	if a := buy("Origin", "https://evil.example"); a.code != 403 {
		t.Errorf("%s: a stranger gets %d", d.name, a.code)
	}
	socket := func(n int) (status int) {
		t.Helper()
		dialer := websocket.Dialer{HandshakeTimeout: patience, NetDialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return from(n).DialContext(ctx, network, address)
		}}
		ws, res, err := dialer.Dial("ws://"+d.at+d.path+"/ws?email="+url.QueryEscape(email), http.Header{"Host": {host}, "Origin": {origin}})
		if res == nil {
			t.Fatalf("%s: %v", d.name, err)
		}
		res.Body.Close()
		if err != nil {
			return res.StatusCode
		}
		t.Cleanup(func() { ws.Close() })
		if err := ws.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, hello, err := ws.ReadMessage(); err != nil || !strings.Contains(string(hello), `"type":"hello"`) {
			t.Errorf("%s: %s, %v", d.name, hello, err)
		}
		return res.StatusCode
	}
	if !d.live {
		if code := socket(n); code == 101 {
			t.Errorf("%s: a socket", d.name)
		}
		return
	}
	got := [3]int{socket(n), socket(n), socket(n + 1)}
	want := [3]int{101, 429, 101}
	if !d.apart {
		want[2] = 429 // all are the proxy
	}
	if got != want {
		t.Errorf("%s: sockets of one address, again, and of another: %v, want %v", d.name, got, want)
	}
}
