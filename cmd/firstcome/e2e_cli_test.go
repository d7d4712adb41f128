package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stock runs a stock command on the shop.
func (s *shop) stock(args ...string) result {
	s.t.Helper()
	return cli(s.t, append([]string{"stock", "--nats", s.nats}, args...)...)
}

func TestStockCommands(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), "products: [ { id: tshirt, stock: 5 }, { id: mug, stock: 3, limit_per_buyer: 1 } ]")
	watch := launch(t, "stock", "watch", "tshirt", "--nats", s.nats)
	watch.await(`tshirt +open +5 +0 +5 `)

	s.stock("ls").want(t, 0, "PRODUCT", "mug       open      3", "tshirt    open      5")
	s.stock("set", "tshirt", "2", "--by", "ann", "--why", "counted again").want(t, 0,
		"tshirt, link 2, revision 3\n", "  available: 5 → 2\n  supplied: 5 → 2\n")
	watch.await(`tshirt +open +2 +0 +2 `)
	s.stock("add", "tshirt", "2").want(t, 0, "  available: 2 → 4\n")
	s.stock("add", "tshirt", "--", "-1").want(t, 0, "  available: 4 → 3\n")
	watch.await(`tshirt +open +3 +0 +3 `)
	s.stock("add", "tshirt", "--", "-4").want(t, 3, "the change was refused: not-enough")
	s.stock("set", "tshirt", "--opens-at", "2027-01-01T00:00:00Z").want(t, 0, "  opens_at: none → 2027-01-01T00:00:00Z\n")
	s.stock("set", "tshirt", "--closes-at", "2026-12-31T00:00:00Z").want(t, 3, "the change was refused: closes-before-opens")
	s.stock("set", "tshirt", "4", "--opens-at", "none").want(t, 0, "  available: 3 → 4\n", "  opens_at: 2027-01-01T00:00:00Z → none\n")
	s.stock("set", "tshirt", "3").want(t, 0)
	s.stock("add", "tshirt", "1000000000000").want(t, 3, "the change was refused: out-of-range")
	s.stock("set", "tshirt", "--", "-1").want(t, 2)
	s.stock("set", "tshirt").want(t, 2, "nothing to set")
	s.stock("get", "hat").want(t, 1, "history of hat", "not found")
	s.stock("watch", "hat").want(t, 1, "history of hat", "not found")
	s.stock("add", "hat", "1").want(t, 1, "unknown product: hat")

	var value struct {
		Product                   string
		N                         uint64
		Available, Sold, Supplied int64
		Change                    string
		Desk                      []struct{ Do, By, Why string }
	}
	r := s.stock("get", "tshirt").want(t, 0)
	if err := json.Unmarshal([]byte(r.stdout), &value); err != nil {
		t.Fatalf("%s: %v", r.stdout, err)
	}
	if value.Product != "tshirt" || value.Available != 3 || value.Sold != 0 || value.Supplied != 3 || value.Change != "desk" {
		t.Errorf("stock get says %+v", value)
	}
	_, js := jet(t, s.nats)
	h := fold(t, js, "tshirt")
	if d := h.links[1].Desk; len(d) != 1 || d[0].By != "ann" || d[0].Why != "counted again" {
		t.Errorf("the history has %+v", d)
	}
	if d := h.newest().Desk[0]; d.Refused != "out-of-range" || d.By == "" {
		t.Errorf("the history has %+v, want the refusal and the user's name", d)
	}
	watch.terminate()
	watch.exit()

	// Restocking opens a sale that was sold out.
	k := s.follow("ann@example.com")
	k.outcome(s.buy("ann@example.com", 3).order(t).ID)
	eventually(t, "it is sold out", func() bool { return s.product("tshirt").State == "sold_out" })
	s.buy("ann@example.com", 1).problem(t, http.StatusConflict)
	s.stock("add", "tshirt", "1").want(t, 0)
	eventually(t, "it is open", func() bool { return s.product("tshirt").State == "open" })
	o := k.outcome(s.buy("ann@example.com", 1).order(t).ID)
	if o.Status != "accepted" {
		t.Errorf("the restocked unit: %+v", o)
	}
	if short := s.stock("get", "tshirt").want(t, 0, `"change": "orders"`); strings.Contains(short.stdout, `"orders":`) {
		t.Errorf("stock get shows orders: %s", short.stdout)
	}
	if whole, is := s.stock("get", "tshirt", "--json").want(t, 0, o.ID), fold(t, js, "tshirt").newest(); whole.stdout != string(is.value)+"\n" {
		t.Errorf("stock get --json says %s, stored is %s", whole.stdout, is.value)
	}
	s.auditGreen()
	s.stop()
	s.stock("ls").want(t, 1, "firstcome:") // nobody there
}

