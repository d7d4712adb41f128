package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPasswordNeedsAServerThatAsks has the cases; here is the exit code.
func TestStartRefusesAPasswordThatNobodyAsksFor(t *testing.T) {
	t.Parallel()
	free := []string{"FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_NATS_EMBEDDED_LISTEN=127.0.0.1:0",
		"FIRSTCOME_NATS_EMBEDDED_STORE_DIR=" + t.TempDir(), "FIRSTCOME_PRODUCTS=tshirt=5"}
	finish(t, with(command(t, "serve"), append(free, login("app", "secret")...)...)).want(t, 2, "FIRSTCOME_NATS_USER: nats.user: ")
	finish(t, with(command(t, "demo"), append(free, "FIRSTCOME_NATS_TOKEN=secret")...)).want(t, 2, "FIRSTCOME_NATS_TOKEN: nats.token: ")
}

func TestStartRefusesAPictureThatIsNone(t *testing.T) {
	t.Parallel()
	free := []string{"FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_NATS_EMBEDDED_LISTEN=127.0.0.1:0",
		"FIRSTCOME_NATS_EMBEDDED_STORE_DIR=" + t.TempDir(), "FIRSTCOME_PRODUCTS=[{id: tshirt, stock: 5, image: /none.png}]"}
	for _, name := range []string{"serve", "demo"} {
		finish(t, with(command(t, name), free...)).want(t, 2, "FIRSTCOME_PRODUCTS: products[0].image: ")
	}
}

// What to sell may come from the store: a file that names nothing is wrong only as
// long as nothing is sold yet.
func TestStoreSellsWithoutProductsInTheFile(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	begun := open(t, store)
	begun.buy("ann@example.com", 2).order(t)
	begun.sold(2)
	begun.stop()

	s := open(t, store, "products: []")
	s.buy("bob@example.com", 1).order(t)
	s.sold(3)
	s.auditGreen()
	s.stop()

	file := filepath.Join(t.TempDir(), "firstcome.yaml")
	if err := os.WriteFile(file, []byte("products: [ { id: tshirt, stock: 5 } ]"), 0o600); err != nil {
		t.Fatal(err)
	}
	finish(t, with(command(t, "serve", "--config", file), "FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_PRODUCTS=",
		"FIRSTCOME_NATS_EMBEDDED_LISTEN=127.0.0.1:0", "FIRSTCOME_NATS_EMBEDDED_STORE_DIR="+t.TempDir())).want(t, 2, "products: no product is configured",
		"FIRSTCOME_PRODUCTS, also when it is empty, overrides the file")
}

// What is wrong with the embedded server names the key to look at.
func TestEmbeddedServerNamesTheKey(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	broken := filepath.Join(t.TempDir(), "broken.conf")
	if err := os.WriteFile(broken, []byte("port: {"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		set  string
		code int
		says string
	}{
		{"EMBEDDED_CONFIG=" + broken, 2, "nats.embedded.config: "},
		{"EMBEDDED_CONFIG=" + broken + ".gone", 2, "nats.embedded.config: "},
		{"EMBEDDED_CONFIG=" + t.TempDir(), 2, "nats.embedded.config: "},
		{"EMBEDDED_LISTEN=" + taken.Addr().String(), 1, fmt.Sprintf("nats.embedded.listen: listen tcp %s: ", taken.Addr())},
	} {
		finish(t, with(command(t, "serve"), "FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_PRODUCTS=tshirt=5",
			"FIRSTCOME_NATS_EMBEDDED_LISTEN=127.0.0.1:0", "FIRSTCOME_NATS_EMBEDDED_STORE_DIR="+t.TempDir(), "FIRSTCOME_NATS_"+c.set)).want(t, c.code, "firstcome: "+c.says)
	}
}

// What the file says of a product counts once. An instance says at its start where
// the store has it otherwise, and what it does not sell.
func TestStartTellsWhatTheFileDoesNotChange(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	start := func(environ ...string) *shop {
		t.Helper()
		return serving(begin(t, with(command(t, "serve"), append([]string{"FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_NATS_EMBEDDED_LISTEN=127.0.0.1:0",
			"FIRSTCOME_NATS_EMBEDDED_STORE_DIR=" + store}, environ...)...)))
	}
	s := start("FIRSTCOME_PRODUCTS=[{id: tshirt, stock: 5, limit_per_buyer: 2}, {id: mug, stock: 1}]")
	s.quiet()
	s.stop()

	s = start("FIRSTCOME_PRODUCTS=[{id: tshirt, stock: 9, limit_per_buyer: 3}, {id: mug}, {id: hat, stock: 1, limit_per_buyer: 1}]",
		"FIRSTCOME_NATS_PROVISION=false")
	s.await(`level=WARN msg="the stored limit_per_buyer holds, not the configured one" product=tshirt stored=2 configured=3 ` +
		`change="firstcome stock set tshirt --limit-per-buyer 3"\n`)
	s.await(`level=WARN msg="not sold until .*firstcome provision.*" product=hat\n`)
	if n := strings.Count(s.said.String(), "level=WARN"); n != 2 {
		t.Errorf("%d warnings, want 2:\n%s", n, s.said)
	}
	cli(t, "stock", "set", "tshirt", "--limit-per-buyer", "3", "--nats", s.nats).want(t, 0)
	s.stop()

	s = start("FIRSTCOME_PRODUCTS=[{id: tshirt, limit_per_buyer: 3}, {id: hat, stock: 1, limit_per_buyer: 1}]")
	s.quiet()
	s.stop()
}

// quiet fails if anything that the instance has said until now is a warning.
func (s *shop) quiet() {
	s.t.Helper()
	if strings.Contains(s.said.String(), "level=WARN") {
		s.t.Errorf("it warns:\n%s", s.said)
	}
}

// A full book refuses every order: that is said when it happens, and at a start
// that finds it so.
func TestFullBookIsSaid(t *testing.T) {
	t.Parallel()
	const full = `level=WARN msg="the book is full: new orders are refused until book.max_orders is raised" max_orders=1\n`
	store := t.TempDir()
	s := open(t, store, "book: { max_orders: 1 }")
	s.quiet()
	s.buy("ann@example.com", 1).order(t)
	s.await(full)
	s.stop()

	s = open(t, store, "book: { max_orders: 1 }")
	if !regexp.MustCompile(full).MatchString(s.said.String()) {
		t.Errorf("it is ready without a warning:\n%s", s.said)
	}
	s.buy("bob@example.com", 1).problem(t, http.StatusServiceUnavailable)
	s.stop()
	if n := strings.Count(s.said.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings, want 1:\n%s", n, s.said)
	}
}
