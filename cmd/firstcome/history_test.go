package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// storedLink is a link of a product's history, read as any other program would.
type storedLink struct {
	V                               int
	Product                         string
	N                               uint64
	Prev, By                        string
	Available, Held, Sold, Supplied int64
	Decided                         uint64
	Queue                           struct {
		Epoch string
		Seq   uint64
	}
	Change string
	Orders []struct {
		ID, Buyer, Outcome string
		Quantity           int64
		Place              uint64
	}
	Desk []struct {
		ID, Do, By, Why, Refused string
		Units, Available         *int64
		Paused                   *bool
	}

	revision uint64
	value    []byte
}

// history is what the bucket's values say of a product.
type history struct {
	links   []storedLink
	foreign []uint64 // revisions that are no links
}

func (h history) newest() *storedLink { return &h.links[len(h.links)-1] }

// desk is what became of the desk line with that id, each time that it was decided: ""
// if it was not refused.
func (h history) desk(id string) (refusals []string) {
	for _, link := range h.links {
		for _, d := range link.Desk {
			if d.ID == id {
				refusals = append(refusals, d.Refused)
			}
		}
	}
	return refusals
}

// fold reads a product's history, and recomputes every figure from the orders and desk
// lines alone (P8).
func fold(t testing.TB, js jetstream.JetStream, product string) (h history) {
	t.Helper()
	prev := ""
	var is storedLink // as recomputed
	for _, msg := range stored(t, js, "KV_stock") {
		if msg.Subject != "$KV.stock."+product {
			continue
		}
		next := storedLink{revision: msg.Sequence, value: msg.Data}
		if json.Unmarshal(msg.Data, &next) != nil || next.V != 2 || next.Product != product || next.N != is.N+1 || next.Prev != prev {
			h.foreign = append(h.foreign, msg.Sequence)
			continue
		}
		if bytes.ContainsRune(msg.Data, '@') {
			t.Errorf("a link holds an address: %s", msg.Data)
		}
		if next.Queue.Epoch == is.Queue.Epoch && next.Queue.Seq <= is.Queue.Seq {
			t.Errorf("link %d settles message %d after message %d", next.N, next.Queue.Seq, is.Queue.Seq)
		}
		if next.N == 1 {
			is.Available, is.Supplied = next.Supplied, next.Supplied
		}
		is.add(t, &next)
		if next.Available != is.Available || next.Held != 0 || next.Sold != is.Sold || next.Supplied != is.Supplied || next.Decided != is.Decided {
			t.Errorf("revision %d says %s, recomputed are %d available, %d sold, %d supplied and %d decided",
				next.revision, next.value, is.Available, is.Sold, is.Supplied, is.Decided)
		}
		sum := sha256.Sum256(msg.Data)
		prev = hex.EncodeToString(sum[:])
		is.N, is.Queue = next.N, next.Queue
		h.links = append(h.links, next)
	}
	if len(h.links) == 0 {
		t.Fatalf("%s has no history", product)
	}
	return h
}

// add counts what the next link's lines came to.
func (l *storedLink) add(t testing.TB, next *storedLink) {
	t.Helper()
	for _, o := range next.Orders {
		if o.Outcome == "duplicate" {
			continue
		}
		if l.Decided++; o.Place != l.Decided {
			t.Errorf("order %s in link %d has place %d, want %d", o.ID, next.N, o.Place, l.Decided)
		}
		if o.Outcome == "accepted" {
			l.Available -= o.Quantity
			l.Sold += o.Quantity
		}
	}
	for _, d := range next.Desk {
		var more int64
		switch {
		case d.Refused != "":
		case d.Units != nil:
			more = *d.Units
		case d.Available != nil:
			more = *d.Available - l.Available
		}
		l.Available += more
		l.Supplied += more
	}
}

// compareHistory checks that the history of tshirt holds exactly these orders, as GET
// and the sockets have told them (P6), and agrees with the figures that the shop shows.
func compareHistory(t *testing.T, s *shop, taken map[string]status) history {
	t.Helper()
	_, js := jet(t, s.nats)
	h := fold(t, js, "tshirt")
	if len(h.foreign) > 0 {
		t.Errorf("revisions %v are no links", h.foreign)
	}
	n := 0
	for _, link := range h.links {
		for _, o := range link.Orders {
			if _, known := taken[o.ID]; known && o.Outcome == "duplicate" && o.Place == 0 {
				continue // stored twice, and decided once
			}
			n++
			if is := taken[o.ID]; is.Status != o.Outcome || is.Place != o.Place || int64(is.Quantity) != o.Quantity {
				t.Errorf("the history has %+v, the buyer was told %+v", o, is)
			}
		}
	}
	if n != len(taken) {
		t.Errorf("the history holds %d orders, %d were answered with 202", n, len(taken))
	}
	if p, is := s.product("tshirt"), h.newest(); p.Sold != is.Sold || p.Supplied != is.Supplied || p.Available != is.Available {
		t.Errorf("the shop shows %+v, the history ends with %s", p, is.value)
	}
	return h
}
