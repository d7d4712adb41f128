package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func writeConfig(t *testing.T, text string) (path string) {
	t.Helper()
	t.Chdir(t.TempDir()) // so that errors begin with a bare file name
	path = "firstcome.yaml"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantErrors checks that err holds exactly these lines, in this order.
func wantErrors(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want:\n%s", strings.Join(want, "\n"))
	}
	if got := err.Error(); got != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

func TestExampleHoldsTheDefaults(t *testing.T) {
	path := filepath.Join("..", "..", "configs", "firstcome.yaml")
	got, err := loadConfig(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.Products = []productConfig{{ID: "tshirt", Stock: 5}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	// Every key is in it: one left out would have its default all the same.
	l := newLoader()
	data, err := readConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	l.file(path, data)
	keys := map[string]field{}
	variables("", reflect.ValueOf(&l.cfg).Elem(), keys)
	for _, f := range keys {
		if _, ok := l.origin[f.name]; !ok && !f.envOnly {
			t.Errorf("%s does not mention %s", path, f.name)
		}
	}
}

func TestDefaultsAreValid(t *testing.T) {
	if err := defaultConfig().validate(); err != nil {
		t.Error(err)
	}
	got, err := loadConfig("", nil)
	if err != nil || !reflect.DeepEqual(got, defaultConfig()) {
		t.Errorf("loadConfig without a file: %+v, %v", got, err)
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	got, err := loadConfig(writeConfig(t, `
instance: { name: Shop_1.example-a }
http:
  listen: ":80"
  hosts: [shop.example]
  allowed_origins: ["https://a.example", "http://b.example:8080"]
  trusted_proxies: [10.0.0.0/8, "::1"]
  max_header_bytes: 16384
  idle_timeout: 11m
ops: { listen: "[::1]:0", hosts: [ops.example, ops] }
nats:
  url: nats://a:4222, tls://b:4222
  credentials: app.creds
  tls: { ca: ca.pem, cert: cert.pem, key: key.pem }
  replicas: 3
  provision: false
  embedded: { listen: localhost:1, store_dir: d, sync: 2m, config: node.conf }
worker: { enabled: false, processing_time: 2s }
group: { max_orders: 1000, max_wait: 1s, in_flight: 64 }
queue: { max_messages: 1 }
products:
  - { id: mug, stock: 1000000000000, limit_per_buyer: 2, title: A mug, description: "Holds\n300 ml", price: 9 €, image: mug.png, next_url: "https://shop.example/pay" }
  - id: t-shirt_2
limits: { per_address: 3, per_buyer: 4, sockets_per_address: 5, sockets_per_buyer: 6 }
book: { max_orders: 1 }
auth: { mode: open }
log: { level: debug, format: json }
`), []string{"FIRSTCOME_NATS_USER=app", "FIRSTCOME_NATS_PASSWORD=pass=word,"})
	if err != nil {
		t.Fatal(err)
	}
	want := config{
		Instance: instanceConfig{"Shop_1.example-a"},
		HTTP: httpConfig{":80", []string{"shop.example"}, []string{"https://a.example", "http://b.example:8080"}, []string{"10.0.0.0/8", "::1"},
			16384, 11 * time.Minute},
		Ops: opsConfig{"[::1]:0", []string{"ops.example", "ops"}},
		NATS: natsConfig{
			URL: "nats://a:4222, tls://b:4222", Credentials: "app.creds", TLS: tlsConfig{"ca.pem", "cert.pem", "key.pem"}, Replicas: 3,
			Embedded: embeddedConfig{"localhost:1", "d", "2m", "node.conf"}, User: "app", Password: "pass=word,",
		},
		Worker:   workerConfig{false, 2 * time.Second},
		Group:    groupConfig{1000, time.Second, 64},
		Queue:    queueConfig{1},
		Products: []productConfig{{"mug", 1_000_000_000_000, 2, "A mug", "Holds\n300 ml", "9 €", "mug.png", "https://shop.example/pay"}, {ID: "t-shirt_2"}},
		Limits:   limitsConfig{3, 4, 5, 6},
		Book:     bookConfig{1},
		Auth:     authConfig{"open"},
		Log:      logConfig{"debug", "json"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if d := got.NATS.Embedded.syncInterval(); d != 2*time.Minute {
		t.Errorf("syncInterval() = %s, want 2m", d)
	}
	if d := defaultConfig().NATS.Embedded.syncInterval(); d != 0 {
		t.Errorf("syncInterval() of always = %s, want 0", d)
	}
}

// A file of a Windows editor is read like any other, and one that is no UTF-8 is called
// what it is.
func TestByteOrderMarks(t *testing.T) {
	for name, text := range map[string]string{
		"a mark":                     "\xef\xbb\xbfhttp: { listen: \":80\" }\n",
		"a mark, a comment and CRLF": "\xef\xbb\xbf# shop\r\nhttp:\r\n  listen: \":80\"\r\nlog: { level: info }\r\n",
		"CRLF":                       "http:\r\n  listen: \":80\"\r\n",
	} {
		if got, err := loadConfig(writeConfig(t, text), nil); err != nil || got.HTTP.Listen != ":80" {
			t.Errorf("%s: %q, %v", name, got.HTTP.Listen, err)
		}
	}
	if _, err := loadConfig(writeConfig(t, "\xef\xbb\xbf"), nil); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"\xff\xfeh\x00t\x00t\x00p\x00": "is UTF-16: save it as UTF-8", "\xfe\xff\x00h\x00t": "is UTF-16: save it as UTF-8",
		"\xff\xfe\x00\x00h\x00\x00\x00": "is UTF-32: save it as UTF-8", "\x00\x00\xfe\xff\x00\x00\x00h": "is UTF-32: save it as UTF-8",
	} {
		if _, err := loadConfig(writeConfig(t, text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	// A line counts as before, and the key is the key.
	_, err := loadConfig(writeConfig(t, "\xef\xbb\xbf\r\nhtpp: 1\r\n"), nil)
	if err == nil || !strings.Contains(err.Error(), "firstcome.yaml:2: htpp: unknown key") {
		t.Errorf("%v", err)
	}
}

func TestFileErrorsNameKeyAndLine(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"unknown key": {"http:\n  listen: :80\ngroup:\n  max_oders: 5\n",
			[]string{"firstcome.yaml:4: group.max_oders: unknown key (known here: max_orders, max_wait, in_flight)"}},
		"unknown section": {"\nhtpp: {}\n",
			[]string{"firstcome.yaml:2: htpp: unknown key (known here: instance, http, ops, nats, worker, group, queue, products, limits, book, auth, log)"}},
		"secret in a file": {"nats:\n  password: x\n",
			[]string{"firstcome.yaml:2: nats.password: unknown key (known here: url, credentials, tls, replicas, provision, embedded)"}},
		"wrong types": {"http: { listen: 4000 }\ngroup:\n  max_orders: \"5\"\n  max_wait: 5\n  in_flight: 1.0\nworker: { enabled: \"no\" }\nlog: { level: true }\n",
			[]string{
				"firstcome.yaml:1: http.listen: must be a string, is the number 4000",
				"firstcome.yaml:3: group.max_orders: must be a whole number, is the string \"5\"",
				"firstcome.yaml:4: group.max_wait: must be a duration such as 5ms or 2s, is the number 5",
				"firstcome.yaml:5: group.in_flight: must be a whole number, is the number 1.0",
				"firstcome.yaml:6: worker.enabled: must be true or false, is the string \"no\"",
				"firstcome.yaml:7: log.level: must be a string, is the word true (quote it to make it a string)",
			}},
		"wrong shapes": {"http: here\nops: []\nproducts: {}\nauth:\nlog:\n  level: {}\n",
			[]string{
				"firstcome.yaml:1: http: must be a section with keys below it, is the string \"here\"",
				"firstcome.yaml:2: ops: must be a section with keys below it, is a list",
				"firstcome.yaml:3: products: must be a list, is a section",
				"firstcome.yaml:4: auth: must be a section with keys below it, is empty",
				"firstcome.yaml:6: log.level: must be a string, is a section",
			}},
		"not a section at all": {"- a\n", []string{"firstcome.yaml:1: must be a section with keys below it, is a list"}},
		"out of range, all at once": {"\nproducts:\n  - id: mug\n  - id: Mug\n    stock: -1\n  - id: mug\n  - stock: 7\ngroup:\n  max_orders: 1001\n",
			[]string{
				"firstcome.yaml:9: group.max_orders: must be from 1 to 1000, is 1001",
				`firstcome.yaml:4: products[1].id: must be lower-case letters, digits, hyphens and underscores, at most 63, is "Mug"`,
				"firstcome.yaml:5: products[1].stock: must be from 0 to 1000000000000, is -1",
				`firstcome.yaml:6: products[2].id: "mug" is already the id of products[0]`,
				`firstcome.yaml:7: products[3].id: must be lower-case letters, digits, hyphens and underscores, at most 63, is ""`,
			}},
		"a limit that no stock could meet": {"products:\n  - id: mug\n    limit_per_buyer: 2000000000000\n",
			[]string{"firstcome.yaml:3: products[0].limit_per_buyer: must be from 0 to 1000000000000, is 2000000000000"}},
		"unreadable is not also out of range": {"products: [ {id: 5}, mug ]\n",
			[]string{
				"firstcome.yaml:1: products[0].id: must be a string, is the number 5",
				`firstcome.yaml:1: products[1]: must be a section with keys below it, is the string "mug"`,
			}},
		"too large a number": {"queue: { max_messages: 99999999999999999999 }\n",
			[]string{`firstcome.yaml:1: queue.max_messages: must be a whole number, is the string "99999999999999999999"`}},
		"not decimal": {"group:\n  max_orders: 0x10\n  in_flight: 1_0\n", []string{
			`firstcome.yaml:2: group.max_orders: must be a whole number, is "0x10"`,
			`firstcome.yaml:3: group.in_flight: must be a whole number, is "1_0"`,
		}},
		"key twice in one line":   {"log: { level: info, level: warn }\n", []string{`firstcome.yaml:1: mapping key "level" already defined at [1:8]`}},
		"windows line ends":       {"log:\r\n  level: info\r\n  form: json\r\n", []string{"firstcome.yaml:3: log.form: unknown key (known here: level, format)"}},
		"after comments and text": {"# one\n\nnats:\n  # two\n  url: \"nats://a,\n    nats://b\" # three\n  replica: 1\n", []string{"firstcome.yaml:7: nats.replica: unknown key (known here: url, credentials, tls, replicas, provision, embedded)"}},
		"bad duration":            {"group: { max_wait: 5 ms }\n", []string{`firstcome.yaml:1: group.max_wait: must be a duration such as 5ms or 2s, is "5 ms"`}},
		"list item":               {"http:\n  trusted_proxies:\n    - ::1\n    - 7\n", []string{"firstcome.yaml:4: http.trusted_proxies[1]: must be a string, is the number 7"}},
		"key twice":               {"log:\n  level: info\n  level: warn\n", []string{`firstcome.yaml:3: mapping key "level" already defined at [2:3]`}},
		"second document":         {"log: { level: info }\n---\nlog: { level: warn }\n", []string{"firstcome.yaml:3: a second YAML document"}},
		"alias":                   {"http: &h { listen: :80 }\nops: *h\n", []string{"firstcome.yaml:1: http: must be a section with keys below it, is a YAML anchor", "firstcome.yaml:2: ops: must be a section with keys below it, is a YAML alias"}},
		"default to blame":        {"nats: { replicas: 3 }\n", []string{"firstcome.yaml:1: nats.replicas: 3 copies need a cluster: set nats.url or nats.embedded.config"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loadConfig(writeConfig(t, c.text), nil)
			wantErrors(t, err, c.want...)
		})
	}
}

func TestSyntaxErrorNamesTheLine(t *testing.T) {
	for _, text := range []string{"log:\n  level: [info\n", "log:\n\tlevel: info\n", "log: \"info\nops: {}\n", "a: b: c\n"} {
		_, err := loadConfig(writeConfig(t, text), nil)
		if err == nil || !strings.HasPrefix(err.Error(), "firstcome.yaml:") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want one line that begins with firstcome.yaml:<line>", text, err)
		}
	}
}

func TestEmptyFileIsAllDefaults(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n"} {
		got, err := loadConfig(writeConfig(t, text), nil)
		if err != nil || !reflect.DeepEqual(got, defaultConfig()) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

func TestUnreadableFile(t *testing.T) {
	if _, err := loadConfig("missing.yaml", nil); err == nil || !strings.Contains(err.Error(), "missing.yaml") {
		t.Errorf("missing file: %v", err)
	}
	if _, err := loadConfig(t.TempDir(), nil); err == nil {
		t.Error("a directory was read")
	}
	large := writeConfig(t, strings.Repeat("#", maxConfigBytes+1))
	if _, err := loadConfig(large, nil); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("large file: %v", err)
	}
}

func TestEnvironmentWinsOverFile(t *testing.T) {
	file := writeConfig(t, "http: { listen: :80, allowed_origins: [\"https://a.example\"] }\nproducts: [ {id: mug, stock: 1}, {id: cap} ]\n")
	got, err := loadConfig(file, []string{
		"HOME=/root",
		"FIRSTCOME_HTTP_LISTEN=:81",
		"FIRSTCOME_HTTP_ALLOWED_ORIGINS=",
		"FIRSTCOME_HTTP_TRUSTED_PROXIES=::1, 10.0.0.0/8",
		"FIRSTCOME_NATS_EMBEDDED_STORE_DIR=elsewhere",
		"FIRSTCOME_NATS_PROVISION=false",
		"FIRSTCOME_NATS_TOKEN=t0ken",
		"FIRSTCOME_GROUP_MAX_WAIT=7ms",
		"FIRSTCOME_QUEUE_MAX_MESSAGES=8",
		"FIRSTCOME_PRODUCTS=tshirt=5, mug=10",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := defaultConfig()
	want.HTTP.Listen, want.HTTP.TrustedProxies = ":81", []string{"::1", "10.0.0.0/8"}
	want.NATS.Embedded.StoreDir = "elsewhere"
	want.NATS.Provision = false
	want.NATS.Token = "t0ken"
	want.Group.MaxWait = 7 * time.Millisecond
	want.Queue.MaxMessages = 8
	want.Products = []productConfig{{ID: "tshirt", Stock: 5}, {ID: "mug", Stock: 10}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEveryKeyHasAVariable(t *testing.T) {
	keys := map[string]field{}
	cfg := defaultConfig()
	variables("", reflect.ValueOf(&cfg).Elem(), keys)
	if len(keys) != 38 {
		t.Errorf("%d variables, want one for each of the 35 keys and 3 secrets", len(keys))
	}
	for name, f := range keys {
		// Every type can be read: one that cannot would panic here.
		l := newLoader()
		l.environment([]string{name + "=1"})
		if _, ok := l.origin[f.name]; !ok {
			t.Errorf("%s did not set %s", name, f.name)
		}
	}
}

func TestProductsInTheEnvironment(t *testing.T) {
	file := writeConfig(t, "products: [ {id: cap, stock: 1} ]\n")
	for text, want := range map[string][]productConfig{
		"":          nil,
		"[]":        nil,
		"mug=3":     {{ID: "mug", Stock: 3}},
		"mug=3,a=0": {{ID: "mug", Stock: 3}, {ID: "a"}},
		"[{id: mug, stock: 3, limit_per_buyer: 1}]": {{ID: "mug", Stock: 3, LimitPerBuyer: 1}},
		"[{id: mug, title: A mug, price: 9 €}]":     {{ID: "mug", Title: "A mug", Price: "9 €"}},
	} {
		got, err := loadConfig(file, []string{"FIRSTCOME_PRODUCTS=" + text})
		if err != nil || !reflect.DeepEqual(got.Products, want) {
			t.Errorf("%q: %+v, %v, want %+v", text, got.Products, err, want)
		}
	}
	for text, want := range map[string]string{
		"mug":        `FIRSTCOME_PRODUCTS: products[0].stock: must be a whole number, is "", as in tshirt=5,mug=10`,
		"mug=1,a=b":  `FIRSTCOME_PRODUCTS: products[1].stock: must be a whole number, is "b", as in tshirt=5,mug=10`,
		"mug=1,":     "FIRSTCOME_PRODUCTS: products[1].stock: must be a whole number",
		"MUG=1":      "FIRSTCOME_PRODUCTS: products[0].id: must be lower-case",
		"[mug":       "FIRSTCOME_PRODUCTS: products: ",
		"[mug]":      "FIRSTCOME_PRODUCTS: products[0]: must be a section",
		"[{ids: a}]": "FIRSTCOME_PRODUCTS: products[0].ids: unknown key",
	} {
		_, err := loadConfig("", []string{"FIRSTCOME_PRODUCTS=" + text})
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s…", text, err, want)
		}
	}
}

// A picture that cannot be shown stops a start, with its key; the commands show none.
func TestPicturesAreLookedAt(t *testing.T) {
	file := writeConfig(t, "products:\n  - id: mug\n    image: mug.png\n  - id: cap\n    image: cap.gif\n  - id: hat\n    image: hat.jpg\n  - { id: none, image: none.png }\n")
	png := "\x89PNG\r\n\x1a\n"
	for name, data := range map[string]string{"mug.png": png, "cap.gif": "GIF89a", "hat.jpg": png + strings.Repeat("x", 1<<20)} {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := loadConfig(file, nil, pictures)
	wantErrors(t, err,
		"firstcome.yaml:5: products[1].image: cap.gif is no PNG, JPEG, WebP or AVIF",
		"firstcome.yaml:7: products[2].image: hat.jpg is larger than 1048576 bytes",
		"firstcome.yaml:8: products[3].image: open none.png: no such file or directory")
	cfg, err := loadConfig(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Products = cfg.Products[:1]
	cfg.Products[0].Title = "A mug"
	listings, err := cfg.listings()
	if err != nil || len(listings) != 1 || listings[0].Product != "mug" || listings[0].Title != "A mug" || string(listings[0].Image) != png {
		t.Errorf("%+v, %v", listings, err)
	}
}

func TestEnvironmentErrorsNameTheVariable(t *testing.T) {
	file := writeConfig(t, "group: { max_orders: 7 }\nproducts: [ {id: MUG} ]\n")
	_, err := loadConfig(file, []string{
		"FIRSTCOME_HTTP_LISTN=:80",
		"FIRSTCOME_HTTP=x",
		"FIRSTCOME_GROUP_MAX_ORDERS=1001",
		"FIRSTCOME_GROUP_MAX_WAIT=5",
		"FIRSTCOME_WORKER_ENABLED=maybe",
		"FIRSTCOME_OPS_LISTEN=",
		"FIRSTCOME_PRODUCTS=CAP=1,cap=1,cap=2",
		"FIRSTCOME_HTTP_TRUSTED_PROXIES=::1,,",
	})
	wantErrors(t, err,
		"FIRSTCOME_HTTP_LISTN: unknown variable (they are named after the keys: http.listen is FIRSTCOME_HTTP_LISTEN)",
		"FIRSTCOME_HTTP: unknown variable (they are named after the keys: http.listen is FIRSTCOME_HTTP_LISTEN)",
		`FIRSTCOME_GROUP_MAX_WAIT: group.max_wait: must be a duration such as 5ms or 2s, is "5"`,
		`FIRSTCOME_WORKER_ENABLED: worker.enabled: must be true or false, is "maybe"`,
		`FIRSTCOME_HTTP_TRUSTED_PROXIES: http.trusted_proxies[1]: must be an IP address or a range such as 10.0.0.0/8, is ""`,
		`FIRSTCOME_HTTP_TRUSTED_PROXIES: http.trusted_proxies[2]: must be an IP address or a range such as 10.0.0.0/8, is ""`,
		`FIRSTCOME_OPS_LISTEN: ops.listen: must be host:port such as 127.0.0.1:4000, is ""`,
		"FIRSTCOME_GROUP_MAX_ORDERS: group.max_orders: must be from 1 to 1000, is 1001",
		`FIRSTCOME_PRODUCTS: products[0].id: must be lower-case letters, digits, hyphens and underscores, at most 63, is "CAP"`,
		`FIRSTCOME_PRODUCTS: products[2].id: "cap" is already the id of products[1]`,
	)
}

// A Kubernetes service named firstcome puts these into every pod beside it.
func TestServiceLinksAreNotOurs(t *testing.T) {
	links := []string{
		"FIRSTCOME_SERVICE_HOST=10.0.0.1", "FIRSTCOME_SERVICE_PORT=80", "FIRSTCOME_SERVICE_PORT_HTTP=80",
		"FIRSTCOME_PORT=tcp://10.0.0.1:80", "FIRSTCOME_PORT_80_TCP=tcp://10.0.0.1:80", "FIRSTCOME_PORT_80_TCP_PROTO=tcp",
		"FIRSTCOME_PORT_80_TCP_PORT=80", "FIRSTCOME_PORT_80_TCP_ADDR=10.0.0.1", "FIRSTCOME_OPS_PORT=tcp://10.0.0.1:80",
		"FIRSTCOME_OPS_SERVICE_HOST=10.0.0.1",
	}
	if _, err := loadConfig("", links); err != nil {
		t.Error(err)
	}
	for _, misspelt := range []string{"FIRSTCOME_PORT=4000", "FIRSTCOME_HTTP_PORT=4000", "FIRSTCOME_SERVICE=x"} {
		if _, err := loadConfig("", []string{misspelt}); err == nil {
			t.Errorf("%s was ignored", misspelt)
		}
	}
}

func TestSecretsStayHidden(t *testing.T) {
	cfg := defaultConfig()
	cfg.NATS.User, cfg.NATS.Password, cfg.NATS.Token = "app", "hush", "hush"
	encoded, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	wrong := cfg
	wrong.NATS.URL = "nats://app:hush@:x,http://app:hush@a"
	for _, text := range []string{
		string(encoded), fmt.Sprintf("%v %+v %#v %s", cfg, cfg, cfg, cfg.NATS.Password), fmt.Sprint(wrong.validate()),
	} {
		if strings.Contains(text, "hush") {
			t.Errorf("shows a secret: %s", text)
		}
	}
}
