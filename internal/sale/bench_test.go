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

// benchHead is the head of a product with all that there can be.
func benchHead() Head {
	return Head{Stock: newStock(MaxUnits, 0), N: 1, Hash: HashOf(nil), Queue: Position{Epoch: testEpoch}}
}

// benchLink is the link after h of such a group, all accepted.
func benchLink(h *Head, n int) *Link {
	m := benchGroup(n)
	link, _ := h.Decide(&naivePast{}, m, m.Lines(), "bench", testTime)
	return link
}

// benchChain are the values of a product whose groups are all accepted.
func benchChain(groups int) [][]byte {
	first, _ := NewProduct("tshirt", MaxUnits, 0, testEpoch, testTime)
	values := [][]byte{first.Encode()}
	head := Head{Stock: Stock{Product: "tshirt"}}
	head.follow(first, HashOf(values[0]))
	for n := range groups {
		link := benchLink(&head, n*500)
		values = append(values, link.Encode())
		head.follow(link, HashOf(values[n+1]))
	}
	return values
}

// perOrder reports a group's time by the order.
func perOrder(b *testing.B, orders int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(orders), "ns/order")
}

func BenchmarkDecide500(b *testing.B) {
	lines := benchGroup(0).Lines()
	book := NewBook(1 << 20)
	for n, value := range benchChain(200) { // a past of 100,000 orders
		if err := book.Apply("tshirt", Seq(n+1), value); err != nil {
			b.Fatal(err)
		}
	}
	for i := range lines { // which are others
		lines[i].Order.ID[0] = 'x'
	}
	for _, limit := range []int64{0, 2} {
		b.Run(fmt.Sprintf("limit=%d", limit), func(b *testing.B) {
			stock := newStock(MaxUnits, limit)
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

func BenchmarkLinkEncode500(b *testing.B) {
	h := benchHead()
	link := benchLink(&h, 0)
	b.SetBytes(int64(len(link.Encode())))
	b.ReportAllocs()
	for b.Loop() {
		link.Encode()
	}
	perOrder(b, 500)
}

// BenchmarkContinue500 reads and hashes, by the quick reader and by the general one.
func BenchmarkContinue500(b *testing.B) {
	h := benchHead()
	value := benchLink(&h, 0).Encode()
	for name, value := range map[string][]byte{"own": value, "any": append(value, ' ')} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(value)))
			b.ReportAllocs()
			for b.Loop() {
				head := h
				if _, err := head.Continue(value); err != nil {
					b.Fatal(err)
				}
			}
			perOrder(b, 500)
		})
	}
}

// BenchmarkBookApply fills a book with a million orders of as many buyers, as an
// instance does at its start, and tells what each costs in time and memory.
func BenchmarkBookApply(b *testing.B) {
	const orders = 1_000_000
	values := benchChain(orders / 500)
	b.ResetTimer()
	var bytes float64
	for range b.N {
		before := heap()
		book := NewBook(orders)
		for n, value := range values {
			if err := book.Apply("tshirt", Seq(n+1), value); err != nil {
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
