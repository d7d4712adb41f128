package broker_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// wantStreams is what section "Names" of this folder's README promises to whoever
// looks with the nats CLI, written down without the package's own constants.
func wantStreams(replicas int, products ...string) map[string]jetstream.StreamConfig {
	wants := map[string]jetstream.StreamConfig{
		"ORDERS": {
			Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
			MaxMsgs: 100_000, MaxMsgsPerSubject: -1, DenyDelete: true, DenyPurge: true, AllowDirect: true,
			RePublish: &jetstream.RePublish{Source: "orders.*", Destination: "line.{{wildcard(1)}}"},
		},
		"LEDGER": {
			Subjects: []string{"ledger.*.*"}, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
			MaxMsgs: -1, MaxMsgsPerSubject: 1, DiscardNewPerSubject: true, DenyDelete: true, DenyPurge: true, AllowDirect: true,
		},
		"KV_stock": {
			Subjects: []string{"$KV.stock.>"}, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
			MaxMsgs: -1, MaxMsgsPerSubject: 64, AllowRollup: true, DenyDelete: true, AllowDirect: false,
		},
		"DEAD": {
			Subjects: []string{"dead.*"}, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
			MaxMsgs: -1, MaxMsgsPerSubject: -1, AllowDirect: true, Duplicates: time.Hour,
		},
	}
	for name, c := range wants {
		c.Name, c.Storage, c.Replicas = name, jetstream.FileStorage, replicas
		c.MaxBytes, c.MaxMsgSize, c.MaxConsumers = -1, -1, 10_000
		if c.Duplicates == 0 {
			c.Duplicates = 2 * time.Minute // the server's default
		}
		if name == "ORDERS" {
			for _, p := range products {
				c.Subjects = append(c.Subjects, "orders."+p)
			}
		}
		wants[name] = c
	}
	return wants
}

func wantConsumer(product string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Name: product, Durable: product, FilterSubject: "orders." + product,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: 5 * time.Second, MaxAckPending: 1, MaxDeliver: -1,
		MaxWaiting: 512, PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{"deciders"}, PinnedTTL: 5 * time.Second,
	}
}

func (w *world) wantLayout(t *testing.T, products ...string) {
	t.Helper()
	js := w.admin(t)
	for name, want := range wantStreams(w.site.nodes, products...) {
		for _, difference := range differences(streamConfig(t, js, name), want) {
			t.Errorf("stream %s: %s", name, difference)
		}
	}
	for _, p := range products {
		for _, difference := range differences(consumerConfig(t, js, p), wantConsumer(p)) {
			t.Errorf("consumer %s: %s", p, difference)
		}
	}
}

// differences compares two values of a struct, field by field.
func differences[T any](have, want T) (all []string) {
	h, w := reflect.ValueOf(have), reflect.ValueOf(want)
	for i := range h.NumField() {
		if !reflect.DeepEqual(h.Field(i).Interface(), w.Field(i).Interface()) {
			all = append(all, fmt.Sprintf("%s is %v, want %v", h.Type().Field(i).Name, h.Field(i), w.Field(i)))
		}
	}
	return all
}

// streamConfig leaves out what is an operator's own.
func streamConfig(t *testing.T, js jetstream.JetStream, name string) jetstream.StreamConfig {
	t.Helper()
	s, err := js.Stream(within(t), name)
	if err != nil {
		t.Fatal(err)
	}
	c := s.CachedInfo().Config
	c.Description, c.Metadata = "", nil
	return c
}

func consumerConfig(t *testing.T, js jetstream.JetStream, name string) jetstream.ConsumerConfig {
	t.Helper()
	consumer, err := js.Consumer(within(t), "ORDERS", name)
	if err != nil {
		t.Fatal(err)
	}
	c := consumer.CachedInfo().Config
	c.Description, c.Metadata = "", nil
	return c
}

