package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

const serveOnlyFile = "worker: { enabled: false }"

// repair runs the command on a shop whose store is in that directory.
func (s *shop) repair(store string, args ...string) result {
	s.t.Helper()
	return finish(s.t, with(command(s.t, append([]string{"repair", "--nats", s.nats}, args...)...), "FIRSTCOME_NATS_EMBEDDED_STORE_DIR="+store))
}

// closed wants the door of a stuck product.
func (s *shop) closed() {
	s.t.Helper()
	refused := s.buy("bob@example.com", 1)
	refused.problem(s.t, http.StatusServiceUnavailable)
	if !strings.Contains(string(refused.body), "urn:firstcome:stuck") {
		s.t.Errorf("refused with %s", refused.body)
	}
}

// epoch is the queue's.
func epoch(t *testing.T, js jetstream.JetStream) string {
	t.Helper()
	stream, err := js.Stream(bounded(t), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().Config.Metadata["firstcome_epoch"]
}

// copied is a copy of a store that nobody has open.
func copied(t *testing.T, store string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sevenOrders is a store and an older copy of it. In the copy message 1 is decided and
// messages 2 and 3 wait; in the store 2 to 5 are decided as well, 5 is the desk's, and 6
// and 7 wait.
func sevenOrders(t *testing.T) (store, older string) {
	t.Helper()
	store = t.TempDir()
	const nine = "products: [ { id: tshirt, stock: 9 } ]"
	s := open(t, store, nine)
	s.buy("ann@example.com", 1).order(t)
	s.sold(1)
	s.stop()
	s = open(t, store, nine, serveOnlyFile)
	s.buy("ann@example.com", 1).order(t)
	_, js := jet(t, s.nats)
	publish(t, js, "orders.tshirt", `{"email":"cli@example.com"}`) // its id is its place
	s.stop()
	older = copied(t, store)
	s = open(t, store, nine)
	s.sold(3)
	s.buy("ann@example.com", 1).order(t)
	s.sold(4)
	s.stock("set", "tshirt", "--opens-at", "2026-01-01T00:00:00+01:00", "--by", "ann").want(t, 0)
	s.stop()
	s = open(t, store, nine, serveOnlyFile)
	for range 2 {
		s.buy("ann@example.com", 1).order(t)
	}
	s.stop()
	return store, older
}

// A store of which a part was put back from an older copy sells on after a repair, which
// names what is behind and what is lost, wants the loss accepted, and writes no stock (P1,
// P3, P4).
func TestRepair(t *testing.T) {
	t.Parallel()
	store, older := sevenOrders(t)
	noMark := func(t *testing.T, dir string) {
		if err := os.Remove(filepath.Join(dir, "queue.mark")); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		back   []string // streams that were put back
		change func(t *testing.T, dir string)
		says   []string
		lost   string // "": none
		sold   int64  // once everything in the queue is decided
	}{
		"nothing": {sold: 6},
		"the queue": {back: []string{"ORDERS"}, lost: "2", sold: 4, says: []string{
			"tshirt: the queue is behind: it ends at message 3 and had confirmed message 7, 4 more\n",
			"tshirt: 2 messages in the queue are settled by the history: they would be taken off\n", "begin a new epoch at message 4\n"}},
		"the queue without a mark": {back: []string{"ORDERS"}, change: noMark, sold: 4, says: []string{
			"tshirt: the queue is behind: it ends at message 3 and the history has settled message 5, 2 more\n",
			"tshirt: 2 messages in the queue are settled"}},
		"the history": {back: []string{"KV_stock"}, lost: "4", sold: 3, says: []string{
			"tshirt: the history is behind: it ends at message 1 and message 5 was settled, 4 more\n", "begin a new epoch at message 6\n"}},
		"both": {back: []string{"ORDERS", "KV_stock"}, lost: "4", sold: 3, says: []string{
			"it ends at message 3 and had confirmed message 7, 4 more\n", "begin a new epoch at message 2\n"}},
		"both without a mark": {back: []string{"ORDERS", "KV_stock"}, change: noMark, sold: 3},
		"the queue's messages, older than its consumer": {lost: "2", sold: 4, change: func(t *testing.T, dir string) {
			messages := filepath.Join("jetstream", "$G", "streams", "ORDERS", "msgs")
			if err := os.RemoveAll(filepath.Join(dir, messages)); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(filepath.Join(dir, messages), os.DirFS(filepath.Join(older, messages))); err != nil {
				t.Fatal(err)
			}
		}, says: []string{"tshirt: the consumer has passed over 2 messages in the queue: it would be made again\n",
			"tshirt: 2 messages in the queue are settled"}},
		"a queue that gave its sequences out again": {back: []string{"ORDERS"}, sold: 7, change: func(t *testing.T, dir string) {
			noMark(t, dir)
			server := serveStore(t, dir)
			_, js := jet(t, server.ClientURL())
			for range 3 { // messages 4 to 6
				publish(t, js, "orders.tshirt", `{"email":"eve@example.com"}`)
			}
			closeStore(t, server)
		}, says: []string{
			"tshirt: 2 messages in the queue come before one that is settled, and are not: they would be decided\n",
			"tshirt: 2 messages in the queue are settled", "begin a new epoch at message 4\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := copied(t, store)
			for _, stream := range c.back {
				putBack(t, dir, older, stream)
			}
			if c.change != nil {
				c.change(t, dir)
			}
			s := open(t, dir, serveOnlyFile)
			_, js := jet(t, s.nats)
			was, revision := epoch(t, js), lastSeq(t, js, "KV_stock")
			same := func() {
				t.Helper()
				if epoch(t, js) != was || lastSeq(t, js, "KV_stock") != revision {
					t.Error("it changed something")
				}
			}
			whole := len(c.says) == 0
			accept := []string{"--yes"}
			if whole {
				c.says = []string{"tshirt: nothing to repair\n"}
			}
			if c.lost != "" {
				c.says = append(c.says, c.lost+" messages were acknowledged and are neither in the queue nor in the history", "only --accept-loss "+c.lost+" goes on")
				accept = append(accept, "--accept-loss", c.lost)
				s.repair(dir, "--yes").want(t, 1, "nothing was done: "+c.lost+" acknowledged messages are lost for good, and --accept-loss says 0")
			}
			behind := !whole && strings.Contains(c.says[0], " is behind: ")
			if behind {
				s.closed() // from the first moment, also where nothing is decided
			}
			if !whole {
				s.repair(dir, "--yes", "--accept-loss", "99").want(t, 1, "nothing was done: ", "--accept-loss says 99")
			}
			s.repair(dir).want(t, 0, c.says...)
			same()
			done := s.repair(dir, accept...).want(t, 0, c.says...)
			if whole {
				same()
			} else {
				done.want(t, 0, "done: start the instances")
				if epoch(t, js) == was {
					t.Error("the queue is of the same epoch")
				}
			}
			if lastSeq(t, js, "KV_stock") != revision {
				t.Error("it wrote into the bucket")
			}
			if behind {
				eventually(t, "the door is open", func() bool { return s.product("tshirt").State == "open" })
			}
			s.repair(dir, "--yes").want(t, 0, "tshirt: nothing to repair\n")
			finish(t, with(command(t, "audit", "--nats", s.nats), "FIRSTCOME_NATS_EMBEDDED_STORE_DIR="+dir)).want(t, 0, "ok: ")
			s.stop()

			s = open(t, dir)
			s.sold(c.sold)
			s.buy("bob@example.com", 1).order(t)
			s.sold(c.sold + 1)
			s.drained("tshirt")
			finish(t, with(command(t, "audit", "--nats", s.nats), "FIRSTCOME_NATS_EMBEDDED_STORE_DIR="+dir)).want(t, 0, "ok: ")
			s.stop()
			s = open(t, dir, serveOnlyFile)
			s.repair(dir).want(t, 0, "tshirt: nothing to repair\n")
			s.stop()
		})
	}
}

// An instance whose product waits for a repair goes on by itself after it, and its mark is
// of the new epoch. The configuration may say where the store is.
func TestRepairBesideTheInstance(t *testing.T) {
	t.Parallel()
	store, older := sevenOrders(t)
	putBack(t, store, older, "ORDERS")
	s := open(t, store)
	s.closed()
	s.await(`level=ERROR msg="a product is stuck.* cause="the queue is behind: it ends at message 3 and had confirmed message 7, 4 more: run firstcome repair"`)
	file := filepath.Join(t.TempDir(), "firstcome.yaml")
	if err := os.WriteFile(file, []byte("nats: { embedded: { store_dir: "+store+" } }"), 0o600); err != nil {
		t.Fatal(err)
	}
	cli(t, "repair", "--nats", s.nats, "--config", file, "--yes", "--accept-loss", "2").want(t, 0, "the queue has begun a new epoch\n")
	s.await(`level=INFO msg="a product goes on" product=tshirt`)
	s.buy("bob@example.com", 1).order(t)
	s.sold(5)
	_, js := jet(t, s.nats)
	now := epoch(t, js)
	eventually(t, "the mark is of the new epoch", func() bool {
		text, err := os.ReadFile(filepath.Join(store, "queue.mark"))
		var mark struct {
			Epoch string
			Seq   uint64
		}
		return err == nil && json.Unmarshal(text, &mark) == nil && mark.Epoch == now && mark.Seq == lastSeq(t, js, "ORDERS")
	})
	cli(t, "audit", "--nats", s.nats, "--config", file).want(t, 0, "ok: ")
	s.stop()

	// A history without the links since the repair is behind, too.
	putBack(t, store, older, "KV_stock")
	s = open(t, store)
	s.stuck("tshirt")
	s.await(`the history is behind: it has nothing of the queue since message 4 and message 4 was settled, 1 more: run firstcome repair`)
	cli(t, "audit", "--nats", s.nats, "--config", file).want(t, 1, "BROKEN P3", "the history is behind: it has nothing of the queue since message 4")
	s.stop()
}

// A consumer that is missing is made again, and a product that the queue does not take.
// That loses nothing and needs no new epoch. Nothing is done while an instance decides.
func TestRepairOfAMissingConsumer(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	two := "products: [ { id: tshirt, stock: 9 }, { id: mug, stock: 9 } ]"
	s := open(t, store, two)
	s.buy("ann@example.com", 1).order(t)
	s.sold(1)
	_, js := jet(t, s.nats)
	lose := func(js jetstream.JetStream, product string) {
		t.Helper()
		if err := js.DeleteConsumer(bounded(t), "ORDERS", product); err != nil {
			t.Fatal(err)
		}
	}
	lose(js, "mug")
	s.repair(store, "--yes").want(t, 1, "tshirt: nothing to repair\n", "mug: the consumer is missing: it would be made\n",
		"nothing was done: an instance decides [tshirt]; stop the deciding instances first")
	s.stop()

	s = open(t, store, two, serveOnlyFile)
	_, js = jet(t, s.nats)
	lose(js, "tshirt")
	waits := s.buy("ann@example.com", 1).order(t)
	edit(t, js, "ORDERS", func(c *jetstream.StreamConfig) { c.Subjects = []string{"orders.tshirt", "desk.tshirt"} })
	s.stop()
	const provisioned = "FIRSTCOME_NATS_PROVISION=false"
	refusedStart(t, store, provisioned).want(t, 1, "consumer tshirt of ORDERS is missing: run firstcome provision or firstcome repair as an admin",
		"stream ORDERS does not take orders.mug")

	server := serveStore(t, store)
	_, js = jet(t, server.ClientURL())
	was := epoch(t, js)
	cli(t, "repair", "--nats", server.ClientURL()).want(t, 0, "mug: the consumer is missing", "tshirt: the consumer is missing")
	done := cli(t, "repair", "--nats", server.ClientURL(), "--yes").want(t, 0, "mug: the consumer is made\n", "tshirt: the consumer is made\n", "done: ")
	if strings.Contains(done.stdout, "epoch") || epoch(t, js) != was {
		t.Errorf("the epoch was renewed: %s", done.stdout)
	}
	cli(t, "repair", "--nats", server.ClientURL()).want(t, 0, "mug: nothing to repair\n", "tshirt: nothing to repair\n")
	closeStore(t, server)

	s = serving(begin(t, with(command(t, "serve"), "FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_NATS_EMBEDDED_LISTEN=127.0.0.1:0",
		"FIRSTCOME_NATS_EMBEDDED_STORE_DIR="+store, provisioned)))
	if o := s.follow("ann@example.com").outcome(waits.ID); o.Status != "accepted" {
		t.Errorf("the order that waited became %+v", o)
	}
	s.auditGreen()
	s.stop()
}

// A product that no file names any more is sold, and its consumer made like those of the
// others: neither its loss nor its history alone keeps a shop closed.
func TestStartMakesTheConsumersOfAllThatIsSold(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	s := open(t, store, "products: [ { id: tshirt, stock: 9 }, { id: mug, stock: 9 } ]")
	for _, products := range []string{"products: [ { id: tshirt, stock: 9 } ]", "products: []"} {
		_, js := jet(t, s.nats)
		if err := js.DeleteConsumer(bounded(t), "ORDERS", "mug"); err != nil {
			t.Fatal(err)
		}
		s.stop()
		s = open(t, store, products)
		a, err := s.ask(http.MethodPost, "/buy", `{"email":"ann@example.com","product":"mug"}`, "Content-Type", "application/json")
		if err != nil {
			t.Fatal(err)
		}
		o := a.order(t)
		eventually(t, "the order is decided", func() bool { return s.look(o).Status == "accepted" })
	}
	s.stop()
}

// A nats-server file says where the store is, and the mark with it, for repair and audit as
// for the instance.
func TestRepairFindsTheMarkOfAServersOwnFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, conf, file := filepath.Join(dir, "real"), filepath.Join(dir, "nats.conf"), filepath.Join(dir, "firstcome.yaml")
	for name, text := range map[string]string{
		conf: fmt.Sprintf("jetstream { store_dir: %q }\n", store),
		file: fmt.Sprintf("http: { listen: 127.0.0.1:0 }\nnats: { embedded: { listen: 127.0.0.1:0, store_dir: %q, config: %q } }\nproducts: [ { id: tshirt, stock: 5 } ]\n",
			filepath.Join(dir, "other"), conf),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := serving(launch(t, "serve", "--config", file))
	s.buy("ann@example.com", 1).order(t)
	s.sold(1)
	_, js := jet(t, s.nats)
	mark := fmt.Sprintf(`{"epoch":%q,"seq":4}`, epoch(t, js))
	s.stop()
	if err := os.WriteFile(filepath.Join(store, "queue.mark"), []byte(mark), 0o600); err != nil {
		t.Fatal(err)
	}
	s = serving(launch(t, "serve", "--config", file))
	s.closed()
	cli(t, "audit", "--nats", s.nats, "--config", file).want(t, 1, "BROKEN P3")
	cli(t, "repair", "--nats", s.nats, "--config", file).want(t, 0, "the queue is behind: it ends at message 1 and had confirmed message 4", "--accept-loss 3")
	s.stop()
}
