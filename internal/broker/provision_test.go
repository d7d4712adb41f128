package broker_test

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// wantStreams is what section "Names" of this folder's README promises to users
// of the nats CLI, written down without the package's own constants.
func wantStreams(replicas int, products ...string) map[string]jetstream.StreamConfig {
	wants := map[string]jetstream.StreamConfig{
		"ORDERS": {
			Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
			MaxMsgs: 100_000, MaxMsgsPerSubject: -1, DenyDelete: true, DenyPurge: true, AllowDirect: true,
			RePublish: &jetstream.RePublish{Source: ">", Destination: "line.>"},
		},
		"KV_stock": {
			Subjects: []string{"$KV.stock.>"}, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
			MaxMsgs: -1, MaxMsgsPerSubject: 1_000_000_000, DiscardNewPerSubject: true, DenyDelete: true, DenyPurge: true, AllowDirect: true,
			RePublish: &jetstream.RePublish{Source: "$KV.stock.*", Destination: "ledger.{{wildcard(1)}}"},
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
				c.Subjects = append(c.Subjects, "orders."+p, "desk."+p)
			}
		}
		wants[name] = c
	}
	return wants
}

func wantConsumer(product string, timing broker.Timing) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Name: product, Durable: product, FilterSubjects: []string{"desk." + product, "orders." + product},
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: timing.AckWait, MaxAckPending: 1, MaxDeliver: -1,
		MaxWaiting: 512, PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{"deciders"}, PinnedTTL: timing.Pin,
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
		for _, difference := range differences(consumerConfig(t, js, p), wantConsumer(p, w.timing)) {
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
func streamConfig(t testing.TB, js jetstream.JetStream, name string) jetstream.StreamConfig {
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
		began := time.Now()
		w.slowly()
		if want := (broker.Timing{AckWait: 5 * time.Second, Pin: 5 * time.Second, Pull: 3 * time.Second}); w.timing != want {
			t.Errorf("the default timing is %+v", w.timing)
		}
		c := w.connect(t)
		layout := w.layout(5, "shirt", "mug")
		layout.Products[1].LimitPerBuyer = 2
		if err := broker.Provision(within(t), c, layout); err != nil {
			t.Fatal(err)
		}
		w.wantLayout(t, "shirt", "mug")
		epoch := w.epoch(t)
		if at, err := time.Parse(time.RFC3339Nano, epoch); err != nil || at.Location() != time.UTC || at.Before(began.Add(-time.Second)) || at.After(time.Now()) {
			t.Errorf("the queue's epoch is %q: %v", epoch, err)
		}
		if id, err := uuid.Parse(w.metadata(t, "KV_stock")["firstcome_store"]); err != nil || id == uuid.Nil {
			t.Errorf("the store is %v: %v", id, err)
		}
		for p, limit := range map[sale.ProductID]int64{"shirt": 0, "mug": 2} {
			link := newest(t, c, p)
			want := sale.Stock{Product: p, Available: 5, Supplied: 5, LimitPerBuyer: limit}
			if !reflect.DeepEqual(link.Stock, want) || link.N != 1 || link.Prev != "" || link.Change != sale.Created || link.By != "provision" ||
				link.Queue != (sale.Position{Epoch: epoch}) || link.At.Before(began.Add(-time.Second)) {
				t.Errorf("%s begins with %+v", p, link.Link)
			}
		}
		if err := broker.Verify(within(t), c, layout); err != nil {
			t.Errorf("verify: %v", err)
		}
	})
}

// metadata is a stream's, without what the server writes into it.
func (w *world) metadata(t testing.TB, stream string) map[string]string {
	t.Helper()
	s, err := w.admin(t).Stream(within(t), stream)
	if err != nil {
		t.Fatal(err)
	}
	metadata := map[string]string{}
	for key, value := range s.CachedInfo().Config.Metadata {
		if !strings.HasPrefix(key, "_nats.") {
			metadata[key] = value
		}
	}
	return metadata
}

// Provisioning again, with other supplies and with more products, changes nothing that
// is there: neither the streams nor their identities nor what is stored.
func TestProvisionAgainChangesNothing(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "shirt")
	js := w.admin(t)
	created := map[string]time.Time{}
	metadata := map[string]map[string]string{}
	for name := range wantStreams(1) {
		s, err := js.Stream(within(t), name)
		if err != nil {
			t.Fatal(err)
		}
		created[name], metadata[name] = s.CachedInfo().Created, w.metadata(t, name)
	}
	first := w.read(t, "KV_stock")
	for _, products := range [][]sale.ProductID{{"shirt"}, {"shirt", "mug"}, {"mug"}} {
		if err := broker.Provision(within(t), c, w.layout(99, products...)); err != nil {
			t.Fatal(err)
		}
	}
	w.wantLayout(t, "shirt", "mug")
	for name, at := range created {
		s, err := js.Stream(within(t), name)
		if err != nil || !s.CachedInfo().Created.Equal(at) {
			t.Errorf("stream %s was made anew: %v", name, err)
		}
		if now := w.metadata(t, name); !maps.Equal(now, metadata[name]) {
			t.Errorf("the metadata of %s are %v, and were %v", name, now, metadata[name])
		}
	}
	if now := w.read(t, "KV_stock"); len(now) != 2 || string(now[0].Data) != string(first[0].Data) {
		t.Errorf("%d values are stored", len(now))
	}
}

