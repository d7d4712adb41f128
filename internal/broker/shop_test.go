package broker_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

func openShop(t testing.TB, c *broker.Conn) *broker.Shop {
	t.Helper()
	shop, err := broker.OpenShop(within(t), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shop.Close)
	return shop
}

// bucket is the stock as an admin can write it.
func (w *world) bucket(t testing.TB) jetstream.KeyValue {
	t.Helper()
	kv, err := w.admin(t).KeyValue(within(t), "stock")
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func put(t testing.TB, kv jetstream.KeyValue, p sale.ProductID, value []byte) {
	t.Helper()
	if _, err := kv.Put(within(t), string(p), value); err != nil {
		t.Fatal(err)
	}
}

func available(s *broker.Shop, p sale.ProductID, want int64) func() bool {
	return func() bool {
		stock, ok := s.Product(p)
		return ok && stock.Available == want
	}
}

func TestShopKnowsWhatIsThereAndWhatChanges(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		c := w.sell(t, 5, "shirt", "mug")
		shop := openShop(t, w.connect(t))
		for _, p := range []sale.ProductID{"shirt", "mug"} { // at once, not eventually
			if stock, ok := shop.Product(p); !ok || stock.Available != 5 || stock.Product != p {
				t.Errorf("the shop begins with %+v, %v of %s", stock, ok, p)
			}
		}
		if _, ok := shop.Product("cap"); ok {
			t.Error("the shop sells a cap that nobody has")
		}
		var mu sync.Mutex
		var heard []sale.ProductID
		shop.OnNew(func(p sale.ProductID) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, p)
		})
		if _, err := openStocks(t, c).Change(within(t), "mug", func(s sale.Stock) (sale.Stock, error) { return s.Supply(3) }); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the supply arrives", available(shop, "mug", 8))

		w.sell(t, 7, "cap")
		eventually(t, "the new product is on sale", available(shop, "cap", 7))
		if _, err := openStocks(t, c).Change(within(t), "cap", func(s sale.Stock) (sale.Stock, error) { return s.Supply(1) }); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the supply arrives", available(shop, "cap", 8))
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(heard[:min(2, len(heard))])
		if !slices.Equal(heard, []sale.ProductID{"mug", "shirt", "cap"}) {
			t.Errorf("heard of %v, want each once", heard)
		}
		var listed []string
		for _, s := range shop.Products() {
			listed = append(listed, string(s.Product))
		}
		if got := strings.Join(listed, " "); got != "cap mug shirt" {
			t.Errorf("the shop lists %s", got)
		}
	})
}

func TestShopSkipsABrokenValue(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "shirt", "mug")
	kv := w.bucket(t)
	log := &logged{}
	o := w.options(t, nil)
	o.Log = slog.New(log)
	shop := openShop(t, dial(t, o))

	for _, broken := range []string{"garbage", "", `{"product":"shirt","available":3,"sold":3,"supplied":5}`} {
		put(t, kv, "shirt", []byte(broken))
	}
	if err := kv.Delete(within(t), "shirt"); err != nil {
		t.Fatal(err)
	}
	if _, err := openStocks(t, c).Change(within(t), "mug", func(s sale.Stock) (sale.Stock, error) { return s.Supply(1) }); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what comes after is heard", available(shop, "mug", 6))
	if stock, ok := shop.Product("shirt"); !ok || stock.Available != 5 {
		t.Errorf("a broken value replaced the last good one: %+v, %v", stock, ok)
	}
	if n := log.count("a stock value is broken"); n != 4 {
		t.Errorf("%d broken values were logged, want 4", n)
	}
	good, err := sale.NewStock("shirt", 9, 0)
	if err != nil {
		t.Fatal(err)
	}
	put(t, kv, "shirt", good.Encode())
	eventually(t, "it is mended", available(shop, "shirt", 9))
}

func TestShopComesBack(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "shirt")
	g := w.gate()
	away := dial(t, w.options(t, g))
	shop := openShop(t, away)
	g.close()
	eventually(t, "the connection is gone", func() bool { return !away.Connected() })
	if _, err := openStocks(t, c).Change(within(t), "shirt", func(s sale.Stock) (sale.Stock, error) { return s.Supply(1) }); err != nil {
		t.Fatal(err)
	}
	g.open()
	eventually(t, "it hears of the change that it missed", available(shop, "shirt", 6))
}

func TestShopCloses(t *testing.T) {
	w := on(t, one)
	w.sell(t, 5, "shirt")
	c := w.connect(t)
	shop := openShop(t, c)
	shop.Close()
	shop.Close()
	other := openShop(t, c)
	c.Close() // the connection may go first
	other.Close()

	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := broker.OpenShop(gone, w.connect(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("opening with an ended context: %v", err)
	}
	if err := w.admin(t).DeleteStream(within(t), "KV_stock"); err != nil {
		t.Fatal(err)
	}
	if _, err := broker.OpenShop(within(t), w.connect(t)); err == nil {
		t.Error("a shop opened without a bucket")
	}
}

func TestWatchStock(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "shirt")
	enough := errors.New("enough")
	seen := make(chan sale.Stock, 100)
	watch := func(ctx context.Context, until int64) error {
		return broker.WatchStock(ctx, c, func(s sale.Stock) error {
			seen <- s
			if s.Available == until {
				return enough
			}
			return nil
		})
	}
	if err := watch(within(t), 5); !errors.Is(err, enough) {
		t.Errorf("the value that is there: %v", err)
	}
	receive(t, seen)

	ended := make(chan error)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	go func() { ended <- watch(ctx, 7) }()
	receive(t, seen)
	stocks := openStocks(t, w.connect(t))
	for range 2 {
		if _, err := stocks.Change(within(t), "shirt", func(s sale.Stock) (sale.Stock, error) { return s.Supply(1) }); err != nil {
			t.Fatal(err)
		}
	}
	if six, seven := receive(t, seen), receive(t, seen); six.Available != 6 || seven.Available != 7 {
		t.Errorf("%d and %d were seen", six.Available, seven.Available)
	}
	if err := receive(t, ended); !errors.Is(err, enough) {
		t.Errorf("the change: %v", err)
	}

	go func() { ended <- watch(ctx, -1) }()
	receive(t, seen)
	cancel()
	if err := receive(t, ended); err != nil {
		t.Errorf("an ended context: %v", err)
	}
	put(t, w.bucket(t), "shirt", []byte("garbage"))
	if err := watch(within(t), -1); err == nil || errors.Is(err, enough) {
		t.Errorf("a broken value: %v", err)
	}
}
