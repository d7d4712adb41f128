package broker_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"firstcome/internal/broker"
	"firstcome/internal/natsd"
	"firstcome/internal/sale"
)

// These benchmarks are the whole path without HTTP, on an embedded server with
// fsync on every write. Compare figures of one run only: the disk sets the pace.

// rig is an instance without its web side.
type rig struct {
	srv      *natsd.Server // nil if it is not the rig's own
	conn     *broker.Conn
	book     *sale.Book
	intake   *broker.Intake
	feed     *broker.Feed
	products []sale.ProductID

	stop    context.CancelFunc
	running sync.WaitGroup
	unhear  func() error
}

// newRig starts a server on what dir holds, and everything but the workers.
func newRig(b *testing.B, dir string, products int) *rig {
	b.Helper()
	srv, err := natsd.Start(context.Background(), natsd.Config{Listen: "127.0.0.1:0", StoreDir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	r := openRig(b, broker.Options{InProcess: srv}, 1, products)
	r.srv = srv
	return r
}

// openRig starts everything but the workers on a server that is there.
func openRig(b *testing.B, options broker.Options, replicas, products int) *rig {
	b.Helper()
	ctx, stop := context.WithCancel(context.Background())
	r := &rig{stop: stop, book: sale.NewBook(10_000_000)}
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	var err error
	r.conn, err = broker.Connect(options)
	must(err)
	layout := broker.Layout{Replicas: replicas, MaxMessages: 10_000_000}
	for i := range products {
		p := sale.ProductID(fmt.Sprintf("p%d", i))
		layout.Products = append(layout.Products, broker.Product{ID: p, Supply: 1_000_000_000})
		r.products = append(r.products, p)
	}
	must(broker.Provision(ctx, r.conn, layout))
	r.intake = broker.NewIntake(r.conn, r.book, broker.NewAnnouncer(r.conn), nil,
		broker.Grouping{MaxOrders: 500, MaxWait: 5 * time.Millisecond, InFlight: 3, Worth: broker.Worth})
	r.feed, err = broker.OpenFeed(ctx, r.conn, r.book)
	must(err)
	r.unhear, err = r.conn.Subscribe(func(string, []byte) {})
	must(err)
	must(r.catchUp())
	return r
}

// catchUp asks as often as a long history takes.
func (r *rig) catchUp() (err error) {
	for range 60 {
		if err = r.feed.CatchUp(context.Background()); err == nil {
			return nil
		}
	}
	return err
}

// work starts a worker for every product.
func (r *rig) work() {
	ctx, stop := context.WithCancel(context.Background())
	below := r.stop
	r.stop = func() { stop(); below() }
	for _, p := range r.products {
		w, queue := newWorker(r.conn, p, r.book)
		w.StepTimeout = 5 * time.Second
		r.running.Go(func() {
			w.Run(ctx)
			queue.Close()
		})
	}
}

func (r *rig) close(b *testing.B) {
	b.Helper()
	r.stop()
	r.running.Wait()
	r.feed.Close()
	_ = r.unhear()
	r.conn.Close()
	if r.srv == nil {
		return
	}
	if err := r.srv.Stop(context.Background()); err != nil {
		b.Error(err)
	}
}

// place has buyers place n orders of new addresses, round and round the products.
func (r *rig) place(b *testing.B, buyers, n int) { placeAt(b, []*rig{r}, buyers, n) }

// placeAt spreads the buyers over several instances.
func placeAt(b *testing.B, rigs []*rig, buyers, n int) {
	b.Helper()
	var next atomic.Int64
	var placing sync.WaitGroup
	for buyer := range buyers {
		r := rigs[buyer%len(rigs)]
		placing.Go(func() {
			for {
				i := int(next.Add(1))
				if i > n {
					return
				}
				id, err := uuid.NewV7()
				if err != nil {
					b.Error(err)
					return
				}
				o := sale.Order{ID: sale.OrderID(id), Quantity: 1, PlacedAt: sale.Instant(time.Now()),
					Email: sale.Email(fmt.Sprintf("flood%d@mail.example.com", i))}
				if err := r.intake.Place(context.Background(), r.products[i%len(r.products)], o); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	placing.Wait()
}

// drain waits until n orders are decided, and returns how many groups they were.
func (r *rig) drain(b *testing.B, n uint64) (groups uint64) {
	b.Helper()
	for {
		var decided uint64
		groups = 0
		for _, p := range r.book.Products() {
			decided += p.Decided
			groups += p.N - 1
		}
		if decided >= n || b.Failed() {
			return groups
		}
		time.Sleep(time.Millisecond) // far below what is measured
	}
}

// BenchmarkFlow: orders placed by some buyers at once, until all are decided.
func BenchmarkFlow(b *testing.B) {
	for _, buyers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("buyers=%d", buyers), func(b *testing.B) { benchmarkFlow(b, buyers, 1) })
	}
}

// BenchmarkProducts: the same flood on one product and on a hundred. A decision
// costs some writes to disk whatever its size, so a hundred products need buyers
// enough to fill a hundred groups.
func BenchmarkProducts(b *testing.B) {
	for _, products := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("products=%d", products), func(b *testing.B) { benchmarkFlow(b, 50_000, products) })
	}
}

func benchmarkFlow(b *testing.B, buyers, products int) {
	r := newRig(b, b.TempDir(), products)
	defer r.close(b)
	r.work()
	b.ResetTimer()
	r.place(b, buyers, b.N)
	groups := r.drain(b, uint64(b.N))
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decided/s")
	b.ReportMetric(float64(b.N)/float64(groups), "orders/group")
}

// BenchmarkBacklog: b.N orders wait before the first is decided. Run it with
// -benchtime 1000000x; bytes/order is what the heap grew by, queue and book.
func BenchmarkBacklog(b *testing.B) {
	r := newRig(b, b.TempDir(), 1)
	defer r.close(b)
	before := heap()
	r.place(b, 512, b.N)
	if err := r.catchUp(); err != nil {
		b.Fatal(err)
	}
	waiting := heap()
	r.work()
	b.ResetTimer()
	r.drain(b, uint64(b.N))
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decided/s")
	b.ReportMetric(float64(waiting-before)/float64(b.N), "waiting-bytes/order")
	b.ReportMetric(float64(heap()-before)/float64(b.N), "bytes/order")
}

// BenchmarkStart: an instance starts on a history of a million orders. Run it with
// -benchtime 3x or so. book-MiB is what the heap holds for it afterwards.
func BenchmarkStart(b *testing.B) {
	const orders = 1_000_000
	dir := b.TempDir()
	r := newRig(b, dir, 1)
	r.work()
	r.place(b, 512, orders)
	r.drain(b, orders)
	r.close(b)
	r = nil // its book must not count
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		before := heap()
		b.StartTimer()
		r := newRig(b, dir, 1)
		b.StopTimer()
		if n := r.book.Len(); n != orders {
			b.Fatalf("the book holds %d orders", n)
		}
		b.ReportMetric((float64(heap())-float64(before))/(1<<20), "book-MiB")
		r.close(b)
		b.StartTimer()
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