func TestLimitPerBuyer(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), "products: [ { id: tshirt, stock: 9, limit_per_buyer: 2 } ]")
	k := s.follow("ann@example.com")
	want := func(quantity int, status string) {
		t.Helper()
		if o := k.outcome(s.buy("ANN@example.com", quantity).order(t).ID); o.Status != status {
			t.Errorf("%d units: %+v, want %s", quantity, o, status)
		}
	}
	// The door knows what the buyer got, and the queue judges what it does not know yet.
	refused := func(quantity int) {
		t.Helper()
		if detail := s.buy("ANN@example.com", quantity).problem(t, http.StatusConflict); !strings.HasPrefix(detail, "One buyer may have ") {
			t.Errorf("%d units: %s", quantity, detail)
		}
		cli(t, "buy", "--email", "ann@example.com", "--quantity", fmt.Sprint(quantity), "--nats", s.nats).want(t, 1, `"status":"limit_reached"`)
	}
	refused(3)
	want(2, "accepted")
	refused(1)
	s.stock("set", "tshirt", "--limit-per-buyer", "3").want(t, 0)
	want(1, "accepted")
	refused(1)
	s.stock("set", "tshirt", "--limit-per-buyer", "0").want(t, 0)
	want(6, "accepted")
	s.sold(9)
	s.auditGreen()
	s.stop()
}

// The door says why it is closed, and the queue never hears of it.
func TestDoor(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	_, js := jet(t, s.nats)
	hour := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	shut := func(state, word string, set ...string) {
		t.Helper()
		s.stock(append([]string{"set", "tshirt"}, set...)...).want(t, 0, "tshirt, link ", " → ")
		eventually(t, "the state is "+state, func() bool { return s.product("tshirt").State == state })
		if detail := s.buy("ann@example.com", 1).problem(t, http.StatusConflict); !strings.Contains(detail, word) {
			t.Errorf("%s: the detail says %q", state, detail)
		}
	}
	shut("paused", "paused", "--paused=true")
	shut("not_open", "not begun", "--paused=false", "--opens-at", hour(time.Hour))
	shut("closed", "over", "--opens-at", "none", "--closes-at", hour(-time.Hour))
	if n := lastSeq(t, js, "ORDERS"); n != 3 {
		t.Errorf("%d messages were queued, want those of the desk", n)
	}
	s.stock("set", "tshirt", "--opens-at", "tomorrow").want(t, 2, "--opens-at")
	s.stock("set", "tshirt", "--closes-at", "none").want(t, 0, "→ none")
	eventually(t, "it is open", func() bool { return s.product("tshirt").State == "open" })
	s.follow("ann@example.com").outcome(s.buy("ann@example.com", 1).order(t).ID)
	s.stop()
}

