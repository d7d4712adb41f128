package main

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func TestRules(t *testing.T) {
	cluster := func(c *config) { c.NATS.URL = "nats://a" }
	for _, c := range []struct {
		key  string
		set  func(c *config, v any)
		good []any
		bad  []any
	}{
		{"instance.name", func(c *config, v any) { c.Instance.Name = v.(string) },
			[]any{"", "a", "Shop-1_b.example", strings.Repeat("a", 64)}, []any{" ", "a b", "ü", "a\n", "a/b", strings.Repeat("a", 65)}},
		{"http.listen", func(c *config, v any) { c.HTTP.Listen = v.(string) },
			[]any{":0", "0.0.0.0:80", "[::]:80", "localhost:65535", "shop.example.com:80"},
			[]any{"", "80", "localhost", "localhost:", "localhost:http", "localhost:65536", "localhost:-1", "::1:80", "a b:80", "-a:80", "a/:80"}},
		{"ops.listen", func(c *config, v any) { c.Ops.Listen = v.(string) }, []any{":0"}, []any{""}},
		{"nats.embedded.listen", func(c *config, v any) { c.NATS.Embedded.Listen = v.(string) }, []any{":0"}, []any{""}},
		{"http.allowed_origins[1]", func(c *config, v any) { c.HTTP.AllowedOrigins = []string{"http://a", v.(string)} },
			[]any{"https://shop.example.com", "http://localhost:5173", "http://[::1]:5173", "https://a:80", "app://localhost"},
			[]any{"", "*", "null", "demo", "shop.example.com", "//a", "https://", "https://a/", "https://a/b", "https://a?b", "https://a#b",
				"https://A", "HTTPS://a", "https://a:443", "http://a:80", "https://u@a", "https://*.a", "https://a:x", "https://a:", "https://a b", " https://a"}},
		{"http.trusted_proxies[0]", func(c *config, v any) { c.HTTP.TrustedProxies = []string{v.(string)} },
			[]any{"10.1.2.3", "10.0.0.0/8", "::1", "fd00::/8", "::ffff:127.0.0.0/104"},
			[]any{"", "localhost", "10.0.0.0/33", "10.0.0", "10.0.0.1:80", "::ffff:0:0/90"}},
		{"http.hosts[1]", func(c *config, v any) { c.HTTP.Hosts = []string{"a", v.(string)} },
			[]any{"shop.example.com", "Shop"}, []any{"", "*", "shop.example.com:80", "https://a", "[::1]"}},
		{"ops.hosts[0]", func(c *config, v any) { c.Ops.Hosts = []string{v.(string)} }, []any{"firstcome-1"}, []any{"firstcome:4001"}},
		{"http.max_header_bytes", func(c *config, v any) { c.HTTP.MaxHeaderBytes = v.(int) }, []any{1024, 65536}, []any{-1, 0, 1023, 65537}},
		{"http.idle_timeout", func(c *config, v any) { c.HTTP.IdleTimeout = v.(time.Duration) },
			[]any{time.Second, time.Hour}, []any{time.Duration(-1), time.Duration(0), time.Second - 1}},
		{"limits.sockets_per_address", func(c *config, v any) { c.Limits.SocketsPerAddress = v.(int) }, []any{0, 1}, []any{-1}},
		{"limits.sockets_per_buyer", func(c *config, v any) { c.Limits.SocketsPerBuyer = v.(int) }, []any{0, 1}, []any{-1}},
		{"nats.url", func(c *config, v any) { c.NATS.URL = v.(string) },
			[]any{"", "nats://a", "nats://a:4222,tls://b:4222", "ws://a:80", "wss://a/path", "nats://u:p@a:1", "nats://[::1]:4222, nats://b"},
			[]any{"a", "a:4222", "http://a", "nats://", "nats://a,", ",nats://a", "nats://a:x", "nats://a nats://b", "nats://a:65536"}},
		{"nats.credentials", func(c *config, v any) { c.NATS.Credentials = v.(string) }, []any{"", "/a b/ü.creds"}, []any{"a\x00b", "a\nb", "\xff"}},
		{"nats.tls.cert", func(c *config, v any) { c.NATS.TLS = v.(tlsConfig) },
			[]any{tlsConfig{}, tlsConfig{CA: "ca"}, tlsConfig{Cert: "c", Key: "k"}}, []any{tlsConfig{Cert: "c"}}},
		{"nats.tls.key", func(c *config, v any) { c.NATS.TLS = v.(tlsConfig) }, nil, []any{tlsConfig{Key: "k"}}},
		{"nats.tls.ca", func(c *config, v any) { c.NATS.TLS.CA = v.(string) }, []any{"ca"}, []any{"\n"}},
		{"nats.tls.cert", func(c *config, v any) { c.NATS.TLS = tlsConfig{Cert: v.(string), Key: "k"} }, []any{"c"}, []any{"\n"}},
		{"nats.tls.key", func(c *config, v any) { c.NATS.TLS = tlsConfig{Cert: "c", Key: v.(string)} }, []any{"k"}, []any{"\n"}},
		{"nats.user", func(c *config, v any) { c.NATS.User, c.NATS.Password = "u", secret(v.(string)) }, []any{"p"}, []any{""}},
		{"nats.password", func(c *config, v any) { c.NATS.User, c.NATS.Password = v.(string), "p" }, []any{"u"}, []any{""}},
		{"nats.token", func(c *config, v any) {
			c.NATS.User, c.NATS.Password, c.NATS.Token = v.(string), secret(v.(string)), "t"
		}, []any{""}, []any{"u"}},
		{"nats.replicas", func(c *config, v any) { cluster(c); c.NATS.Replicas = v.(int) }, []any{1, 3, 5}, []any{-1, 0, 2, 4, 6, 7}},
		{"nats.replicas", func(c *config, v any) { c.NATS.Replicas = 3; c.NATS.Embedded.Config = v.(string) }, []any{"node.conf"}, []any{""}},
		{"nats.embedded.store_dir", func(c *config, v any) { c.NATS.Embedded.StoreDir = v.(string) }, []any{"d"}, []any{"", "\x00"}},
		{"nats.embedded.store_dir", func(c *config, v any) { cluster(c); c.NATS.Embedded.StoreDir = v.(string) }, []any{""}, []any{"\x00"}},
		{"nats.embedded.sync", func(c *config, v any) { c.NATS.Embedded.Sync = v.(string) },
			[]any{"always", "2m", "1ms"}, []any{"", "Always", "never", "0s", "-1s", "999us", "5"}},
		{"nats.embedded.config", func(c *config, v any) { c.NATS.Embedded.Config = v.(string) }, []any{"", "a"}, []any{"\n"}},
		{"worker.processing_time", func(c *config, v any) { c.Worker.ProcessingTime = v.(time.Duration) },
			[]any{time.Duration(0), time.Hour}, []any{time.Duration(-1)}},
		{"group.max_orders", func(c *config, v any) { c.Group.MaxOrders = v.(int) }, []any{1, 1000}, []any{-1, 0, 1001}},
		{"group.max_wait", func(c *config, v any) { c.Group.MaxWait = v.(time.Duration) },
			[]any{time.Duration(1), time.Second}, []any{time.Duration(0), time.Duration(-1), time.Second + 1}},
		{"group.in_flight", func(c *config, v any) { c.Group.InFlight = v.(int) }, []any{1, 64}, []any{0, 65}},
		{"queue.max_messages", func(c *config, v any) { c.Queue.MaxMessages = v.(int64) }, []any{int64(1), int64(math.MaxInt64)}, []any{int64(0), int64(-1)}},
		{"products[0].id", func(c *config, v any) { c.Products = []productConfig{{ID: v.(string)}} },
			[]any{"a", "0", "t-shirt_2", strings.Repeat("a", 63)},
			[]any{"", "A", "-a", "_a", "a.b", "a b", "a*", "ü", "a\n", strings.Repeat("a", 64)}},
		{"products[1].id", func(c *config, v any) { c.Products = []productConfig{{ID: "a"}, {ID: v.(string)}} }, []any{"b"}, []any{"a"}},
		{"products[0].stock", func(c *config, v any) { c.Products = []productConfig{{ID: "a", Stock: v.(int64)}} },
			[]any{int64(0), int64(1e12)}, []any{int64(-1), int64(1e12 + 1)}},
		{"products[0].limit_per_buyer", func(c *config, v any) { c.Products = []productConfig{{ID: "a", LimitPerBuyer: v.(int64)}} },
			[]any{int64(0), int64(1e12)}, []any{int64(-1), int64(1e12 + 1)}},
		{"products[0].title", func(c *config, v any) { c.Products = []productConfig{{ID: "a", Title: v.(string)}} },
			[]any{"", "Größe \"M\" <b>"}, []any{"\x00", "\xff", "a\rb", strings.Repeat("a", 4097)}},
		{"products[0].description", func(c *config, v any) { c.Products = []productConfig{{ID: "a", Description: v.(string)}} },
			[]any{"a\nb\tc"}, []any{"\x1b"}},
		{"products[0].price", func(c *config, v any) { c.Products = []productConfig{{ID: "a", Price: v.(string)}} }, []any{"25 €"}, []any{"\x7f"}},
		{"products[0].image", func(c *config, v any) { c.Products = []productConfig{{ID: "a", Image: v.(string)}} }, []any{"", "a.png"}, []any{"a\n"}},
		{"products[0].next_url", func(c *config, v any) { c.Products = []productConfig{{ID: "a", NextURL: v.(string)}} },
			[]any{"", "https://shop.example/pay?from=drop", "https://shop.example:8443", "http://localhost:5173/next", "http://127.0.0.1", "http://[::1]:80/"},
			[]any{"shop.example", "http://shop.example", "//shop.example", "https://", "ftp://shop.example", "https://a:b@shop.example", "https://shop.example/#a", "javascript:alert(1)"}},
		{"limits.per_address", func(c *config, v any) { c.Limits.PerAddress = v.(int) }, []any{0, 1}, []any{-1}},
		{"limits.per_buyer", func(c *config, v any) { c.Limits.PerBuyer = v.(int) }, []any{0, 1}, []any{-1}},
		{"book.max_orders", func(c *config, v any) { c.Book.MaxOrders = v.(int) }, []any{1}, []any{0}},
		{"auth.mode", func(c *config, v any) { c.Auth.Mode = v.(string) }, []any{"open"}, []any{"", "token", "Open"}},
		{"log.level", func(c *config, v any) { c.Log.Level = v.(string) }, []any{"debug", "info", "warn", "error"}, []any{"", "INFO", "trace"}},
		{"log.format", func(c *config, v any) { c.Log.Format = v.(string) }, []any{"text", "json"}, []any{"", "logfmt"}},
	} {
		for _, v := range c.good {
			cfg := defaultConfig()
			c.set(&cfg, v)
			if err := cfg.validate(); err != nil {
				t.Errorf("%s = %#v: %v", c.key, v, err)
			}
		}
		for _, v := range c.bad {
			cfg := defaultConfig()
			c.set(&cfg, v)
			broken := cfg.check()
			if len(broken) == 0 {
				t.Errorf("%s = %#v was accepted", c.key, v)
			}
			for _, p := range broken {
				if p.key != c.key || strings.TrimSpace(p.text) == "" {
					t.Errorf("%s = %#v: %v, want a problem with that key", c.key, v, p)
				}
			}
			if len(broken) > 0 && !strings.HasPrefix(fmt.Sprint(cfg.validate()), c.key+": ") {
				t.Errorf("%s = %#v: %v", c.key, v, cfg.validate())
			}
		}
	}
}