func TestProvisionCreatesWhatTheReadmeNames(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		c := w.sell(t, 5, "shirt", "mug")
		w.wantLayout(t, "shirt", "mug")
		stocks := openStocks(t, c)
		for _, p := range []sale.ProductID{"shirt", "mug"} {
			stock, _, err := stocks.Load(within(t), p)
			if want := (sale.Stock{Product: p, Available: 5, Supplied: 5}); err != nil || !reflect.DeepEqual(stock, want) {
				t.Errorf("stock of %s is %+v, %v", p, stock, err)
			}
		}
		if err := broker.Verify(within(t), c, w.layout(t, 5, "shirt", "mug")); err != nil {
			t.Errorf("verify: %v", err)
		}
	})
}

func TestProvisionAgainChangesNothing(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "shirt")
	js := w.admin(t)
	created := map[string]time.Time{}
	for name := range wantStreams(1) {
		s, err := js.Stream(within(t), name)
		if err != nil {
			t.Fatal(err)
		}
		created[name] = s.CachedInfo().Created
	}
	_, version, err := openStocks(t, c).Load(within(t), "shirt")
	if err != nil {
		t.Fatal(err)
	}
	if err := broker.Provision(within(t), c, w.layout(t, 99, "shirt")); err != nil {
		t.Fatal(err)
	}
	w.wantLayout(t, "shirt")
	for name, at := range created {
		s, err := js.Stream(within(t), name)
		if err != nil || !s.CachedInfo().Created.Equal(at) {
			t.Errorf("stream %s was made anew: %v", name, err)
		}
	}
	stock, again, err := openStocks(t, c).Load(within(t), "shirt")
	if err != nil || again != version || stock.Supplied != 5 {
		t.Errorf("stock is %+v as %d, was %d: %v", stock, again, version, err)
	}
}

func TestInstancesProvisionAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		atOnce := func(supply int64, products ...sale.ProductID) {
			t.Helper()
			var wg sync.WaitGroup
			for range 4 {
				c, layout := w.connect(t), w.layout(t, supply, products...)
				wg.Go(func() {
					if err := broker.Provision(within(t), c, layout); err != nil {
						t.Errorf("provision %v: %v", products, err)
					}
				})
			}
			wg.Wait()
		}
		atOnce(5, "shirt")
		w.wantLayout(t, "shirt")
		atOnce(7, "shirt", "mug")
		w.wantLayout(t, "shirt", "mug")
	})
}

// Adding a subject replaces the whole list of them: none may be lost when two
// instances that sell different products start at once, or one of them is slow.
func TestNoProductIsLostToAnother(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.sell(t, 5, "base")
		conns := []*broker.Conn{w.connect(t), w.connect(t), w.connect(t)}
		sold := []sale.ProductID{"base"}
		for round := range 8 {
			var wg sync.WaitGroup
			for i, c := range conns {
				p := sale.ProductID(fmt.Sprintf("p%d-%d", round, i))
				sold = append(sold, p)
				layout := w.layout(t, 5, p)
				wg.Go(func() {
					if err := broker.Provision(within(t), c, layout); err != nil {
						t.Errorf("provision %s: %v", p, err)
					}
				})
			}
			wg.Wait()
			if err := broker.Verify(within(t), conns[0], broker.Layout{}); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		subjects := streamConfig(t, w.admin(t), "ORDERS").Subjects
		if len(subjects) != len(sold) {
			t.Errorf("the queue takes %v, sold are %v", subjects, sold)
		}
	})
}