func TestUsage(t *testing.T) {
	t.Parallel()
	cli(t, "version").want(t, 0, "firstcome ")
	cli(t).want(t, 0, "demo", "serve", "buy", "stock", "audit", "bench", "provision", "version")
	cli(t, "help").want(t, 0, "demo", "serve")
	cli(t, "help", "stock", "get").want(t, 0, "firstcome stock get PRODUCT")
	for _, args := range [][]string{
		{"nonsense"}, {"--nonsense"}, {"serve", "--nonsense"}, {"serve", "extra"}, {"stock", "nonsense"}, {"stock", "get"},
		{"help", "nonsense"}, {"help", "stock", "nonsense"}, {"help", "buy", "extra"},
		{"audit", "extra"}, {"audit", "--context", "a", "--creds", "b"}, {"demo", "--stock", "many"}, {"bench", "extra"},
	} {
		if r := cli(t, args...); r.code != 2 || !strings.HasPrefix(r.stderr, "firstcome: ") || r.stdout != "" {
			t.Errorf("%v: exit code %d, stdout %q, stderr %q", args, r.code, r.stdout, r.stderr)
		}
	}
}

// What no server could have is a usage error, before any is asked.
func TestUsageIsToldBeforeDialling(t *testing.T) {
	t.Parallel()
	buy := []string{"buy", "--email", "ann@example.com", "--nats"}
	nobody := "127.0.0.1:1" // nor is there a scheme, as with the nats CLI
	for _, c := range []struct {
		args []string
		says string
	}{
		{append(buy, "http://x y"), "--nats: entry 1"},
		{append(buy, "http://127.0.0.1:4222"), "--nats: entry 1"},
		{append(buy, "nats://127.0.0.1:1, nats://:x"), "--nats: entry 2"},
		{append(buy, nobody, "--product", "a b"), `"a b" is not a product id`},
		{append(buy, nobody, "--creds", "/nowhere/a.creds"), "/nowhere/a.creds"},
		{[]string{"buy", "--email", "ann@example.com", "--context", "nosuch"}, "nosuch"},
		{[]string{"stock", "ls", "--context", "no such"}, "no such"},
		{[]string{"audit", "--nats", "nonsense:"}, "--nats: entry 1"},
		{[]string{"stock", "get", "a b"}, `"a b"`},
		{[]string{"stock", "watch", "a b"}, `"a b"`},
		{[]string{"stock", "set", "a b", "1"}, `"a b"`},
		{[]string{"stock", "add", "*", "1"}, `"*"`},
		{[]string{"stock", "add", "tshirt", "1000000000001"}, `"1000000000001"`},
		{[]string{"stock", "set", "tshirt", "1000000000001"}, `"1000000000001"`},
		{[]string{"stock", "add", "tshirt", "0"}, "0 units change nothing"},
		{[]string{"stock", "add", "tshirt", "1", "--timeout", "0s"}, "--timeout must be above 0s, is 0s"},
		{[]string{"stock", "add", "tshirt", "1", "--by", strings.Repeat("b", 65)}, "by: more than 64 bytes"},
		{[]string{"stock", "add", "tshirt", "1", "--why", strings.Repeat("w", 501)}, "why: more than 500 bytes"},
		{[]string{"stock", "add", "tshirt", "1", "--why", "a\nb"}, "why: a control character"},
		{[]string{"stock", "add", "tshirt", "1", "--by", ""}, `"--by" flag: must not be empty`},
		{[]string{"stock", "set", "tshirt", "--opens-at", "9999-12-31T23:59:59-05:00"}, "--opens-at"},
		{[]string{"stock", "set", "tshirt", "--limit-per-buyer", "-1"}, "--limit-per-buyer must be from 0"},
		{[]string{"stock", "set", "tshirt", "--limit-per-buyer", "1000000000001"}, "--limit-per-buyer must be from 0"},
		{[]string{"stock", "set", "tshirt", "--opens-at", "2026-12-01T18:00:00Z", "--closes-at", "2026-12-01T18:00:00Z"}, "--closes-at"},
		{[]string{"stock", "set", "tshirt", "--opens-at", ""}, `"--opens-at" flag: must not be empty (none: it is open)`},
		{[]string{"stock", "set", "tshirt", "--closes-at", ""}, `"--closes-at" flag: must not be empty (none: never)`},
		{[]string{"stock", "set", "tshirt", "50", "--nats", ""}, `"--nats" flag: must not be empty`},
		{[]string{"stock", "ls", "--creds", ""}, `"--creds" flag: must not be empty`},
		{[]string{"stock", "ls", "--context", ""}, `"--context" flag: must not be empty`},
		{append(buy, nobody, "--product", ""), `"--product" flag: must not be empty`},
		{[]string{"buy", "--email", ""}, `"--email" flag: must not be empty`},
		{[]string{"bench", "--product", ""}, `"--product" flag: must not be empty`},
		{[]string{"demo", "--listen", ""}, `"--listen" flag: must not be empty`},
		{[]string{"demo", "--nats-listen", ""}, `"--nats-listen" flag: must not be empty`},
		{[]string{"demo", "--store-dir", "", "--nats-listen", nobody}, `"--store-dir" flag: must not be empty`},
		{append(buy, nobody, "--timeout", "-1s"), "--timeout must be above 0s, is -1s"},
		{append(buy, nobody, "--timeout", "0s"), "--timeout must be above 0s, is 0s"},
		{[]string{"serve", "--config", ""}, `"--config" flag: must not be empty`},
		{[]string{"provision", "--config", ""}, `"--config" flag: must not be empty`},
		{[]string{"stock", "add", "tshirt", "-2"}, "a negative number follows --, as in: firstcome stock add tshirt -- -2"},
		{[]string{"stock", "add", "tshirt", "-20", "--nats", nobody}, "as in: firstcome stock add tshirt -- -20"},
		{[]string{"bench", "--url", "nonsense"}, "nonsense"},
		{[]string{"bench", "--buyers", "-1"}, "--buyers must be above zero, is -1"},
		{[]string{"bench", "--buyers", "0"}, "--buyers must be above zero, is 0"},
		{[]string{"bench", "--orders", "0", "--duration", "1s"}, "--orders must be above zero, is 0"},
		{[]string{"bench", "--duration", "0s"}, "--duration must be above zero, is 0s"},
		{[]string{"bench", "--rate", "0"}, "--rate must be above zero, is 0"},
		{[]string{"bench", "--rate", "NaN"}, "--rate must be above zero, is NaN"},
		{[]string{"bench", "--timeout", "0s"}, "--timeout must be above zero, is 0s"},
		{[]string{"bench", "--limit", "0s"}, "--limit must be above zero, is 0s"},
		{[]string{"bench", "--threads", "0"}, "--threads must be above zero, is 0"},
		{[]string{"bench", "--idle", "-1"}, "-1 idle sockets"},
	} {
		if r := cli(t, c.args...); r.code != 2 || !strings.Contains(r.stderr, c.says) {
			t.Errorf("%v: exit code %d, stderr %q, want %q", c.args, r.code, r.stderr, c.says)
		}
	}
	cli(t, append(buy, nobody)...).want(t, 1)
	cli(t, "bench", "--url", "http://"+nobody, "--orders", "1", "--idle", "0").want(t, 1)
}

func TestServeRefusesBadConfig(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "bad.yaml")
	text := "http:\n  lissten: 127.0.0.1:0\nqueue:\n  max_messages: -1\nproducts:\n  - id: T shirt\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cli(t, "serve", "--config", file).want(t, 2,
		file+":2: http.lissten", file+":4: queue.max_messages", file+":6: products[0].id")
	cli(t, "serve", "--config", file+".gone").want(t, 2, "bad.yaml.gone")

	text = fmt.Sprintf("http: { listen: 127.0.0.1:0 }\n"+
		"nats: { embedded: { listen: 127.0.0.1:0, store_dir: %q } }\n", t.TempDir())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cli(t, "serve", "--config", file).want(t, 2, "no product is configured")
}

func TestStoreBelongsToOneInstance(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	s := open(t, store)
	second := launch(t, "demo", "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--store-dir", store)
	if code := second.exit(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if want := fmt.Sprintf("store directory %q is in use by another process", store); !strings.Contains(second.said.String(), want) {
		t.Errorf("it does not say %s\n%s", want, second.said)
	}
	s.follow("ann@example.com").outcome(s.buy("ann@example.com", 1).order(t).ID) // the first is unharmed
	s.stop()
}
