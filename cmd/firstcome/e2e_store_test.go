package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/natsd"
)

// serveStore serves a store that nobody has open, without firstcome.
func serveStore(t *testing.T, dir string) *natsd.Server {
	t.Helper()
	srv, err := natsd.Start(bounded(t), natsd.Config{Listen: "127.0.0.1:0", StoreDir: dir,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, srv) })
	return srv
}

// closeStore may be called again.
func closeStore(t *testing.T, srv *natsd.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := srv.Stop(ctx); err != nil {
		t.Error(err)
	}
}

// copyOf serves a copy of a store that nobody has open.
func copyOf(t *testing.T, store string) *natsd.Server {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	return serveStore(t, dir)
}

// refusedStart starts an instance on a store, which must not come about.
func refusedStart(t *testing.T, store string, environ ...string) result {
	t.Helper()
	return finish(t, with(command(t, "serve"), append([]string{"FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_PRODUCTS=tshirt=5",
		"FIRSTCOME_NATS_EMBEDDED_LISTEN=127.0.0.1:0", "FIRSTCOME_NATS_EMBEDDED_STORE_DIR=" + store}, environ...)...))
}

// edit changes a stream's settings, as `nats stream edit` does.
func edit(t *testing.T, js jetstream.JetStream, name string, change func(*jetstream.StreamConfig)) {
	t.Helper()
	stream, err := js.Stream(bounded(t), name)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	change(&config)
	if _, err := js.UpdateStream(bounded(t), config); err != nil {
		t.Fatal(err)
	}
}

// A store of an earlier firstcome has a stream LEDGER. A start says so, and what to do,
// and leaves everything as it is.
func TestOldStoreIsRefused(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	srv := serveStore(t, store)
	_, js := jet(t, srv.ClientURL())
	ctx := bounded(t)
	for _, c := range []jetstream.StreamConfig{
		{Name: "ORDERS", Subjects: []string{"orders.tshirt"}, Retention: jetstream.WorkQueuePolicy},
		{Name: "LEDGER", Subjects: []string{"ledger.*.*"}, MaxMsgsPerSubject: 1},
	} {
		if _, err := js.CreateStream(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "stock", History: 64})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(ctx, "tshirt", []byte(`{"product":"tshirt","available":5,"sold":0,"supplied":5}`)); err != nil {
		t.Fatal(err)
	}
	publish(t, js, "orders.tshirt", `{"email":"ann@example.com"}`)
	publish(t, js, "ledger.tshirt.1", `{"product":"tshirt","n":1}`)
	inside := func(js jetstream.JetStream) (all string) {
		t.Helper()
		names := js.ListStreams(bounded(t))
		streams := map[string]string{}
		for info := range names.Info() {
			streams[info.Config.Name] = fmt.Sprintf("%+v %d messages to %d", info.Config, info.State.Msgs, info.State.LastSeq)
		}
		if err := names.Err(); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(streams)
	}
	before := inside(js)
	closeStore(t, srv)

	const whatToDo = "finish its sale with that version, then begin with an empty store directory or NATS account"
	refusedStart(t, store).want(t, 1, "stream LEDGER: ", whatToDo)
	refusedStart(t, store, "FIRSTCOME_NATS_PROVISION=false").want(t, 1, "bucket stock: ", whatToDo)

	_, js = jet(t, serveStore(t, store).ClientURL())
	if after := inside(js); after != before {
		t.Errorf("the store held\n%s\nand holds after the starts\n%s", before, after)
	}
	if _, err := os.Stat(filepath.Join(store, "queue.mark")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a mark was made: %v", err)
	}
}

// An edit of the bucket's limits cuts the history. The server then takes no more links,
// and the running sale waits; put back, it goes on from memory. The audit names the cut,
// and no instance starts on it.
func TestHistoryCutByAnEdit(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	s := open(t, store, "products: [ { id: tshirt, stock: 9 } ]")
	k := s.follow("ann@example.com")
	for range 3 {
		k.outcome(s.buy("ann@example.com", 1).order(t).ID)
	}
	_, js := jet(t, s.nats)
	perSubject := func(n int64) func(*jetstream.StreamConfig) {
		return func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = n }
	}
	edit(t, js, "KV_stock", perSubject(2))
	waiting := s.buy("ann@example.com", 1).order(t)
	s.stuck("tshirt")
	edit(t, js, "KV_stock", perSubject(1_000_000_000))
	if o := k.outcome(waiting.ID); o.Status != "accepted" || o.Place != 4 {
		t.Errorf("the order that waited became %+v", o)
	}
	if o := k.outcome(s.buy("ann@example.com", 5).order(t).ID); o.Status != "accepted" || o.Place != 5 {
		t.Errorf("the order after it became %+v", o)
	}
	audited(t, s.nats).want(t, 1, "BROKEN P8", "the bucket lacks 2 of its revisions", "tshirt: the history is cut: it begins with link 3")
	s.stop()
	refusedStart(t, store).want(t, 1, "product tshirt: the history is cut: its first link is number 3")
	refusedStart(t, store, "FIRSTCOME_NATS_PROVISION=false").want(t, 1, "product tshirt: the history is cut")

	srv := serveStore(t, store)
	_, js = jet(t, srv.ClientURL())
	audited(t, srv.ClientURL()).want(t, 1, "the history is cut")
	edit(t, js, "KV_stock", func(c *jetstream.StreamConfig) { c.RePublish = nil })
	closeStore(t, srv)
	for _, provision := range []string{"true", "false"} {
		refusedStart(t, store, "FIRSTCOME_NATS_PROVISION="+provision).want(t, 1, "stream KV_stock exists with other settings: republish is ")
	}
}

