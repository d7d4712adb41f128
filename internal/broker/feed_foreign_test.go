package broker_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// Anybody may publish below the feeds' subjects: what no stream sent is logged and
// passed over.
func TestFeedIgnoresWhatNoStreamSent(t *testing.T) {
	w := on(t, one)
	w.sell(t, 5, "shirt")
	log := &logged{}
	o := w.options(t, nil)
	o.Log = slog.New(log)
	c := dial(t, o)
	r := follow(t, c)
	r.caughtUp(t)
	js := w.admin(t)
	forgery := forged(t, c, "shirt", func(sale.Head) string { return `"by":"` }, func(sale.Head) string { return `"by":"` })
	if err := js.Conn().Publish("line.orders.shirt", []byte(`{"email":"forged@x.com"}`)); err != nil {
		t.Fatal(err)
	}
	if err := js.Conn().Publish("ledger.shirt", forgery); err != nil {
		t.Fatal(err)
	}
	if err := js.Conn().PublishMsg(&nats.Msg{Subject: "ledger.shirt", Data: forgery, Header: nats.Header{ // of another stream
		"Nats-Stream": {"OTHER"}, "Nats-Subject": {"$KV.stock.shirt"}, "Nats-Sequence": {"2"},
		"Nats-Time-Stamp": {time.Now().UTC().Format(time.RFC3339Nano)}}}); err != nil {
		t.Fatal(err)
	}
	real := newOrder("real@x.com")
	publishOrders(t, js, "shirt", real)
	eventually(t, "the real one is known", r.knows(real))
	w.work(t, "shirt")
	eventually(t, "the real link is known", func() bool { return r.links("shirt") == 2 })
	if p, _ := r.book.Product("shirt"); r.book.Len() != 1 || p.Supplied != 5 || p.Sold != 1 {
		t.Errorf("the book holds %d orders, and %+v", r.book.Len(), p.Stock)
	}
	if n := log.count("messages that the stream did not send"); n != 2 {
		t.Errorf("%d warnings of forged ones, one a stream wanted", n)
	}
}

// TestHandPublishedOrderIsFirstClass: it is in the book under its derived id.
func TestHandPublishedOrderIsFirstClass(t *testing.T) {
	w := on(t, one)
	w.sell(t, 5, "shirt")
	r := follow(t, w.connect(t))
	r.caughtUp(t)
	publish(t, w.admin(t), "shirt", []byte("{\"email\":\"CLI@example.com\"}\ngarbage\n"))
	r.caughtUp(t)
	got := r.book.Newest("cli@example.com", 10)
	if len(got) != 1 || got[0].Quantity != 1 || got[0].Product != "shirt" || got[0].Outcome != sale.Pending {
		t.Errorf("the book has %+v", got)
	}
}

// What is in the bucket and is no link is counted and passed over, heard live or read
// from the stream, and keys that no product can have are not even that.
func TestFeedPassesOverWhatIsNoLink(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		c := w.sell(t, 5, "shirt", "mug")
		kv := w.bucket(t)
		byHand := func() {
			put(t, kv, "shirt", []byte("garbage"))
			put(t, kv, "shirt", nil)
			put(t, kv, "shirt", wrongPrev(t, c, "shirt"))
			put(t, kv, "shirt", newest(t, c, "mug").Value) // another product's
			if err := kv.Delete(within(t), "shirt"); err != nil {
				t.Fatal(err)
			}
			for _, key := range []sale.ProductID{"shirt.more", "shirt.more.still", "UPPER", "_x", "a=b"} {
				put(t, kv, key, newest(t, c, "shirt").Value)
			}
			put(t, kv, "scarf", newest(t, c, "shirt").Value) // a product that nobody sells
		}
		byHand()
		readers := map[string]*reader{}
		foreign := map[string]chan sale.ProductID{}
		open := func(name string) {
			book := sale.NewBook(100)
			heard := make(chan sale.ProductID, 100)
			book.OnForeign(func(p sale.ProductID, _ sale.Seq, err error) {
				if !errors.Is(err, sale.ErrNoLink) {
					t.Errorf("%s: %v", p, err)
				}
				heard <- p
			})
			readers[name], foreign[name] = followInto(t, w.connect(t), book), heard
			readers[name].caughtUp(t)
		}
		open("live")
		byHand()
		appendLink(t, c, "mug", newest(t, c, "mug").Queue)
		open("late")
		for name, r := range readers {
			eventually(t, name+" knows the last link", func() bool { return r.links("mug") == 2 })
			if r.links("shirt") != 1 || r.book.Foreign("shirt") != 10 || r.book.Foreign("mug") != 0 {
				t.Errorf("%s: the shirt is at link %d, and %d values are foreign", name, r.links("shirt"), r.book.Foreign("shirt"))
			}
			count := map[sale.ProductID]int{}
			for len(foreign[name]) > 0 {
				count[<-foreign[name]]++
			}
			if len(count) != 2 || count["shirt"] != 10 || count["scarf"] != 2 {
				t.Errorf("%s heard of foreign values %v", name, count)
			}
			if products := r.book.Products(); len(products) != 2 {
				t.Errorf("%s knows %d products", name, len(products))
			}
		}
	})
}

