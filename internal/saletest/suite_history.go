package saletest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"firstcome/internal/sale"
)

// callTimeout bounds every call of the suites, for a busy three-node cluster too.
const callTimeout = 15 * time.Second

// HistoryRig is a history under test.
type HistoryRig struct {
	// Open gives a client of the history; several are used at once.
	Open func(testing.TB) sale.History
	// Products are two products without any revision.
	Products [2]sale.ProductID
	// Delete marks the product's key as deleted, by hand; nil if the rig cannot.
	Delete func(testing.TB, sale.ProductID)
}

// TestHistory holds an implementation to the contract of sale.History. open makes
// a history that knows nothing of its two products.
func TestHistory(t *testing.T, open func(t *testing.T) HistoryRig) {
	rig := open(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, HistoryRig)
	}{ // in this order: the first two need products without any revision
		{"nothing there", testNothingThere},
		{"the first revision comes after 0", testFirstRevision},
		{"a stale append changes nothing", testStaleAppend},
		{"a sequence is of one product", testOneProduct},
		{"one of many wins", testOneWins},
		{"revisions come back in order, as they were stored", testInOrder},
		{"the largest revision", testLargest},
		{"a deletion is a revision", testDeletion},
		{"an ended context", testEnded},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, rig) })
	}
}

func testNothingThere(t *testing.T, rig HistoryRig) {
	h := rig.Open(t)
	for _, p := range rig.Products {
		for _, after := range []sale.Seq{0, 1, 1 << 40} {
			wantNone(t, h, p, after)
		}
		_, err := h.Append(within(t), p, 1<<40, []byte("after a revision that never was"))
		wantErr(t, err, sale.ErrConflict)
		wantNone(t, h, p, 0)
	}
}

func testFirstRevision(t *testing.T, rig HistoryRig) {
	h, other := rig.Open(t), rig.Open(t)
	last := sale.Seq(0)
	for _, p := range rig.Products {
		value := []byte("first of " + string(p))
		seq := grow(t, h, p, 0, value)
		if seq <= last {
			t.Errorf("revision %d comes after revision %d of the other product", seq, last)
		}
		value[0] = 'x' // the caller's bytes are the caller's
		wantNext(t, other, p, 0, seq, "first of "+string(p))
		wantNone(t, other, p, seq)
		_, err := other.Append(within(t), p, 0, []byte("another first"))
		wantErr(t, err, sale.ErrConflict)
		wantNone(t, h, p, seq)
		last = seq
	}
}

func testStaleAppend(t *testing.T, rig HistoryRig) {
	p := rig.Products[0]
	h, other := rig.Open(t), rig.Open(t)
	old := newest(t, h, p)
	second := grow(t, h, p, old, []byte("second"))
	third := grow(t, other, p, second, []byte("third"))
	for _, after := range []sale.Seq{0, old, second, third + 1, 1 << 40} {
		// The bytes that are there already are no exception: they are not this caller's.
		for _, value := range []string{"third", "fourth"} {
			for _, h := range []sale.History{h, other} {
				_, err := h.Append(within(t), p, after, []byte(value))
				wantErr(t, err, sale.ErrConflict)
			}
		}
	}
	wantNext(t, h, p, old, second, "second")
	wantNext(t, h, p, second, third, "third")
	wantNone(t, h, p, third)
}

func testOneProduct(t *testing.T, rig HistoryRig) {
	h := rig.Open(t)
	shirt, mug := rig.Products[0], rig.Products[1]
	of := map[sale.ProductID]sale.Seq{shirt: newest(t, h, shirt), mug: newest(t, h, mug)}
	for i := range 6 {
		p, other := shirt, mug
		if i%2 == 1 {
			p, other = mug, shirt
		}
		_, err := h.Append(within(t), p, of[other], []byte("after the other product's newest"))
		wantErr(t, err, sale.ErrConflict)
		seq := grow(t, h, p, of[p], fmt.Appendf(nil, "revision %d", i))
		if seq <= of[p] || seq <= of[other] {
			t.Errorf("revision %d comes after revision %d, and %d of the other product", seq, of[p], of[other])
		}
		// It stands between the other product's revisions, and is none of them.
		wantNext(t, h, p, max(of[p], of[other]), seq, fmt.Sprintf("revision %d", i))
		wantNone(t, h, other, of[other])
		of[p] = seq
	}
}

// testOneWins lets several clients append after the same revision, round after round.
func testOneWins(t *testing.T, rig HistoryRig) {
	const clients, rounds = 4, 8
	p := rig.Products[1]
	var hs [clients]sale.History
	for c := range hs {
		hs[c] = rig.Open(t)
	}
	last := newest(t, hs[0], p)
	for round := range rounds {
		var seqs [clients]sale.Seq
		var errs [clients]error
		var wg sync.WaitGroup
		for c := range clients {
			wg.Go(func() {
				seqs[c], errs[c] = hs[c].Append(within(t), p, last, fmt.Appendf(nil, "round %d by %d", round, c))
			})
		}
		wg.Wait()
		winner := -1
		for c, err := range errs {
			switch {
			case err == nil && winner >= 0:
				t.Fatalf("round %d was won by %d and by %d", round, winner, c)
			case err == nil:
				winner = c
			default:
				wantErr(t, err, sale.ErrConflict)
			}
		}
		if winner < 0 {
			t.Fatalf("round %d was won by nobody: %v", round, errs)
		}
		wantNext(t, hs[round%clients], p, last, seqs[winner], fmt.Sprintf("round %d by %d", round, winner))
		last = seqs[winner]
		wantNone(t, hs[0], p, last)
	}
}

