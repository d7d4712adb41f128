package saletest

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"testing"

	"firstcome/internal/sale"
)

// DeadLettersRig is a store of dead letters under test.
type DeadLettersRig struct {
	// Open gives a client of the store; several are used.
	Open func(testing.TB) sale.DeadLetters
	// Letters reads what is stored, in order.
	Letters func(testing.TB) []sale.DeadLetter
	// Product is one whose letters the store takes.
	Product sale.ProductID
}

// TestDeadLetters holds an implementation to the contract of sale.DeadLetters.
// open makes an empty store.
func TestDeadLetters(t *testing.T, open func(t *testing.T) DeadLettersRig) {
	rig := open(t)
	const epoch, later = "2026-03-01T08:00:00.000000001Z", "2026-03-02T08:00:00Z"
	letter := func(epoch string, seq uint64, line int, reason, raw string) sale.DeadLetter {
		return sale.DeadLetter{Product: rig.Product, Epoch: epoch, Seq: seq, Line: line, Reason: reason, Raw: []byte(raw)}
	}
	letters := []sale.DeadLetter{
		letter(epoch, 1, 1, "not a JSON object", "garbage"),
		letter(epoch, 1, 11, "email is missing", "{}"),
		letter(epoch, 11, 1, "email: not an email address: it is empty", "\x00\xff\r\n\n \"quoted\""),
		letter(epoch, 2, 1, "no line", ""),
		letter(later, 1, 1, "not a JSON object", "garbage"), // a recreated queue counts from 1 again
		letter(later, 2, 1, "more than 1000 lines", string(bytes.Repeat([]byte("x\n"), 500_000))),
	}
	for _, l := range letters {
		for range 2 { // again from another instance, and again after a crash
			for _, d := range []sale.DeadLetters{rig.Open(t), rig.Open(t)} {
				if err := d.Bury(within(t), l); err != nil {
					t.Fatalf("bury message %d line %d: %v", l.Seq, l.Line, err)
				}
			}
		}
	}
	got := rig.Letters(t)
	if len(got) != len(letters) {
		t.Fatalf("%d letters are stored, %d were buried", len(got), len(letters))
	}
	for i := range got {
		if len(got[i].Raw) == 0 {
			got[i].Raw = []byte{} // nil and empty are the same body
		}
		if !reflect.DeepEqual(got[i], letters[i]) {
			t.Errorf("letter %d is %.200s, buried was %.200s", i, fmt.Sprintf("%+v", got[i]), fmt.Sprintf("%+v", letters[i]))
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := rig.Open(t).Bury(ctx, letter(later, 9, 1, "no line", "")); err == nil {
		t.Error("bury with an ended context says that it is durable")
	}
}
