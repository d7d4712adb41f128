package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// TestPasswordNeedsAServerThatAsks has the cases; here is the exit code.
func TestStartRefusesAPasswordThatNobodyAsksFor(t *testing.T) {
	t.Parallel()
	free := []string{"FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_NATS_EMBEDDED_LISTEN=127.0.0.1:0",
		"FIRSTCOME_NATS_EMBEDDED_STORE_DIR=" + t.TempDir(), "FIRSTCOME_PRODUCTS=tshirt=5"}
	finish(t, with(command(t, "serve"), append(free, user("app", "secret")...)...)).want(t, 2, "FIRSTCOME_NATS_USER: nats.user: ")
	finish(t, with(command(t, "demo"), append(free, "FIRSTCOME_NATS_TOKEN=secret")...)).want(t, 2, "FIRSTCOME_NATS_TOKEN: nats.token: ")
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
