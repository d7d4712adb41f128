package main

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// What an operator publishes by hand is decided in its turn. What is no desk line goes
// to DEAD with the reason, and holds nobody up.
func TestDeskByHand(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	_, js := jet(t, s.nats)
	buyer := s.follow("ann@example.com")

	seq := s.desk(`{"do":"supply","units":10,"by":"ann","why":"second delivery"}`)
	const twice = `{"id":"0192AAAA-0000-7000-8000-000000000001","do":"supply","units":2}`
	s.desk(twice)
	s.desk(twice)
	s.desk(strings.Join([]string{
		`{"do":"supply","available":20}`, `{"do":"supply","units":-21}`, `nonsense`,
		`{"do":"terms","limit_per_buyer":3,"opens_at":null,"closes_at":"9999-12-31T23:59:59Z"}`,
	}, "\n"))
	dead := []struct{ subject, line, reason string }{
		{"desk", `{"do":"supply","units":1,"colour":"red"}`, `unknown field "colour"`},
		{"desk", `{"do":"supply","units":1,"` + strings.Repeat("c", 100<<10) + `":"red"}`, `unknown field "` + strings.Repeat("c", 40) + `…"`},
		{"desk", `{"do":"supply","units":1,"` + `a\nb` + `":"red"}`, `unknown field "a\nb"`},
		{"desk", `{"do":"supply","units":1,"available":1}`, "a supply needs units or available, and not both"},
		{"desk", `{"do":"supply","units":1,"units":2}`, `"units" is there twice`},
		{"desk", `{"do":"terms","paused":true,"units":1}`, "terms change no units"},
		{"desk", `{"do":"terms","opens_at":"10000-01-01T00:00:00Z"}`, "opens_at: not an RFC 3339 time"},
		{"desk", `{"do":"terms","closes_at":"9999-12-31T23:59:59-05:00"}`, "closes_at: not in UTC"},
		{"desk", `{"do":"terms","paused":true,"why":"` + strings.Repeat("w", 10<<10) + `"}`, "why: more than 500 bytes"},
		{"desk", `{"do":"terms","paused":true,"by":"a\u0000b"}`, "by: a control character"},
		{"desk", "{\"do\":\"terms\",\"paused\":true}\x00", "something stands behind the JSON object"},
		{"desk", `{"email":"ann@example.com"}`, `unknown field "email"`},
		{"orders", `{"do":"supply","units":5}`, "email is missing"},
	}
	for _, d := range dead {
		publish(t, js, d.subject+".tshirt", d.line)
	}
	o := buyer.outcome(s.buy("ann@example.com", 3).order(t).ID)
	if o.Status != "accepted" || o.Place != 1 {
		t.Errorf("the order behind all of it became %+v", o)
	}

	h := fold(t, js, "tshirt")
	if len(h.links) != 1+4+len(dead)+1 {
		t.Errorf("%d links, want one for each message, and the first", len(h.links))
	}
	if d := h.links[1].Desk; h.links[1].Queue.Seq != seq || len(d) != 1 || d[0].By != "ann" || d[0].Why != "second delivery" || d[0].ID == "" {
		t.Errorf("the restock is %s", h.links[1].value)
	}
	if got := h.desk("0192aaaa-0000-7000-8000-000000000001"); len(got) != 2 || got[0] != "" || got[1] != "duplicate" {
		t.Errorf("the line that came twice came to %q", got)
	}
	if d := h.links[4].Desk; len(d) != 3 || d[0].Refused != "" || d[1].Refused != "not-enough" || d[2].Refused != "" {
		t.Errorf("the message of four lines came to %s", h.links[4].value)
	}
	if is := h.newest(); is.Supplied != 20 || is.Sold != 3 || is.Available != 17 {
		t.Errorf("the history ends with %s", is.value)
	}
	letters := stored(t, js, "DEAD")
	if len(letters) != 1+len(dead) {
		t.Fatalf("%d dead letters, want %d", len(letters), 1+len(dead))
	}
	for i, d := range dead {
		if l := letters[1+i]; l.Subject != "dead.tshirt" || string(l.Data) != d.line || l.Header.Get("Firstcome-Reason") != d.reason {
			t.Errorf("dead letter %s %.80q: %q, want %.80q: %q", l.Subject, l.Data, l.Header.Get("Firstcome-Reason"), d.line, d.reason)
		}
	}
	if p := s.product("tshirt"); p.State != "open" {
		t.Errorf("a dead pause closes the door: %+v", p)
	}
	s.auditGreen()
	s.stop()
}

