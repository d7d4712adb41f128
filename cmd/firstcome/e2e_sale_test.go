package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/natsd"
)

// Six hundred buyers want fifty units, all at once. P1 to P8 are compared from
// every side there is: answer, socket, GET, ledger, audit.
func TestSixHundredWantFifty(t *testing.T) {
	t.Parallel()
	const buyers, units = 600, 50
	store := t.TempDir()
	s := open(t, store, fmt.Sprintf("products: [ { id: tshirt, stock: %d } ]", units))
	tabs := make([]*tab, buyers)
	for i := range tabs {
		tabs[i] = s.follow(fmt.Sprintf("buyer%d@example.com", i))
	}

	answers := make([]answer, buyers)
	errs := make([]error, buyers)
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range tabs {
		all.Go(func() {
			<-start
			answers[i], errs[i] = s.tryBuy(tabs[i].email, 1)
		})
	}
	close(start)
	all.Wait()

	taken := map[string]status{} // by id, as GET says in the end
	accepted := 0
	var places []uint64
	for i, a := range answers {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		if a.code == http.StatusConflict {
			a.problem(t, http.StatusConflict)
			continue
		}
		o := a.order(t)
		told := tabs[i].outcome(o.ID)
		now := s.look(o)
		if told != now {
			t.Errorf("the socket said %+v, GET says %+v", told, now)
		}
		if now.Status == "accepted" {
			accepted++
		}
		taken[o.ID] = now
		places = append(places, now.Place)
	}
	if accepted != units {
		t.Errorf("%d orders accepted, want %d", accepted, units)
	}
	slices.Sort(places)
	for i, place := range places {
		if place != uint64(i+1) {
			t.Fatalf("places are not 1 to %d: %v", len(places), places)
		}
	}
	for _, k := range tabs {
		finals := 0
		for _, o := range k.history("") {
			if o.Status != "pending" {
				finals++
			}
		}
		if finals > 1 {
			t.Errorf("%s was told %d outcomes of one order: %+v", k.email, finals, k.history(""))
		}
		k.close()
	}
	compareLedger(t, s, taken)
	s.auditGreen()
	s.stop()

	t.Run("audit of the untouched store", func(t *testing.T) {
		audit(t, copyOf(t, store).ClientURL()).want(t, 0, "ok: ")
	})
	t.Run("audit with one unit too many", func(t *testing.T) {
		srv := copyOf(t, store)
		addUnit(t, srv)
		audit(t, srv.ClientURL()).want(t, 1, "BROKEN P1 broken for tshirt")
	})
	t.Run("audit with one entry altered", func(t *testing.T) {
		srv := copyOf(t, store)
		alterEntry(t, srv)
		audit(t, srv.ClientURL()).want(t, 1, "BROKEN P8 broken for tshirt")
	})
}

// compareLedger checks that the ledger holds exactly these orders, as GET and the
// sockets have told them (P6).
func compareLedger(t *testing.T, s *shop, taken map[string]status) {
	t.Helper()
	_, js := jet(t, s.nats)
	n := 0
	for _, e := range ledger(t, js) {
		for _, o := range e.Orders {
			if _, known := taken[o.ID]; known && o.Outcome == "duplicate" && o.Place == 0 {
				continue // stored twice, and decided once
			}
			n++
			if is := taken[o.ID]; is.Status != o.Outcome || is.Place != o.Place || is.Quantity != o.Quantity {
				t.Errorf("the ledger has %+v, the buyer was told %+v", o, is)
			}
		}
	}
	if n != len(taken) {
		t.Errorf("the ledger holds %d orders, %d were answered with 202", n, len(taken))
	}
}

// copyOf serves a copy of a store that nobody has open.
func copyOf(t *testing.T, store string) *natsd.Server {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	srv, err := natsd.Start(bounded(t), natsd.Config{Listen: "127.0.0.1:0", StoreDir: dir,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := srv.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return srv
}

// addUnit puts one unit into the stock value that nobody has supplied.
func addUnit(t *testing.T, srv *natsd.Server) {
	t.Helper()
	_, js := jet(t, srv.ClientURL())
	kv, value := stockValue(t, js)
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(value.Value(), &fields); err != nil {
		t.Fatal(err)
	}
	var available int64
	if err := json.Unmarshal(fields["available"], &available); err != nil {
		t.Fatal(err)
	}
	fields["available"] = fmt.Appendf(nil, "%d", available+1)
	changed, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Update(bounded(t), "tshirt", changed, value.Revision()); err != nil {
		t.Fatal(err)
	}
}

// alterEntry gives one order of the first entry to another buyer. The stream
// refuses to delete or purge, so it is made anew, which takes an admin.
func alterEntry(t *testing.T, srv *natsd.Server) {
	t.Helper()
	ctx := bounded(t)
	_, js := jet(t, srv.ClientURL())
	entries := stored(t, js, "LEDGER")
	stream, err := js.Stream(ctx, "LEDGER")
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(ctx, "LEDGER"); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(ctx, stream.CachedInfo().Config); err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		data := e.Data
		if i == 0 {
			data = bytes.Replace(data, []byte(`"buyer":"buyer`), []byte(`"buyer":"thief`), 1)
			if bytes.Equal(data, e.Data) {
				t.Fatalf("nothing to alter in %s", data)
			}
		}
		if _, err := js.Publish(ctx, e.Subject, data, jetstream.WithExpectStream("LEDGER")); err != nil {
			t.Fatal(err)
		}
	}
}