func testInOrder(t *testing.T, rig HistoryRig) {
	shirt, mug := rig.Products[0], rig.Products[1]
	h, other := rig.Open(t), rig.Open(t)
	begin, mugs := newest(t, h, shirt), newest(t, h, mug)
	values := []string{"{}", " \x00\xff\r\n\n", `{"product":"` + string(mug) + `"}`, strings.Repeat("long ", 1000), "{}"}
	var seqs []sale.Seq
	last := begin
	for i, value := range values {
		mugs = grow(t, h, mug, mugs, fmt.Appendf(nil, "between %d", i))
		last = grow(t, h, shirt, last, []byte(value))
		seqs = append(seqs, last)
	}
	for from := range values {
		after := begin
		if from > 0 {
			after = seqs[from-1]
		}
		for i := from; i < len(values); i++ {
			wantNext(t, other, shirt, after, seqs[i], values[i])
			wantNext(t, other, shirt, seqs[i]-1, seqs[i], values[i]) // which is the other product's
			after = seqs[i]
		}
		wantNone(t, other, shirt, after)
	}
}

// testLargest stores the link of a message of as many lines as one may have, and then
// as much as fits into a message of NATS' default beside its headers.
func testLargest(t *testing.T, rig HistoryRig) {
	p := rig.Products[0]
	h := rig.Open(t)
	link := &sale.Link{N: 1 << 60, Prev: sale.HashOf(nil), At: time.Date(2026, 3, 1, 9, 0, 0, 123456000, time.UTC), By: "suite",
		Stock: sale.Stock{Product: p}, Queue: sale.Position{Epoch: "2026-03-01T08:00:00.000000001Z", Seq: 1 << 60}, Change: sale.OrdersTaken}
	order := sale.DecidedOrder{Outcome: sale.LimitReached, Place: 1 << 60, Order: sale.Order{ID: sale.KeyedID("a=*@b.c", p, "largest"),
		Email:    sale.Email(strings.Repeat("*", 64) + "@" + strings.Repeat("a.", 93) + "com"),
		Quantity: sale.MaxQuantity, PlacedAt: link.At}}
	for range sale.MaxLines {
		link.Orders = append(link.Orders, order)
	}
	last := newest(t, h, p)
	for _, value := range [][]byte{link.Encode(), bytes.Repeat([]byte("0123456789abcdef"), (1<<20-4<<10)/16)} {
		seq := grow(t, h, p, last, value)
		wantNext(t, rig.Open(t), p, last, seq, string(value))
		last = seq
	}
}

func testDeletion(t *testing.T, rig HistoryRig) {
	if rig.Delete == nil {
		t.Skip("this rig cannot delete by hand")
	}
	p := rig.Products[0]
	h := rig.Open(t)
	last := grow(t, h, p, newest(t, h, p), []byte("the value"))
	rig.Delete(t, p)
	seq, value, err := h.Next(within(t), p, last)
	if err != nil || seq <= last || len(value) > 0 {
		t.Fatalf("after revision %d comes %d, %.80q, %v; want an empty one", last, seq, value, err)
	}
	for _, after := range []sale.Seq{0, last} {
		_, err = h.Append(within(t), p, after, []byte("as if it were not there"))
		wantErr(t, err, sale.ErrConflict)
	}
	next := grow(t, h, p, seq, []byte("the next"))
	wantNext(t, h, p, last-1, last, "the value")
	wantNext(t, h, p, seq, next, "the next")
}

func testEnded(t *testing.T, rig HistoryRig) {
	p := rig.Products[0]
	h := rig.Open(t)
	last := newest(t, h, p)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if seq, _, err := h.Next(ctx, p, 0); err == nil || errors.Is(err, sale.ErrNotFound) {
		t.Errorf("Next gave revision %d, %v", seq, err)
	}
	// Whether it was stored is open; that nobody else was first is not.
	if seq, err := h.Append(ctx, p, last, []byte("too late")); err == nil || errors.Is(err, sale.ErrConflict) {
		t.Errorf("Append gave revision %d, %v", seq, err)
	}
}

// grow appends a revision that must find its place.
func grow(t *testing.T, h sale.History, p sale.ProductID, after sale.Seq, value []byte) sale.Seq {
	t.Helper()
	seq, err := h.Append(within(t), p, after, value)
	if err != nil {
		t.Fatalf("append %d bytes to %s after revision %d: %v", len(value), p, after, err)
	}
	return seq
}

// newest is the product's newest revision.
func newest(t *testing.T, h sale.History, p sale.ProductID) (last sale.Seq) {
	t.Helper()
	for {
		switch seq, _, err := h.Next(within(t), p, last); {
		case errors.Is(err, sale.ErrNotFound):
			return last
		case err != nil || seq <= last:
			t.Fatalf("after revision %d of %s comes %d: %v", last, p, seq, err)
		default:
			last = seq
		}
	}
}

func wantNext(t *testing.T, h sale.History, p sale.ProductID, after, want sale.Seq, value string) {
	t.Helper()
	if seq, got, err := h.Next(within(t), p, after); err != nil || seq != want || string(got) != value {
		t.Errorf("after revision %d of %s comes %d, %.80q of %d bytes, %v; want %d, %.80q", after, p, seq, got, len(got), err, want, value)
	}
}

func wantNone(t *testing.T, h sale.History, p sale.ProductID, after sale.Seq) {
	t.Helper()
	if seq, got, err := h.Next(within(t), p, after); !errors.Is(err, sale.ErrNotFound) {
		t.Errorf("after revision %d of %s comes %d, %.80q, %v; want none", after, p, seq, got, err)
	}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	t.Cleanup(cancel)
	return ctx
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// pause waits before looking again at what no event tells of.
func pause(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}