func TestNewProductJoinsARunningSale(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "shirt")
	stocks := openStocks(t, c)
	sold, err := stocks.Change(within(t), "shirt", func(s sale.Stock) (sale.Stock, error) {
		s.Available, s.Sold = s.Available-1, s.Sold+1
		return s, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	publish(t, w.admin(t), "shirt", []byte("waits"))

	// The new layout need not name the products that are there already.
	if err := broker.Provision(within(t), c, w.layout(t, 9, "mug")); err != nil {
		t.Fatal(err)
	}
	w.wantLayout(t, "shirt", "mug")
	if stock, _, err := stocks.Load(within(t), "shirt"); err != nil || !reflect.DeepEqual(stock, sold) {
		t.Errorf("stock is %+v, was %+v: %v", stock, sold, err)
	}
	if stock, _, err := stocks.Load(within(t), "mug"); err != nil || stock.Available != 9 {
		t.Errorf("the new stock is %+v: %v", stock, err)
	}
	if queue := w.read(t, "ORDERS"); len(queue) != 1 || string(queue[0].Data) != "waits" {
		t.Errorf("the queue holds %d messages", len(queue))
	}
	products, err := stocks.Products(within(t))
	slices.Sort(products)
	if err != nil || !slices.Equal(products, []sale.ProductID{"mug", "shirt"}) {
		t.Errorf("products %v, %v", products, err)
	}
}

func TestProvisionNeedsAProduct(t *testing.T) {
	w := on(t, one)
	if err := broker.Provision(within(t), w.connect(t), broker.Layout{Replicas: 1}); err == nil {
		t.Error("a sale without a product was provisioned")
	}
}

func TestVerifyNamesWhatIsMissing(t *testing.T) {
	w := on(t, one)
	c := w.connect(t)
	layout := w.layout(t, 5, "shirt")
	err := broker.Verify(within(t), c, layout)
	for stream := range wantStreams(1) {
		if err == nil || !strings.Contains(err.Error(), "stream "+stream) {
			t.Errorf("verify says %v, without stream %s", err, stream)
		}
	}
	if errors.Is(err, broker.ErrDrift) {
		t.Errorf("what is missing is no drift: %v", err) // it may come
	}
	if err := broker.Provision(within(t), c, layout); err != nil {
		t.Fatal(err)
	}
	js := w.admin(t)
	if err := js.DeleteConsumer(within(t), "ORDERS", "shirt"); err != nil {
		t.Fatal(err)
	}
	if err := broker.Verify(within(t), c, layout); err == nil || !strings.Contains(err.Error(), "consumer shirt") {
		t.Errorf("verify says %v, without the consumer", err)
	}
	if err := broker.Provision(within(t), c, layout); err != nil {
		t.Fatal(err)
	}
	for name := range wantStreams(1) {
		if err := js.DeleteStream(within(t), name); err != nil {
			t.Fatal(err)
		}
		if err := broker.Verify(within(t), c, layout); err == nil || !strings.Contains(err.Error(), "stream "+name) {
			t.Errorf("verify says %v, without stream %s", err, name)
		}
		if err := broker.Provision(within(t), c, layout); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVerifyLeavesTheAdminHisChoice(t *testing.T) {
	w := on(t, three)
	c := w.sell(t, 5, "shirt")
	layout := broker.Layout{Replicas: 1, MaxMessages: 5}
	if err := broker.Verify(within(t), c, layout); err != nil {
		t.Error(err)
	}
	if err := broker.Verify(within(t), c, broker.Layout{}); err != nil {
		t.Error(fmt.Errorf("without a layout: %w", err))
	}
}

// A server that is away just now may be new enough.
func TestCheckWaitsForALostServer(t *testing.T) {
	w := on(t, one)
	g := w.gate()
	c := dial(t, w.options(t, g))
	g.close()
	eventually(t, "the loss is noticed", func() bool { return !c.Connected() })
	eventually(t, "nobody is asked", func() bool {
		err := c.Check(within(t))
		return err != nil && !broker.Final(err)
	})
	g.open()
	eventually(t, "it is back", func() bool { return c.Check(within(t)) == nil })
}

func TestCheckAsksForJetStream(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		if err := w.connect(t).Check(within(t)); err != nil {
			t.Error(err)
		}
	})
}