// Of two that belong together, the one that was given is named, with where it
// came from.
func TestHalfAPairNamesTheHalfThatIsThere(t *testing.T) {
	const cluster = "nats:\n  url: nats://a\n"
	for _, c := range []struct{ file, environ, want string }{
		{cluster, "FIRSTCOME_NATS_USER=app", "FIRSTCOME_NATS_USER: nats.user: user and password"},
		{cluster, "FIRSTCOME_NATS_PASSWORD=secret", "FIRSTCOME_NATS_PASSWORD: nats.password: user and password"},
		{cluster, "FIRSTCOME_NATS_TLS_CERT=c.pem", "FIRSTCOME_NATS_TLS_CERT: nats.tls.cert: cert and key"},
		{cluster, "FIRSTCOME_NATS_TLS_KEY=k.pem", "FIRSTCOME_NATS_TLS_KEY: nats.tls.key: cert and key"},
		{cluster + "  tls:\n    ca: ca.pem\n    key: k.pem\n", "FIRSTCOME_NATS_REPLICAS=3", "firstcome.yaml:5: nats.tls.key: cert and key"},
	} {
		if _, err := loadConfig(writeConfig(t, c.file), []string{c.environ}); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.environ, err, c.want)
		}
	}
}

// An embedded server without a file of its own lets everybody in, whatever password
// or certificate an instance was given.
func TestPasswordNeedsAServerThatAsks(t *testing.T) {
	creds := writeConfig(t, "nats:\n  credentials: app.creds\n")
	for _, c := range []struct {
		file    string
		environ []string
		want    string
	}{
		{"", login("app", "secret"), "FIRSTCOME_NATS_USER: nats.user: "},
		{"", []string{"FIRSTCOME_NATS_TOKEN=secret"}, "FIRSTCOME_NATS_TOKEN: nats.token: "},
		{"", []string{"FIRSTCOME_NATS_CREDENTIALS=app.creds"}, "FIRSTCOME_NATS_CREDENTIALS: nats.credentials: "},
		{"", []string{"FIRSTCOME_NATS_TLS_CA=ca.pem"}, "FIRSTCOME_NATS_TLS_CA: nats.tls.ca: "},
		{"", []string{"FIRSTCOME_NATS_TLS_CERT=c.pem", "FIRSTCOME_NATS_TLS_KEY=k.pem"}, "FIRSTCOME_NATS_TLS_CERT: nats.tls.cert: "},
		{creds, nil, "firstcome.yaml:2: nats.credentials: "},
	} {
		_, err := loadConfig(c.file, c.environ, unasked)
		wantErrors(t, err, c.want+"the embedded server asks nobody for it: set nats.url, or nats.embedded.config with its own users and TLS")
		for _, asks := range []string{"FIRSTCOME_NATS_URL=nats://a", "FIRSTCOME_NATS_EMBEDDED_CONFIG=node.conf"} {
			if _, err := loadConfig(c.file, append(c.environ, asks), unasked); err != nil {
				t.Errorf("%v with %s: %v", c.environ, asks, err)
			}
		}
		if _, err := loadConfig(c.file, c.environ); err != nil {
			t.Errorf("%v for a command: %v", c.environ, err)
		}
	}
}
