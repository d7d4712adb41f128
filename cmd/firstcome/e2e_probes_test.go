package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// health runs the command as a container does, with the instance's environment.
func (s *shop) health(args ...string) result {
	s.t.Helper()
	return finish(s.t, with(command(s.t, append([]string{"health"}, args...)...), "FIRSTCOME_OPS_LISTEN="+s.ops))
}

// probe asks a path of the operator's port.
func (s *shop) probe(path string) answer {
	s.t.Helper()
	return s.get("http://" + s.ops + path)
}

// sellz is what /sellz says of each product.
func (s *shop) sellz() (code int, products map[string]struct{ ID, State, Reason string }) {
	s.t.Helper()
	a := s.probe("/sellz")
	var body struct {
		Products []struct{ ID, State, Reason string }
	}
	if err := json.Unmarshal(a.body, &body); err != nil {
		s.t.Fatalf("%s: %v", a.body, err)
	}
	products = map[string]struct{ ID, State, Reason string }{}
	for _, p := range body.Products {
		products[p.ID] = p
	}
	return a.code, products
}

// One product that cannot be decided leaves the instance ready and the other one open;
// /sellz names it, and doors that are closed for other reasons do not matter to it.
func TestProbesOfAStuckProduct(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), "products: [ { id: tshirt, stock: 9 }, { id: mug, stock: 9 }, { id: hat, stock: 9 } ]")
	s.stock("set", "hat", "--paused").want(t, 0)
	if code, products := s.sellz(); code != http.StatusOK || len(products) != 3 || products["hat"].State != "paused" {
		t.Errorf("sellz: %d %+v", code, products)
	}
	s.health().want(t, 0, "ready")
	s.health("--probe", "sellz").want(t, 0, `"products":[{"id":"hat"`)
	_, js := jet(t, s.nats)
	for _, product := range []string{"mug", "tshirt"} {
		if err := js.DeleteConsumer(bounded(t), "ORDERS", product); err != nil {
			t.Fatal(err)
		}
		s.stuck(product)
		if a := s.probe("/readyz"); a.code != http.StatusOK {
			t.Errorf("readyz: %d %s", a.code, a.body)
		}
		code, products := s.sellz()
		if p := products[product]; code != http.StatusServiceUnavailable || p.State != "stuck" || !strings.Contains(p.Reason, "consumer") {
			t.Errorf("sellz: %d %+v", code, products)
		}
		if p := products["hat"]; p.State != "paused" || p.Reason != "" {
			t.Errorf("sellz says %+v", p)
		}
	}
	s.health("--probe", "sellz").want(t, 1, `"state":"stuck"`, "503")
	s.health("--probe", "livez").want(t, 0, "ok")
}

// A queue that is full for orders is full for /sellz, too, and a full book.
func TestProbesOfAFullShop(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), "queue: { max_messages: 200 }\nworker: { enabled: false }\ngroup: { max_orders: 1 }")
	for i := 0; ; i++ {
		a := s.buy(fmt.Sprintf("buyer%d@example.com", i), 1)
		code, products := s.sellz()
		if a.code == http.StatusAccepted && i < 300 {
			if s.product("tshirt").Waiting < 198 && code != http.StatusOK {
				t.Fatalf("%d orders are taken, and sellz is %d %+v", i+1, code, products)
			}
			continue
		}
		if !strings.Contains(string(a.body), "urn:firstcome:queue-full") || code != http.StatusServiceUnavailable || !strings.Contains(products["tshirt"].Reason, "the queue is full") {
			t.Errorf("order %d: %d %s; sellz: %d %+v", i+1, a.code, a.body, code, products)
		}
		break
	}
	s.health().want(t, 0)
	s.stop()

	s = open(t, t.TempDir(), "book: { max_orders: 1 }")
	s.buy("ann@example.com", 1).order(t)
	s.buy("ann@example.com", 1).problem(t, http.StatusServiceUnavailable)
	if code, products := s.sellz(); code != http.StatusServiceUnavailable || !strings.Contains(products["tshirt"].Reason, "book.max_orders") {
		t.Errorf("sellz: %d %+v", code, products)
	}
	s.health().want(t, 0)
	s.stop()
	s.health().want(t, 1, "refused")
}

