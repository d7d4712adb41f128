package saletest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"firstcome/internal/sale"
)

// QueueRig is a queue under test.
type QueueRig struct {
	// Open gives another holder of the product's queue, as another instance would
	// have one. Close ends it as an instance that dies would, or does nothing.
	Open func(t testing.TB, product sale.ProductID) (q sale.Queue, closeHolder func())
	// Publish stores a message of orders and returns its sequence, PublishDesk one of
	// desk lines.
	Publish, PublishDesk func(t testing.TB, product sale.ProductID, data []byte) uint64
	// Products are two products whose queues are empty.
	Products [2]sale.ProductID
	// AckWait is the time to redelivery of a message that nobody acknowledged, and
	// TakeOver the longest time until another holder is served after that.
	AckWait, TakeOver time.Duration
}

// TestQueue holds an implementation to the contract of sale.Queue. open makes
// empty queues, for every part of the suite anew.
func TestQueue(t *testing.T, open func(t *testing.T) QueueRig) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, QueueRig)
	}{
		{"messages come in sequence, as they were stored", testSequence},
		{"orders and desk stand in one line", testDesk},
		{"the next one comes only after an acknowledgement", testOneInHand},
		{"products do not mix", testApart},
		{"an ended wait loses nothing", testEndedWait},
		{"what is not acknowledged comes again, first", testRedelivery},
		{"progress puts the redelivery off", testProgress},
		{"an earlier holder's acknowledgement counts", testStaleAck},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func testSequence(t *testing.T, rig QueueRig) {
	p := rig.Products[0]
	q := holder(t, rig, p)
	began := time.Now()
	const messages = 20
	var last uint64
	var epoch string
	for i := range messages {
		seq := rig.Publish(t, p, fmt.Appendf(nil, "message %d\n\x00\xff", i))
		if seq <= last {
			t.Fatalf("sequence %d after %d", seq, last)
		}
		last = seq
	}
	for i := range messages {
		d := next(t, q)
		m := d.Message()
		if want := fmt.Sprintf("message %d\n\x00\xff", i); string(m.Data) != want || m.Product != p || m.Desk {
			t.Fatalf("%q of %s came, of the desk: %v; want %q", m.Data, m.Product, m.Desk, want)
		}
		if d.Redelivered() {
			t.Errorf("message %d says that it was delivered before", i)
		}
		if epoch == "" {
			epoch = m.Epoch
		}
		if created, err := time.Parse(time.RFC3339Nano, m.Epoch); err != nil || m.Epoch != epoch || created.Location() != time.UTC {
			t.Errorf("epoch %q of message %d, %q before: %v", m.Epoch, i, epoch, err)
		}
		if m.StoredAt.Before(began.Add(-time.Minute)) || m.StoredAt.After(time.Now().Add(time.Minute)) {
			t.Errorf("message %d was stored at %v", i, m.StoredAt)
		}
		if i == messages-1 && m.Seq != last {
			t.Errorf("the last message has sequence %d, publishing said %d", m.Seq, last)
		}
		ack(t, d)
	}
	wantNothing(t, rig, q)
}

func testDesk(t *testing.T, rig QueueRig) {
	p := rig.Products[0]
	q := holder(t, rig, p)
	kinds := []bool{false, true, true, false, true, false}
	var seqs []uint64
	for i, desk := range kinds {
		publish := rig.Publish
		if desk {
			publish = rig.PublishDesk
		}
		rig.PublishDesk(t, rig.Products[1], []byte("another product's desk"))
		seqs = append(seqs, publish(t, p, fmt.Appendf(nil, "message %d", i)))
	}
	for i, desk := range kinds {
		d := next(t, q)
		m := d.Message()
		wantSeq(t, d, seqs[i])
		if want := fmt.Sprintf("message %d", i); string(m.Data) != want || m.Product != p || m.Desk != desk {
			t.Errorf("%q of %s came, of the desk: %v; want %q, %v", m.Data, m.Product, m.Desk, want, desk)
		}
		ack(t, d)
	}
	wantNothing(t, rig, q)
}

func testOneInHand(t *testing.T, rig QueueRig) {
	p := rig.Products[0]
	q := holder(t, rig, p)
	first, second := rig.Publish(t, p, []byte("first")), rig.Publish(t, p, []byte("second"))
	d := next(t, q)
	wantSeq(t, d, first)
	wantNothing(t, rig, q)
	ack(t, d)
	d = next(t, q)
	wantSeq(t, d, second)
	ack(t, d)
}

func testApart(t *testing.T, rig QueueRig) {
	shirt, mug := holder(t, rig, rig.Products[0]), holder(t, rig, rig.Products[1])
	first := rig.Publish(t, rig.Products[0], []byte("shirt"))
	second := rig.Publish(t, rig.Products[1], []byte("mug"))
	third := rig.Publish(t, rig.Products[0], []byte("shirt"))
	if first >= second || second >= third {
		t.Errorf("sequences %d, %d, %d do not rise across products", first, second, third)
	}
	inHand := next(t, shirt)
	wantSeq(t, inHand, first)
	d := next(t, mug) // one product's message in hand holds no other up
	wantSeq(t, d, second)
	ack(t, d)
	ack(t, inHand)
	d = next(t, shirt)
	wantSeq(t, d, third)
	ack(t, d)
	wantNothing(t, rig, mug)
}

func testEndedWait(t *testing.T, rig QueueRig) {
	p := rig.Products[0]
	q := holder(t, rig, p)
	for i := range 3 {
		wantNothing(t, rig, q)
		seq := rig.Publish(t, p, fmt.Appendf(nil, "%d", i))
		d := next(t, q)
		wantSeq(t, d, seq)
		ack(t, d)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if d, err := q.Next(ctx); err == nil {
		t.Errorf("message %d with an ended context", d.Message().Seq)
	}
}

func testRedelivery(t *testing.T, rig QueueRig) {
	p := rig.Products[0]
	dying, closeIt := rig.Open(t, p)
	first, second := rig.Publish(t, p, []byte("first")), rig.Publish(t, p, []byte("second"))
	wantSeq(t, next(t, dying), first)
	closeIt()
	q := holder(t, rig, p)
	for range 2 { // and again, for ever
		d := nextWithin(t, q, rig.AckWait+rig.TakeOver)
		wantSeq(t, d, first)
		if !d.Redelivered() || string(d.Message().Data) != "first" {
			t.Errorf("message %q came again, redelivered: %v", d.Message().Data, d.Redelivered())
		}
	}
	d := nextWithin(t, q, rig.AckWait+rig.TakeOver)
	wantSeq(t, d, first)
	ack(t, d)
	d = next(t, q)
	wantSeq(t, d, second)
	ack(t, d)
}

func testProgress(t *testing.T, rig QueueRig) {
	p := rig.Products[0]
	q := holder(t, rig, p)
	first, second := rig.Publish(t, p, []byte("first")), rig.Publish(t, p, []byte("second"))
	d := next(t, q)
	wantSeq(t, d, first)
	ctx, cancel := context.WithTimeout(context.Background(), rig.AckWait*5/2)
	defer cancel()
	for ctx.Err() == nil {
		if err := d.InProgress(); err != nil {
			t.Fatalf("progress: %v", err)
		}
		wait, stop := context.WithTimeout(ctx, rig.AckWait/5)
		if again, err := q.Next(wait); err == nil {
			t.Errorf("message %d was delivered while in progress", again.Message().Seq)
		}
		stop()
	}
	ack(t, d)
	d = next(t, q)
	wantSeq(t, d, second)
	ack(t, d)
}

func testStaleAck(t *testing.T, rig QueueRig) {
	p := rig.Products[0]
	q := holder(t, rig, p)
	first, second := rig.Publish(t, p, []byte("first")), rig.Publish(t, p, []byte("second"))
	stale := next(t, q)
	wantSeq(t, stale, first)
	wantSeq(t, nextWithin(t, q, rig.AckWait+rig.TakeOver), first)
	ack(t, stale)
	d := next(t, q)
	wantSeq(t, d, second)
	ack(t, d)
	wantNothing(t, rig, q)
}

func holder(t *testing.T, rig QueueRig, product sale.ProductID) sale.Queue {
	q, closeIt := rig.Open(t, product)
	t.Cleanup(closeIt)
	return q
}

func next(t *testing.T, q sale.Queue) sale.Delivery {
	t.Helper()
	return nextWithin(t, q, callTimeout)
}

// nextWithin asks again after an error, as the worker does.
func nextWithin(t *testing.T, q sale.Queue, wait time.Duration) sale.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	for {
		d, err := q.Next(ctx)
		if err == nil {
			return d
		}
		if ctx.Err() != nil {
			t.Fatalf("nothing came in %v: %v", wait, err)
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// wantNothing listens for a part of the time to redelivery.
func wantNothing(t *testing.T, rig QueueRig, q sale.Queue) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), rig.AckWait/4)
	defer cancel()
	if d, err := q.Next(ctx); err == nil {
		t.Errorf("message %d came, redelivered: %v; want none", d.Message().Seq, d.Redelivered())
	}
}

func wantSeq(t *testing.T, d sale.Delivery, want uint64) {
	t.Helper()
	if got := d.Message().Seq; got != want {
		t.Fatalf("message %d came, want %d", got, want)
	}
}

func ack(t *testing.T, d sale.Delivery) {
	t.Helper()
	if err := d.Ack(); err != nil {
		t.Fatalf("acknowledge message %d: %v", d.Message().Seq, err)
	}
}
