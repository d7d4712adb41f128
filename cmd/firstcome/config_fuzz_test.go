package main

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/goccy/go-yaml"
)

// A file never makes the decoder panic, and one that it accepts says the same
// after having been written out and read again.
func FuzzConfigFile(f *testing.F) {
	example, err := os.ReadFile(filepath.Join("..", "..", "configs", "firstcome.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	for _, seed := range []string{
		"", "#", "---\n", "[]", "{}", "null", "a: b: c", "log:\n\tlevel: info", "? log\n: { level: warn }", "<<: *a", "&a {x: *a}", "!!str x",
		"log: { level: info }\n---\nlog: {}", "http: { listen: \":80\", allowed_origins: [\"https://a\"] }", "products: [ {id: mug, stock: 0x10} ]",
		"products:\n- id: mug\n  stock: 1\n- id: cap\n", "group: { max_wait: 1h, max_orders: 1_0 }", "queue: { max_messages: 99999999999999999999 }",
		"nats: { embedded: { store_dir: \"a: b # c\", sync: 2m } }", "nats:\n  credentials: |\n    x\n", "worker: { enabled: yes }", "log: { level: \"in\\u0066o\" }",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l := newLoader()
		l.file("fuzz.yaml", data)
		cfg, err := l.finish()
		if err != nil {
			return
		}
		if err := cfg.validate(); err != nil {
			t.Fatalf("accepted, but not valid: %v", err)
		}
		text, err := yaml.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		l = newLoader()
		l.file("again.yaml", text)
		again, err := l.finish()
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if !reflect.DeepEqual(cfg, again) {
			t.Fatalf("read   %+v\nagain  %+v\n%s", cfg, again, text)
		}
	})
}

func FuzzConfigEnvironment(f *testing.F) {
	for _, seed := range [][2]string{
		{"HTTP_LISTEN", ":80"}, {"HTTP_LISTN", ""}, {"PRODUCTS", "mug=1,cap=2"}, {"PRODUCTS", "[{id: mug}]"}, {"PRODUCTS", "["},
		{"GROUP_MAX_WAIT", "5ms"}, {"NATS_URL", "nats://a,tls://b"}, {"HTTP_TRUSTED_PROXIES", "::1,"}, {"PORT", "tcp://a"}, {"WORKER_ENABLED", "t"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		cfg, err := loadConfig("", []string{envPrefix + name + "=" + value})
		if err == nil && cfg.validate() != nil {
			t.Fatalf("accepted, but not valid: %v", cfg.validate())
		}
	})
}