// Without any broker an instance stays ready for 10 s, and turns ready again with the
// first one; it lives all the while.
func TestReadyzWithoutNATS(t *testing.T) {
	t.Parallel()
	path, err := brokerBinary()
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t, rand.New(rand.NewPCG(rand.Uint64(), 0)))
	store := t.TempDir()
	server := func() *process {
		p := begin(t, exec.Command(path, "-js", "-a", "127.0.0.1", "-p", fmt.Sprint(port), "-sd", store))
		p.await("Server is ready")
		return p
	}
	broker := server()
	s := serving(begin(t, with(command(t, "serve"), "FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_PRODUCTS=tshirt=5",
		fmt.Sprintf("FIRSTCOME_NATS_URL=nats://127.0.0.1:%d", port))))
	broker.terminate()
	gone := time.Now()
	broker.exit()
	eventually(t, "/sellz says that NATS is away", func() bool {
		code, products := s.sellz()
		return code == http.StatusServiceUnavailable && products["tshirt"].Reason == "NATS is away"
	})
	eventually(t, "/readyz is 503", func() bool { return s.probe("/readyz").code == http.StatusServiceUnavailable })
	if after := time.Since(gone); after < awayTime {
		t.Errorf("not ready after %v", after)
	}
	s.health().want(t, 1, "NATS is away", "503")
	s.health("--url", "http://"+s.ops+"/", "--probe", "livez").want(t, 0, "ok")
	if a := s.get("/products"); a.code != http.StatusOK {
		t.Errorf("products: %d", a.code)
	}
	broker = server()
	eventually(t, "/readyz is 200", func() bool { return s.probe("/readyz").code == http.StatusOK })
	s.stop()
	broker.terminate()
	broker.exit()
}

// Before there is anything to serve the probes say so.
func TestProbesBeforeTheStart(t *testing.T) {
	t.Parallel()
	port := freePort(t, rand.New(rand.NewPCG(rand.Uint64(), 0)))
	ops := fmt.Sprintf("127.0.0.1:%d", port)
	p := begin(t, with(command(t, "serve"), "FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_PRODUCTS=tshirt=5", "FIRSTCOME_OPS_LISTEN="+ops,
		"FIRSTCOME_NATS_URL=nats://127.0.0.1:1"))
	p.await("waiting for NATS")
	s := visit(p, "", ops, "")
	for path, want := range map[string]int{"/livez": 200, "/readyz": 503, "/sellz": 503} {
		if a := s.probe(path); a.code != want {
			t.Errorf("%s: %d %s", path, a.code, a.body)
		}
	}
	if a := s.probe("/sellz"); string(a.body) != `{"products":[]}`+"\n" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("sellz: %s %v", a.body, a.header)
	}
	s.health().want(t, 1, "starting or stopping")
	s.stop()
}

func TestHealthCommandLine(t *testing.T) {
	t.Parallel()
	cli(t, "health", "--probe", "wellz").want(t, 2, "--probe must be readyz, livez or sellz")
	cli(t, "health", "--url", "").want(t, 2, "--url")
	cli(t, "health", "--config", "no-such-file.yaml").want(t, 2, "no-such-file.yaml")
	cli(t, "health", "--url", "http://127.0.0.1:1").want(t, 1, "refused")
	cli(t, "health", "--url", "http://127.0.0.1:1 2").want(t, 2, "--url")
	for listen, want := range map[string]string{
		"127.0.0.1:4001": "127.0.0.1:4001", ":4001": "127.0.0.1:4001", "0.0.0.0:4001": "127.0.0.1:4001",
		"[::]:4001": "[::1]:4001", "[::1]:4001": "[::1]:4001", "ops.example:4001": "ops.example:4001",
	} {
		if is := reachable(listen); is != want {
			t.Errorf("%s is reached at %s, want %s", listen, is, want)
		}
	}
}