// stuck waits until the operator's port says that the product cannot be decided.
func (s *shop) stuck(product string) {
	s.t.Helper()
	eventually(s.t, product+" is stuck", func() bool {
		return strings.Contains(string(s.get("http://"+s.ops+"/metrics").body), `firstcome_product_stuck{product="`+product+`"} 1`)
	})
}

// putBack replaces a stream's directory in a store that nobody has open by that of an
// older copy.
func putBack(t *testing.T, store, older, stream string) {
	t.Helper()
	dir := filepath.Join("jetstream", "$G", "streams", stream)
	if err := os.RemoveAll(filepath.Join(store, dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(store, dir), os.DirFS(filepath.Join(older, dir))); err != nil {
		t.Fatal(err)
	}
}

// Queue and history witness each other (P1, P3): a store of which one was put back from
// an older copy sells nothing. Log and audit say which side is behind, and how far.
func TestStoreThatIsBehindItself(t *testing.T) {
	t.Parallel()
	store, older := t.TempDir(), t.TempDir()
	s := open(t, store, "products: [ { id: tshirt, stock: 9 } ]")
	s.buy("ann@example.com", 1).order(t)
	s.sold(1)
	s.stop()
	s = open(t, store, "worker: { enabled: false }")
	for range 2 { // they wait in the queue of the older copy
		s.buy("ann@example.com", 1).order(t)
	}
	s.stop()
	if err := os.CopyFS(older, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	s = open(t, store)
	s.sold(3)
	for range 2 {
		s.buy("ann@example.com", 1).order(t)
	}
	s.sold(5)
	_, js := jet(t, s.nats)
	newest := fold(t, js, "tshirt").newest().revision
	s.stop()

	for name, c := range map[string]struct {
		stream string
		change func(dir string) error
		says   string
		audits string
		seq    uint64 // of the newest revision then
	}{
		"the queue": {"ORDERS", nil,
			"the queue is behind: it ends at message 3 and had confirmed message 5, 2 more: run firstcome repair",
			"the queue is behind: it ends at message 3 and had confirmed message 5, 2 more", newest},
		"the queue, without a mark": {"ORDERS", func(dir string) error { return os.Remove(filepath.Join(dir, "queue.mark")) },
			"the queue is behind: it ends at message 3 and the history has settled message 5, 2 more: run firstcome repair",
			"the queue is behind: it ends at message 3 and the history has settled message 5, 2 more", newest},
		"the history": {"KV_stock", nil,
			"the history is behind: it ends at message 1 and message 5 was settled, 4 more: run firstcome repair",
			"the history is behind: it ends at message 1 and message 5 was settled, 4 more", newest - 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(store)); err != nil {
				t.Fatal(err)
			}
			putBack(t, dir, older, c.stream)
			if c.change != nil {
				if err := c.change(dir); err != nil {
					t.Fatal(err)
				}
			}
			s := open(t, dir)
			s.stuck("tshirt")
			s.await(`level=WARN msg="the queue cannot be read" product=tshirt .*` + c.says)
			finish(t, with(command(t, "audit", "--nats", s.nats), "FIRSTCOME_NATS_EMBEDDED_STORE_DIR="+dir)).want(t, 1, "BROKEN P3", c.audits)
			_, js := jet(t, s.nats)
			if n := lastSeq(t, js, "KV_stock"); n != c.seq {
				t.Errorf("the history went from revision %d to %d", c.seq, n)
			}
			s.stop()
		})
	}
}

// The mark remembers what no history has seen yet: orders with a 202 that waited in a
// queue whose end is lost (P3).
func TestQueueThatLostItsEnd(t *testing.T) {
	t.Parallel()
	store, older := t.TempDir(), t.TempDir()
	const serveOnly = "worker: { enabled: false }"
	s := open(t, store, serveOnly)
	s.buy("ann@example.com", 1).order(t)
	s.stop()
	if err := os.CopyFS(older, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	s = open(t, store, serveOnly)
	for range 2 {
		s.buy("ann@example.com", 1).order(t)
	}
	s.stop()
	putBack(t, store, older, "ORDERS")

	s = open(t, store)
	s.stuck("tshirt")
	s.await(`the queue is behind: it ends at message 1 and had confirmed message 3, 2 more: run firstcome repair`)
	finish(t, with(command(t, "audit", "--nats", s.nats), "FIRSTCOME_NATS_EMBEDDED_STORE_DIR="+store)).want(t, 1,
		"BROKEN P3", "it ends at message 1 and had confirmed message 3, 2 more")
	_, js := jet(t, s.nats)
	if n := lastSeq(t, js, "KV_stock"); n != 1 {
		t.Errorf("revision %d is there, and nothing may be decided", n)
	}
	s.stop()
}
