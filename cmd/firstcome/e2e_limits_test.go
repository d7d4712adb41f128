package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// A store that cannot be written to any more ends the process, with the reason: only a
// restart opens it again. What it had confirmed is decided then (P3).
func TestBrokenStoreEndsTheProcess(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	s := open(t, store, "worker: { enabled: false }")
	nc, _ := jet(t, s.nats)
	waits := s.buy("ann@example.com", 1).order(t)
	blocks := filepath.Join(store, "jetstream", "$G", "streams", "DEAD", "msgs")
	if err := os.RemoveAll(blocks); err != nil { // nothing is in it
		t.Fatal(err)
	}
	if err := os.WriteFile(blocks, nil, 0o600); err != nil { // no block can be made
		t.Fatal(err)
	}
	for range 20 {
		if err := nc.Publish("dead.tshirt", make([]byte, 1<<20-100)); err != nil {
			t.Fatal(err)
		}
	}
	if code := s.exit(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	s.await(`firstcome: the embedded NATS server cannot write to its store any more: .*DEAD.*not a directory`)

	if err := os.RemoveAll(filepath.Dir(blocks)); err != nil {
		t.Fatal(err)
	}
	s = open(t, store)
	if o := s.follow("ann@example.com").outcome(waits.ID); o.Status != "accepted" {
		t.Errorf("the order of before became %+v", o)
	}
	s.auditGreen()
	s.stop()
}

// A stream that is full is not broken: orders get 503, the log names the limit, and the
// sale goes on by itself when there is room. A max_bytes is the operator's own.
func TestFullStreamIsNamed(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	s := open(t, store)
	_, js := jet(t, s.nats)
	bytes := func(n int64) func(*jetstream.StreamConfig) {
		return func(c *jetstream.StreamConfig) { c.MaxBytes = n }
	}
	edit(t, js, "ORDERS", bytes(10))
	if a := s.buy("ann@example.com", 1); !strings.Contains(string(a.body), `"urn:firstcome:queue-full"`) {
		t.Errorf("answered %d %s", a.code, a.body)
	}
	s.await(`level=ERROR msg="orders cannot be stored: they get 503 until they can" err="the queue is full: .*maximum bytes exceeded"`)
	s.buy("ann@example.com", 1).problem(t, http.StatusServiceUnavailable)
	edit(t, js, "ORDERS", bytes(10_000_000))
	s.buy("ann@example.com", 1).order(t)
	s.await(`level=INFO msg="orders are stored again"`)
	if n := strings.Count(s.said.String(), "orders cannot be stored"); n != 1 {
		t.Errorf("said %d times", n)
	}

	edit(t, js, "KV_stock", bytes(10))
	waits := s.buy("ann@example.com", 1).order(t)
	s.stuck("tshirt")
	s.await(`level=ERROR msg="a product is stuck.*maximum bytes exceeded`)
	edit(t, js, "KV_stock", bytes(10_000_000))
	s.sold(2)
	eventually(t, "the product goes on", func() bool { return s.look(waits).Status == "accepted" && s.product("tshirt").State == "open" })
	s.auditGreen()
	s.stop()
	open(t, store).stop()
}

// limited writes a configuration of a nats-server whose account has these limits.
func limited(t *testing.T, listen, store, limits string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "nats.conf")
	text := fmt.Sprintf("listen: %q\njetstream { store_dir: %q }\naccounts { SHOP { jetstream { %s }, users: [ { user: app, password: secret } ] } }\nno_auth_user: app\n",
		listen, store, limits)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Limits of an account end a start that waiting would not help, and the reason says what
// to set.
func TestLimitsOfAnAccountEndTheStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limits  string
		environ string
		says    []string
	}{
		"a size for each stream": {"max_bytes_required: true", "", []string{"10113", "max bytes", "--max-bytes"}},
		"streams":                {"max_streams: 2", "", []string{"10027", "DEAD", "three streams"}},
		"consumers":              {"max_consumers: 1", "FIRSTCOME_PRODUCTS=tshirt=5,mug=5", []string{"10026", "consumer mug of ORDERS", "a consumer for every product"}},
		"copies on one server":   {"max_file: 1G", "FIRSTCOME_NATS_REPLICAS=3", []string{"10074", "nats.replicas"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := t.TempDir()
			refusedStart(t, store, "FIRSTCOME_NATS_EMBEDDED_CONFIG="+limited(t, "127.0.0.1:-1", store, c.limits), c.environ+"").want(t, 1, c.says...)
		})
	}
}

// An account that allows fewer consumers than firstcome asks for, but enough, will do.
func TestFewConsumersWillDo(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	serve := func() *shop {
		return serving(begin(t, with(command(t, "serve"), "FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_PRODUCTS=tshirt=5",
			"FIRSTCOME_NATS_EMBEDDED_CONFIG="+limited(t, "127.0.0.1:-1", store, "max_consumers: 10"))))
	}
	s := serve()
	s.buy("ann@example.com", 1).order(t)
	s.sold(1)
	s.stop()
	serve().stop()
}

// An account whose storage is used up is not the end, either: the log names the limit,
// and the sale goes on when that is raised.
func TestExhaustedAccount(t *testing.T) {
	t.Parallel()
	path, err := brokerBinary()
	if err != nil {
		t.Fatal(err)
	}
	listen := fmt.Sprintf("127.0.0.1:%d", freePort(t, rand.New(rand.NewPCG(rand.Uint64(), 0))))
	store := t.TempDir()
	conf := limited(t, listen, store, "max_file: 20K")
	server := begin(t, exec.Command(path, "-c", conf))
	server.await("Server is ready")
	s := serving(begin(t, with(command(t, "serve"), "FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_PRODUCTS=tshirt=1000", "FIRSTCOME_NATS_URL=nats://"+listen)))
	var taken []status
	eventually(t, "there is no room", func() bool {
		a := s.buy("ann@example.com", 1)
		if a.code == http.StatusAccepted {
			taken = append(taken, a.order(t))
		}
		return a.code == http.StatusServiceUnavailable && strings.Contains(s.said.String(), "resource limits exceeded for account")
	})
	s.await(`msg="(orders cannot be stored|a product is stuck).*10002.*raise the account's JetStream limits`)
	raised := limited(t, listen, store, "max_file: 10M")
	text, err := os.ReadFile(raised)
	if err == nil {
		err = os.WriteFile(conf, text, 0o600)
	}
	if err == nil {
		err = server.cmd.Process.Signal(syscall.SIGHUP)
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "everything taken is decided", func() bool { return s.product("tshirt").Sold == int64(len(taken)) })
	eventually(t, "the door is open", func() bool { return s.buy("bob@example.com", 1).code == http.StatusAccepted })
	s.drained("tshirt")
	s.auditGreen()
	s.stop()
	server.terminate()
	server.exit()
}
