package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/natsd"
)

// Six hundred buyers want fifty units, all at once. P1 to P8 are compared from
// every side there is: answer, socket, GET, history, audit.
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
	compareHistory(t, s, taken)
	s.auditGreen()
	s.stop()

	t.Run("audit of the untouched store", func(t *testing.T) {
		audited(t, copyOf(t, store).ClientURL()).want(t, 0, "ok: ")
	})
	t.Run("audit with a value put by hand", func(t *testing.T) {
		srv := copyOf(t, store)
		_, js := jet(t, srv.ClientURL())
		kv, value := stockValue(t, js)
		more := bytes.Replace(value.Value(), []byte(`"supplied":50`), []byte(`"supplied":51`), 1)
		if _, err := kv.Put(bounded(t), "tshirt", more); err != nil {
			t.Fatal(err)
		}
		note := fmt.Sprintf("note: revision %d is no link and was passed over", value.Revision()+1)
		audited(t, srv.ClientURL()).want(t, 0, "0 of 50 units left", note, "ok: ")
	})
	t.Run("audit with one unit too many", func(t *testing.T) {
		srv := copyOf(t, store)
		_, js := jet(t, srv.ClientURL())
		h := fold(t, js, "tshirt")
		h.forge(t, js, func(next map[string]any) { next["available"], next["supplied"] = 1, units+1 })
		audited(t, srv.ClientURL()).want(t, 1, "BROKEN P1 broken for tshirt")
	})
	t.Run("audit with one order given to a thief", func(t *testing.T) {
		srv := copyOf(t, store)
		rewrite(t, srv)
		audited(t, srv.ClientURL()).want(t, 1, "BROKEN P8 broken for tshirt")
	})
}

// forge appends a next link that nobody has decided: it settles the next message with
// nothing in it, and says what change makes of the figures.
func (h history) forge(t *testing.T, js jetstream.JetStream, change func(next map[string]any)) {
	t.Helper()
	newest := h.newest()
	var next map[string]any
	if err := json.Unmarshal(newest.value, &next); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(newest.value)
	next["n"], next["prev"], next["orders"] = newest.N+1, hex.EncodeToString(sum[:]), []any{}
	next["queue"] = map[string]any{"epoch": newest.Queue.Epoch, "seq": newest.Queue.Seq + 1}
	change(next)
	value, err := json.Marshal(next)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(bounded(t), "$KV.stock.tshirt", value, jetstream.WithExpectLastSequencePerSubject(newest.revision)); err != nil {
		t.Fatal(err)
	}
}

// rewrite gives the first order to another buyer. The bucket refuses to delete or
// purge, so it is made anew, which takes an owner.
func rewrite(t *testing.T, srv *natsd.Server) {
	t.Helper()
	ctx := bounded(t)
	_, js := jet(t, srv.ClientURL())
	values := stored(t, js, "KV_stock")
	stream, err := js.Stream(ctx, "KV_stock")
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteStream(ctx, "KV_stock"); err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(ctx, stream.CachedInfo().Config); err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		data := v.Data
		if i == 1 {
			data = bytes.Replace(data, []byte(`"buyer":"buyer`), []byte(`"buyer":"thief`), 1)
			if bytes.Equal(data, v.Data) {
				t.Fatalf("nothing to alter in %s", data)
			}
		}
		if _, err := js.Publish(ctx, v.Subject, data, jetstream.WithExpectStream("KV_stock")); err != nil {
			t.Fatal(err)
		}
	}
}