// A value that is the next link in an unknown layout stops its product alone.
func TestFeedStopsAtANewerLink(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "shirt", "mug")
	log := &logged{}
	o := w.options(t, nil)
	o.Log = slog.New(log)
	r := follow(t, dial(t, o))
	r.caughtUp(t)
	put(t, w.bucket(t), "shirt", forged(t, c, "shirt", func(sale.Head) string { return `"v":2` }, func(sale.Head) string { return `"v":3` }))
	appendLink(t, c, "mug", newest(t, c, "mug").Queue)
	eventually(t, "the other product goes on", func() bool { return r.links("mug") == 2 })
	if err := r.book.Stopped("shirt"); !errors.Is(err, sale.ErrNewer) {
		t.Errorf("the book says %v", err)
	}
	if !log.has("is not followed any more") {
		t.Error("nothing was logged")
	}
}

// A history that lacks a revision is refused at the start, by one that waiting does not
// mend: an instance that began on the rest could sell what was sold. One that runs goes
// on from memory.
func TestFeedRefusesACutHistory(t *testing.T) {
	t.Parallel()
	without := func(seq uint64) func(t *testing.T, w *world, stream jetstream.Stream, bucket jetstream.StreamConfig) {
		return func(t *testing.T, w *world, stream jetstream.Stream, bucket jetstream.StreamConfig) {
			bucket.DenyDelete = false
			remake(t, w, bucket)
			if err := stream.DeleteMsg(within(t), seq); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, cut := range map[string]func(t *testing.T, w *world, stream jetstream.Stream, bucket jetstream.StreamConfig){
		"in the middle": without(3),
		"at the end":    without(5),
		"at the beginning": func(t *testing.T, w *world, _ jetstream.Stream, bucket jetstream.StreamConfig) {
			bucket.MaxMsgsPerSubject = 2 // as `nats stream edit` does
			if _, err := w.admin(t).UpdateStream(within(t), bucket); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := on(t, one)
			c := w.sell(t, 5, "shirt")
			js := w.admin(t)
			for range 4 {
				appendLink(t, c, "shirt", newest(t, c, "shirt").Queue)
			}
			running := follow(t, w.connect(t))
			running.caughtUp(t)
			stream, err := js.Stream(within(t), "KV_stock")
			if err != nil {
				t.Fatal(err)
			}
			cut(t, w, stream, stream.CachedInfo().Config)
			late := follow(t, w.connect(t))
			if err := late.CatchUp(within(t)); !errors.Is(err, broker.ErrCut) || !broker.Final(err) {
				t.Errorf("a start on a cut history says %v", err)
			}
			if name == "at the beginning" {
				running.caughtUp(t)
				if running.links("shirt") != 5 {
					t.Errorf("the running instance is at link %d", running.links("shirt"))
				}
			}
		})
	}
}