// Values that firstcome did not write change nothing: the sale goes on, they are counted
// and told, and the audit notes them.
func TestValuesByHandChangeNothing(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	s := open(t, store)
	nc, js := jet(t, s.nats)
	ctx := bounded(t)
	kv, value := stockValue(t, js)
	first := string(value.Value())
	put := func(key, value string) {
		t.Helper()
		if _, err := kv.PutString(ctx, key, value); err != nil {
			t.Fatal(err)
		}
	}
	put("tshirt", strings.Repeat("x", int(nc.MaxPayload())-1024)) // a message's headers count, too
	put("tshirt", `{"v":2,`)
	put("tshirt", strings.Replace(first, `"v":2`, `"v":3`, 1))
	put("tshirt", strings.NewReplacer(`"n":1,"prev":""`, `"n":2,"prev":"00"`, `"seq":0`, `"seq":1`,
		`"change":"created"`, `"change":"orders","orders":[]`).Replace(first)) // the next link but for its prev
	put("tshirt", strings.Replace(first, `"available":5`, `"available":6`, 1))
	put("hat", "nobody sells it")
	put("hat.of.straw", "nobody can")
	if err := kv.Delete(ctx, "tshirt"); err != nil {
		t.Fatal(err)
	}
	const foreign = 6
	selling := func(s *shop, email string) {
		t.Helper()
		if o := s.follow(email).outcome(s.buy(email, 1).order(t).ID); o.Status != "accepted" {
			t.Errorf("%s was told %+v", email, o)
		}
		text := string(s.get("http://" + s.ops + "/metrics").body)
		if want := fmt.Sprintf(`firstcome_foreign_values_total{product="tshirt"} %d`, foreign); !strings.Contains(text, want) {
			t.Errorf("the metrics lack %s", want)
		}
		if all := string(s.get("/products").body); strings.Contains(all, "hat") {
			t.Errorf("a product that nobody sells is shown: %s", all)
		}
		if warned := strings.Count(s.said.String(), "a value that firstcome did not write is in the bucket; it is passed over"); warned != 1 {
			t.Errorf("%d warnings of foreign values within a minute, want 1", warned)
		}
	}
	selling(s, "ann@example.com")
	s.stock("ls").want(t, 0, "tshirt    open      4")
	if h := fold(t, js, "tshirt"); len(h.foreign) != foreign || len(h.links) != 2 {
		t.Errorf("%d links and foreign values %v", len(h.links), h.foreign)
	}
	put("tshirt", "garbage on top") // the newest value is no link
	s.stock("get", "tshirt").want(t, 0, `"n": 2,`, `"available": 4`)
	s.stock("add", "tshirt", "1").want(t, 0, "tshirt, link 3, ") // what it was before stands too far back
	audited(t, s.nats).want(t, 0, fmt.Sprintf("%d revisions are no links and were passed over", foreign+1), "ok: ")
	s.stop()

	s = open(t, store)
	s.follow("bob@example.com").outcome(s.buy("bob@example.com", 1).order(t).ID)
	_, js = jet(t, s.nats)
	if h := fold(t, js, "tshirt"); h.newest().Available != 4 {
		t.Errorf("after a restart the history ends with %s", h.newest().value)
	}
	s.stop()
}

// A next link of a later version ends what this one can tell: nothing is decided on top.
func TestLinkOfANewerVersion(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	s := open(t, store)
	s.buy("ann@example.com", 1).order(t)
	s.sold(1)
	_, js := jet(t, s.nats)
	h := fold(t, js, "tshirt")
	h.forge(t, js, func(next map[string]any) { next["v"] = 3 })
	last := lastSeq(t, js, "KV_stock")
	const newer = "link 3: v is 3: it needs a newer firstcome"
	s.await(newer)
	s.buy("bob@example.com", 1).order(t)
	s.stuck("tshirt")
	audited(t, s.nats).want(t, 1, "BROKEN P8", "needs a newer firstcome")
	s.stop()

	s = open(t, store)
	s.stuck("tshirt")
	s.await(newer)
	_, js = jet(t, s.nats)
	if n := lastSeq(t, js, "KV_stock"); n != last {
		t.Errorf("revision %d was appended after one that cannot be read", n)
	}
	s.stop()
}

