package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// What an audit reads is what the streams hold: of the queue its epoch, its sequences
// and what each product has settled, and of the bucket every revision.
func TestAuditReadsEverything(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		c := w.sell(t, 9, "shirt", "mug", "cap")
		w.decided(t, 4)
		js := w.admin(t)
		waits := []uint64{publish(t, js, "mug", []byte("waits")), publishTo(t, js, "desk.mug", []byte("waits, too"))}
		if err := js.DeleteConsumer(within(t), "ORDERS", "cap"); err != nil {
			t.Fatal(err)
		}
		q, err := broker.ReadQueueState(within(t), c)
		if err != nil {
			t.Fatal(err)
		}
		if q.Epoch != w.epoch(t) || q.First != 1 || q.Last != waits[1] || q.Acked["shirt"] != 4 || q.Acked["mug"] != 0 || q.Acked["cap"] != 0 {
			t.Errorf("the queue's state is %+v", q)
		}
		var queue []string
		if err := broker.ReadQueue(within(t), c, q.Last, func(p sale.ProductID, seq uint64) { queue = append(queue, fmt.Sprintf("%s %d", p, seq)) }); err != nil {
			t.Fatal(err)
		}
		if want := []string{fmt.Sprintf("mug %d", waits[0]), fmt.Sprintf("mug %d", waits[1])}; !slices.Equal(queue, want) {
			t.Errorf("the queue holds %v, want %v", queue, want)
		}

		put(t, w.bucket(t), "shirt", []byte("garbage"))
		put(t, w.bucket(t), "not.a.product", []byte("garbage"))
		var values []string
		var done, total uint64
		missing, err := broker.ReadHistory(within(t), c, func(p sale.ProductID, seq sale.Seq, value []byte) {
			values = append(values, fmt.Sprintf("%s %d %s", p, seq, value))
		}, func(d, of uint64) { done, total = d, of })
		if err != nil || missing != 0 || done != 9 || total != 9 {
			t.Errorf("%d of %d were read, and %d are missing: %v", done, total, missing, err)
		}
		var want []string
		for _, m := range w.read(t, "KV_stock")[:8] {
			want = append(want, fmt.Sprintf("%s %d %s", strings.TrimPrefix(m.Subject, "$KV.stock."), m.Seq, m.Data))
		}
		if !slices.Equal(values, want) {
			t.Errorf("the history is %q, want %q", values, want)
		}
	})
}

// A history that lacks revisions says how many, wherever they were.
func TestAuditMissesRevisions(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 9, "shirt", "mug")
	for seq := range uint64(6) {
		appendLink(t, c, "shirt", sale.Position{Epoch: w.epoch(t), Seq: seq + 1})
	}
	careless := w.config(t, "KV_stock")
	careless.DenyDelete = false
	remake(t, w, careless)
	stream, err := w.admin(t).Stream(within(t), "KV_stock")
	if err != nil {
		t.Fatal(err)
	}
	for i, seq := range []uint64{1, 4, 8} {
		if err := stream.DeleteMsg(within(t), seq); err != nil {
			t.Fatal(err)
		}
		read := 0
		missing, err := broker.ReadHistory(within(t), c, func(sale.ProductID, sale.Seq, []byte) { read++ }, func(uint64, uint64) {})
		if err != nil || missing != uint64(i+1) || read != 8-i-1 {
			t.Errorf("%d were read, and %d are missing: %v", read, missing, err)
		}
	}
}

// After a repair the epoch begins where the one before has ended.
func TestAuditKnowsWhereAnEpochBegins(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 9, "shirt")
	w.decided(t, 3)
	config := w.config(t, "ORDERS")
	config.Metadata["firstcome_epoch"], config.Metadata["firstcome_first"] = broker.NewEpoch(), "4"
	if _, err := w.admin(t).UpdateStream(within(t), config); err != nil {
		t.Fatal(err)
	}
	if q, err := broker.ReadQueueState(within(t), c); err != nil || q.First != 4 || q.Epoch != config.Metadata["firstcome_epoch"] {
		t.Errorf("the queue's state is %+v, %v", q, err)
	}
	if err := broker.Provision(within(t), c, w.layout(9, "shirt", "mug")); err != nil {
		t.Error(err)
	}
	if q, err := broker.ReadQueueState(within(t), c); err != nil || q.First != 4 || q.Epoch != config.Metadata["firstcome_epoch"] {
		t.Errorf("with another product the queue's state is %+v, %v", q, err)
	}
}

func TestAuditNeedsTheStreams(t *testing.T) {
	w := on(t, one)
	c := w.connect(t)
	read := func() error {
		if _, err := broker.ReadQueueState(within(t), c); err != nil {
			return err
		}
		_, err := broker.ReadHistory(within(t), c, func(sale.ProductID, sale.Seq, []byte) {}, func(uint64, uint64) {})
		return err
	}
	for stream, name := range map[string]string{"ORDERS": "ORDERS", "KV_stock": "stock"} {
		w.sell(t, 4, "shirt")
		if err := read(); err != nil {
			t.Error(err)
		}
		if err := w.admin(t).DeleteStream(within(t), stream); err != nil {
			t.Fatal(err)
		}
		if err := read(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", stream, err)
		}
	}
}
