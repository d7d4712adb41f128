package sale

import (
	"fmt"
	"runtime"
	"testing"
)

// benchGroup is a group as the intake writes it under load: 500 orders of as many
// buyers, from order n on.
func benchGroup(n int) *Message {
	m := &Message{Product: "tshirt", Epoch: testEpoch, Seq: 1, StoredAt: testTime}
	for i := range 500 {
		o := Order{testID(n + i), Email(fmt.Sprintf("buyer%08d@example.com", n+i)), 1, testTime}
		m.Data = append(o.AppendLine(m.Data), '\n')
	}
	return m
}

// benchEntry is the entry of such a group, all accepted.
func benchEntry(n int, number uint64) *Entry {
	lines := benchGroup(n).Lines()
	outcomes := make([]Outcome, len(lines))
	for i := range outcomes {
		outcomes[i] = Accepted
	}
	decided := number * uint64(len(lines))
	return &Entry{Product: "tshirt", Head: Head{Epoch: testEpoch, Seq: number, N: number, Supplied: MaxUnits, Decided: decided, DecidedAt: testTime},
		Orders: entryOrders(lines, outcomes, decided)}
}

// perOrder reports a group's time by the order.
func perOrder(b *testing.B, orders int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(orders), "ns/order")
}

func BenchmarkDecide500(b *testing.B) {
	lines := benchGroup(0).Lines()
	book := NewBook(1 << 20)
	for n := range 200 { // a past of 100,000 orders
		if err := book.Apply(benchEntry(1_000_000+n*500, uint64(n+1))); err != nil {
			b.Fatal(err)
		}
	}
	for _, limit := range []int64{0, 2} {
		b.Run(fmt.Sprintf("limit=%d", limit), func(b *testing.B) {
			stock, err := NewStock("tshirt", MaxUnits, limit)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				Decide(stock, book, lines)
			}
			perOrder(b, len(lines))
		})
	}
}

func BenchmarkLines500(b *testing.B) {
	m := benchGroup(0)
	b.SetBytes(int64(len(m.Data)))
	b.ReportAllocs()
	for b.Loop() {
		m.Lines()
	}
	perOrder(b, 500)
}

func BenchmarkEntryEncode500(b *testing.B) {
	e := benchEntry(0, 1)
	b.SetBytes(int64(len(e.Encode())))
	b.ReportAllocs()
	for b.Loop() {
		e.Encode()
	}
	perOrder(b, 500)
}

func BenchmarkDecodeEntry500(b *testing.B) {
	data := benchEntry(0, 1).Encode()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeEntry(data); err != nil {
			b.Fatal(err)
		}
	}
	perOrder(b, 500)
}

func BenchmarkAudit500(b *testing.B) {
	data := benchEntry(0, 1).Encode()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		NewAudit("tshirt", nil).Entry(1, data)
	}
	perOrder(b, 500)
}

// BenchmarkBookApply fills a book with a million orders of as many buyers, as an
// instance does at its start, and tells what each costs in time and memory.
func BenchmarkBookApply(b *testing.B) {
	const orders = 1_000_000
	var bytes float64
	for range b.N {
		before := heap()
		book := NewBook(orders)
		for n := range orders / 500 {
			b.StopTimer()
			e := benchEntry(n*500, uint64(n+1))
			b.StartTimer()
			if err := book.Apply(e); err != nil {
				b.Fatal(err)
			}
		}
		b.StopTimer()
		bytes = float64(heap()-before) / orders
		b.StartTimer()
		runtime.KeepAlive(book)
	}
	nanos := float64(b.Elapsed().Nanoseconds()) / float64(b.N) / orders
	b.ReportMetric(nanos, "ns/order")
	b.ReportMetric(bytes, "B/order")
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