// A pause closes the door when it is in the queue, not when its turn comes; the door
// opens again when the line that says so is decided.
func TestPauseClosesTheDoorAtOnce(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), "products: [ { id: tshirt, stock: 9 } ]", "worker: { processing_time: 1s }")
	_, js := jet(t, s.nats)
	var orders []status
	for range 5 {
		orders = append(orders, s.buy("ann@example.com", 1).order(t))
	}
	s.desk(`{"do":"terms","paused":true}`)
	eventually(t, "the door is closed", func() bool { return s.product("tshirt").State == "paused" })
	if detail := s.buy("late@example.com", 1).problem(t, http.StatusConflict); !strings.Contains(detail, "paused") {
		t.Errorf("the door says %q", detail)
	}
	h := fold(t, js, "tshirt")
	if newest := h.newest(); newest.Change == "desk" || len(h.links) > len(orders) {
		t.Errorf("the backlog is gone already: %s", newest.value)
	}
	if p := s.product("tshirt"); p.State != "paused" || p.Waiting == 0 {
		t.Errorf("while the pause waits the product is %+v", p)
	}
	undecided := s.stock("set", "tshirt", "--paused=false", "--timeout", "10ms").want(t, 4, "not decided yet")
	if !regexp.MustCompile(`line [0-9a-f-]{36} (is|may be) in the queue`).MatchString(undecided.stderr) {
		t.Errorf("the line that waits is not named: %s", undecided.stderr)
	}
	s.stock("set", "tshirt", "--paused=true").want(t, 0)
	if p := s.product("tshirt"); p.State != "paused" {
		t.Errorf("paused last, the product is %+v", p)
	}
	for _, o := range orders { // a pause takes nothing from those in the queue
		if now := s.look(o); now.Status != "accepted" {
			t.Errorf("an order before the pause is %+v", now)
		}
	}
	s.stock("set", "tshirt", "--paused=false").want(t, 0, "paused: true → false")
	eventually(t, "the door is open", func() bool { return s.product("tshirt").State == "open" })
	s.buy("ann@example.com", 1).order(t)
	s.drained("tshirt")
	s.auditGreen()
	s.stop()
}

// Each link says which instance decided it: its configured name, or the host's with
// four random digits.
func TestLinksNameTheirInstance(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	for _, instance := range []string{"instance: { name: shop-1.example }", "", ""} {
		s := open(t, store, instance)
		s.follow("ann@example.com").outcome(s.buy("ann@example.com", 1).order(t).ID)
		s.stop()
	}
	_, js := jet(t, serveStore(t, store).ClientURL())
	links := fold(t, js, "tshirt").links
	if links[0].By != "provision" || links[1].By != "shop-1.example" {
		t.Errorf("the first links are by %s and %s", links[0].By, links[1].By)
	}
	named := regexp.MustCompile(`^[A-Za-z0-9._-]{0,59}-[0-9a-f]{4}$`)
	if one, other := links[2].By, links[3].By; !named.MatchString(one) || !named.MatchString(other) || one == other {
		t.Errorf("without a name, two runs call themselves %q and %q", one, other)
	}
}

// The last hundredth of the queue is for the desk: where orders are refused, a pause
// and a restock still get in.
func TestFullQueueHasRoomForTheDesk(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), "queue: { max_messages: 200 }", "worker: { enabled: false }")
	_, js := jet(t, s.nats)
	for n := range 198 {
		publish(t, js, "orders.tshirt", fmt.Sprintf(`{"email":"buyer%d@example.com"}`, n))
	}
	eventually(t, "the instance has heard of all", func() bool { return s.product("tshirt").Waiting == 198 })
	a := s.buy("late@example.com", 1)
	if a.problem(t, http.StatusServiceUnavailable); !strings.Contains(string(a.body), `"urn:firstcome:queue-full"`) || a.header.Get("Retry-After") == "" {
		t.Errorf("a full queue answers %v %s", a.header, a.body)
	}
	if n := lastSeq(t, js, "ORDERS"); n != 198 {
		t.Errorf("the queue has %d messages", n)
	}
	s.desk(`{"do":"terms","paused":true}`)
	s.desk(`{"do":"supply","units":1}`)
	eventually(t, "the pause counts", func() bool { return s.product("tshirt").State == "paused" })
	s.stop()
}