// A key may hold anything before its product begins: the first link comes behind it,
// and the product is then sold as any other.
func TestProductBeginsBehindValuesByHand(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		c := w.sell(t, 5, "mug")
		kv := w.bucket(t)
		for _, value := range []string{"garbage", "", `{"v":2}`, `{"v":2,"product":"shirt","n":7}`} {
			put(t, kv, "shirt", []byte(value))
		}
		put(t, kv, "shirt", newest(t, c, "mug").Value)
		if err := kv.Delete(within(t), "shirt"); err != nil {
			t.Fatal(err)
		}
		if err := broker.Verify(within(t), c, broker.Layout{}); err != nil {
			t.Errorf("a key that is no product yet fails Verify: %v", err)
		}
		for range 2 {
			if err := broker.Provision(within(t), c, w.layout(3, "shirt")); err != nil {
				t.Fatal(err)
			}
		}
		if links, foreign := w.chain(t, "shirt"); len(links) != 1 || foreign != 6 || links[0].Supplied != 3 {
			t.Errorf("%d links, %d foreign values", len(links), foreign)
		}
		w.work(t, "shirt")
		if got, err := broker.Buy(within(t), c, "shirt", newOrder("a@x.com")); err != nil || got.Outcome != "accepted" {
			t.Errorf("bought %s, %v", got.Outcome, err)
		}
	})
}

// A history without its first link is refused by name, whatever else the key holds:
// begun again, the product would be sold again.
func TestCutHistoryIsRefused(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		c := w.sell(t, 5, "shirt", "mug")
		kv := w.bucket(t)
		appendLink(t, c, "mug", newest(t, c, "mug").Queue)
		third := appendLink(t, c, "mug", newest(t, c, "mug").Queue)
		// A bucket that has only the newer part of it, as a limit of revisions leaves it.
		config := w.config(t, "KV_stock")
		recreate(t, w.admin(t), config)
		w.sell(t, 5, "shirt")
		put(t, kv, "mug", []byte("garbage"))
		put(t, kv, "mug", third.Value)
		put(t, kv, "mug", []byte("garbage"))
		before := len(w.read(t, "KV_stock"))
		for call, err := range map[string]error{
			"provision":             broker.Provision(within(t), c, w.layout(5, "mug")),
			"provision the other":   broker.Provision(within(t), c, w.layout(5, "shirt")),
			"verify":                broker.Verify(within(t), c, broker.Layout{}),
			"provision both of two": broker.Provision(within(t), c, w.layout(5, "shirt", "mug")),
		} {
			if !errors.Is(err, broker.ErrCut) || !broker.Final(err) || !strings.Contains(err.Error(), "product mug") || !strings.Contains(err.Error(), "number 3") {
				t.Errorf("%s says %v", call, err)
			}
		}
		if now := len(w.read(t, "KV_stock")); now != before {
			t.Errorf("%d values are stored, %d before", now, before)
		}
	})
}

// config is a stream's settings, metadata included.
func (w *world) config(t testing.TB, stream string) jetstream.StreamConfig {
	t.Helper()
	s, err := w.admin(t).Stream(within(t), stream)
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config
}

// A store of an earlier layout is refused by name, and stays as it is.
func TestOldStoreIsRefused(t *testing.T) {
	t.Parallel()
	ledger := jetstream.StreamConfig{Name: "LEDGER", Subjects: []string{"ledger.*.*"}}
	for name, streams := range map[string][]jetstream.StreamConfig{
		"a ledger alone": {ledger},
		"a whole store": {ledger, {Name: "ORDERS", Subjects: []string{"orders.shirt"}},
			{Name: "KV_stock", Subjects: []string{"$KV.stock.>"}, MaxMsgsPerSubject: 64}},
	} {
		t.Run(name, func(t *testing.T) {
			w := on(t, one)
			js := w.admin(t)
			for _, config := range streams {
				if _, err := js.CreateStream(within(t), config); err != nil {
					t.Fatal(err)
				}
			}
			var before []jetstream.StreamConfig
			for _, config := range streams {
				before = append(before, w.config(t, config.Name))
			}
			err := broker.Provision(within(t), w.connect(t), w.layout(5, "shirt"))
			if !errors.Is(err, broker.ErrOldStore) || !broker.Final(err) || !strings.Contains(err.Error(), "stream LEDGER") {
				t.Errorf("provision says %v", err)
			}
			if len(streams) > 1 {
				err := broker.Verify(within(t), w.connect(t), broker.Layout{})
				if !errors.Is(err, broker.ErrOldStore) || !broker.Final(err) {
					t.Errorf("verify says %v", err)
				}
			}
			names := js.StreamNames(within(t))
			var now []string
			for name := range names.Name() {
				now = append(now, name)
			}
			if len(now) != len(streams) {
				t.Errorf("there are the streams %v", now)
			}
			for i, config := range streams {
				if changed := differences(w.config(t, config.Name), before[i]); len(changed) > 0 {
					t.Errorf("stream %s was changed: %v", config.Name, changed)
				}
			}
		})
	}
}
