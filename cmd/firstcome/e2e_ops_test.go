package main

import (
	"net/http"
	"strings"
	"testing"
)

// P6 and P7: every tab of a buyer hears everything, nobody else hears anything,
// and a tab that comes back is told what it missed.
func TestTabsFollow(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), "products: [ { id: tshirt, stock: 2 } ]")
	one, two := s.follow("ann@example.com"), s.follow("ann@example.com")
	other, star := s.follow("bob@example.com"), s.follow("*@example.com") // legal, and no wildcard

	var orders []status
	for range 2 {
		o := s.buy("Ann@Example.com", 1).order(t)
		first, second := one.outcome(o.ID), two.outcome(o.ID)
		if first != second || first != s.look(o) || first.Status != "accepted" {
			t.Errorf("one tab heard %+v, the other %+v, GET says %+v", first, second, s.look(o))
		}
		for _, k := range []*tab{one, two} {
			rev := -1
			for _, o := range k.history(o.ID) {
				if o.Rev <= rev {
					t.Errorf("a tab went back: %+v", k.history(o.ID))
				}
				rev = o.Rev
			}
		}
		orders = append(orders, first)
	}
	// Their own orders come after all that they might have overheard.
	cli(t, "stock", "add", "tshirt", "2", "--nats", s.nats).want(t, 0)
	eventually(t, "the door is open again", func() bool { return s.product("tshirt").State == "open" })
	for _, k := range []*tab{other, star} {
		own := s.buy(k.email, 1).order(t)
		k.outcome(own.ID)
		if told := k.history(""); len(told) != len(k.history(own.ID)) {
			t.Errorf("%s was told %+v", k.email, told)
		}
	}
	foreign := s.get("/orders/" + orders[0].ID + "?email=bob@example.com")
	unknown := s.get("/orders/00000000-0000-7000-8000-000000000000?email=bob@example.com")
	foreign.problem(t, http.StatusNotFound)
	if string(foreign.body) != string(unknown.body) {
		t.Errorf("a foreign order is %s, an unknown one %s", foreign.body, unknown.body)
	}

	one.close()
	again := s.follow("ann@example.com")
	for i, o := range orders {
		if again.outcome(o.ID) != o {
			t.Errorf("after coming back order %d is %+v, was %+v", i, again.outcome(o.ID), o)
		}
	}
	if told := again.history(""); len(told) != 2 || told[0].ID != orders[0].ID {
		t.Errorf("after coming back ann was told %+v, want the two outcomes, oldest first", told)
	}
	s.stop()
	for _, k := range []*tab{two, other, star, again} {
		if code := k.farewell(); code != 1001 {
			t.Errorf("socket of %s closed with %d (%v), want 1001", k.email, code, k.ended)
		}
	}
}

// The stop order: readyz says so first, the door refuses, the order in hand is
// finished and told, sockets close with 1001, the process exits with 0.
func TestStopOrder(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	s := open(t, store, "worker: { processing_time: 2s }")
	k := s.follow("ann@example.com")
	var orders []status
	for range 3 {
		orders = append(orders, s.buy("ann@example.com", 1).order(t))
	}
	k.outcome(orders[0].ID)
	_, js := jet(t, s.nats)
	eventually(t, "the second order is in hand, for two seconds", func() bool {
		consumer, err := js.Consumer(bounded(t), "ORDERS", "tshirt")
		if err != nil {
			t.Fatal(err)
		}
		return consumer.CachedInfo().Delivered.Stream == 2
	})

	if a := s.get("http://" + s.ops + "/readyz"); a.code != http.StatusOK {
		t.Fatalf("readyz: %d %s", a.code, a.body)
	}
	s.terminate()
	eventually(t, "readyz is 503", func() bool {
		return s.get("http://"+s.ops+"/readyz").code == http.StatusServiceUnavailable
	})
	if a := s.get("/products"); a.code != http.StatusOK {
		t.Errorf("readyz is 503, and the listener answers %d already", a.code)
	}
	if a := s.get("http://" + s.ops + "/livez"); a.code != http.StatusOK {
		t.Errorf("livez while stopping: %d", a.code)
	}
	refused := s.buy("late@example.com", 1)
	refused.problem(t, http.StatusServiceUnavailable)
	if refused.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	if now := k.outcome(orders[1].ID); now.Status != "accepted" {
		t.Errorf("the order in hand became %+v", now)
	}
	if code := k.farewell(); code != 1001 {
		t.Errorf("the socket closed with %d (%v), want 1001", code, k.ended)
	}
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}

	s = open(t, store)
	if now := s.follow("ann@example.com").outcome(orders[2].ID); now.Status != "accepted" || now.Place != 3 {
		t.Errorf("the order that waited became %+v", now)
	}
	s.auditGreen()
	s.stop()
}

func TestOperatorsPort(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), "products: [ { id: tshirt, stock: 1 } ]")
	k := s.follow("secret.name@example.com")
	k.outcome(s.buy("secret.name@example.com", 1).order(t).ID)
	ops := func(path string) answer { return s.get("http://" + s.ops + path) }
	for path, code := range map[string]int{"/livez": 200, "/readyz": 200, "/debug/pprof/": 200, "/nothing": 404} {
		if a := ops(path); a.code != code {
			t.Errorf("%s: %d, want %d", path, a.code, code)
		}
	}
	text := string(ops("/metrics").body)
	for _, name := range []string{
		`firstcome_orders_total{outcome="accepted",product="tshirt"} 1`, `firstcome_waiting_orders{product="tshirt"} 0`,
		`firstcome_product_stuck{product="tshirt"} 0`,
		"firstcome_decision_seconds_bucket", "firstcome_group_orders_bucket", "firstcome_sockets 1\n",
		"firstcome_sockets_slow_total 0\n", "firstcome_sockets_refused_total 0\n",
		"go_goroutines", "process_open_fds",
	} {
		if !strings.Contains(text, name) {
			t.Errorf("the metrics lack %s", name)
		}
	}
	for _, private := range []string{"secret", "example", "@"} {
		if strings.Contains(text, private) {
			t.Errorf("the metrics mention %q", private)
		}
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/livez", "/readyz"} {
		s.get(path).problem(t, http.StatusNotFound)
	}
	s.stop()
	if strings.Contains(s.said.String(), "secret") {
		t.Errorf("the log names a buyer:\n%s", s.said)
	}
}
