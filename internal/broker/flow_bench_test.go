package broker_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"firstcome/internal/broker"
	"firstcome/internal/natsd"
	"firstcome/internal/sale"
)

type nobody struct{}

func (nobody) Decided(sale.ProductID, []sale.Outcome, time.Duration) {}
func (nobody) Redelivered(sale.ProductID)                            {}
func (nobody) Conflict(sale.ProductID)                               {}

// BenchmarkFlow is the whole path without HTTP: orders placed by some buyers at
// once, stored, decided, written to the ledger and broadcast, fsync on every write.
func BenchmarkFlow(b *testing.B) {
	for _, buyers := range []int{1, 64, 256} {
		b.Run(fmt.Sprintf("buyers=%d", buyers), func(b *testing.B) { benchmarkFlow(b, buyers) })
	}
}

func benchmarkFlow(b *testing.B, buyers int) {
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	srv, err := natsd.Start(ctx, natsd.Config{Listen: "127.0.0.1:0", StoreDir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer srv.Stop(context.Background())
	c, err := broker.Connect(broker.Options{InProcess: srv})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	stock, _ := sale.NewStock("tshirt", 1_000_000_000, 0)
	if err := broker.Provision(ctx, c, broker.Layout{Replicas: 1, MaxMessages: 1_000_000, Products: []sale.Stock{stock}}); err != nil {
		b.Fatal(err)
	}
	stocks, _ := broker.OpenStocks(ctx, c)
	ledger, _ := broker.OpenLedger(ctx, c)
	book := sale.NewBook(10_000_000)
	tell := broker.NewAnnouncer(c)
	intake := broker.NewIntake(c, book, tell, broker.Grouping{MaxOrders: 500, MaxWait: 5 * time.Millisecond, InFlight: 3})
	shop, err := broker.OpenShop(ctx, c)
	if err != nil {
		b.Fatal(err)
	}
	defer shop.Close()
	follower, err := broker.NewFollower(ctx, c, book, shop)
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { _ = follower.Run(ctx) })
	var heard atomic.Int64
	stop, err := c.Subscribe(func(string, []byte) { heard.Add(1) })
	if err != nil {
		b.Fatal(err)
	}
	defer stop()
	if err := follower.CatchUp(ctx); err != nil {
		b.Fatal(err)
	}
	queue := broker.NewQueue(c, "tshirt")
	worker := &sale.Worker{Product: "tshirt", Queue: queue, Stocks: stocks, Ledger: ledger, Book: book, Announcer: tell,
		DeadLetters: broker.NewDeadLetters(c), Beat: time.Second, StepTimeout: 2 * time.Second, Now: time.Now, Observer: nobody{},
		Newest: func() uint64 { return shop.Entries("tshirt") },
		Log:    slog.New(slog.DiscardHandler)}
	wg.Go(func() { worker.Run(ctx); queue.Close() })

	b.ResetTimer()
	var next atomic.Int64
	var placing sync.WaitGroup
	for range buyers {
		placing.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				id, _ := uuid.NewV7()
				o := sale.Order{ID: sale.OrderID(id), Email: sale.Email(fmt.Sprintf("flood%d@mail.example.com", i)), Quantity: 1, PlacedAt: sale.Instant(time.Now())}
				if err := intake.Place(ctx, "tshirt", o); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	placing.Wait()
	placed := b.Elapsed()
	for {
		s, _, err := stocks.Load(ctx, "tshirt")
		if err != nil {
			b.Fatal(err)
		}
		if s.Decided == uint64(b.N) {
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decided/s")
			b.ReportMetric(float64(b.N)/placed.Seconds(), "placed/s")
			b.ReportMetric(float64(b.N)/float64(s.Entries), "orders/group")
			return
		}
		time.Sleep(time.Millisecond)
	}
}
