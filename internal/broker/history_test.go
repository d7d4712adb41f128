package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// byHand are writes into the bucket that make no link, whatever is there.
var byHand = map[string]func(t testing.TB, c *broker.Conn, kv jetstream.KeyValue){
	"put": func(t testing.TB, _ *broker.Conn, kv jetstream.KeyValue) { put(t, kv, "shirt", []byte("garbage")) },
	"del": func(t testing.TB, _ *broker.Conn, kv jetstream.KeyValue) {
		if err := kv.Delete(within(t), "shirt"); err != nil {
			t.Fatal(err)
		}
	},
	"revert to the first": func(t testing.TB, c *broker.Conn, kv jetstream.KeyValue) {
		put(t, kv, "shirt", nth(t, c, 1))
	},
	"revert to an earlier one": func(t testing.TB, c *broker.Conn, kv jetstream.KeyValue) {
		head, _ := headOf(t, c, "shirt")
		put(t, kv, "shirt", nth(t, c, min(2, head.N)))
	},
	"revert to the newest": func(t testing.TB, c *broker.Conn, kv jetstream.KeyValue) {
		head, _ := headOf(t, c, "shirt")
		put(t, kv, "shirt", nth(t, c, head.N))
	},
	"update": func(t testing.TB, c *broker.Conn, kv jetstream.KeyValue) { update(t, c, kv, []byte("garbage")) },
	"update to the first": func(t testing.TB, c *broker.Conn, kv jetstream.KeyValue) {
		update(t, c, kv, nth(t, c, 1))
	},
	"update to a wrong prev": func(t testing.TB, c *broker.Conn, kv jetstream.KeyValue) {
		update(t, c, kv, wrongPrev(t, c, "shirt"))
	},
	"update to a wrong number": func(t testing.TB, c *broker.Conn, kv jetstream.KeyValue) {
		number := func(more uint64) func(sale.Head) string {
			return func(h sale.Head) string { return fmt.Sprintf(`"n":%d,`, h.N+more) }
		}
		update(t, c, kv, forged(t, c, "shirt", number(1), number(2)))
	},
	"update to another product's": func(t testing.TB, c *broker.Conn, kv jetstream.KeyValue) {
		update(t, c, kv, newest(t, c, "mug").Value)
	},
}

// update stores a value by hand after the newest one, as `nats kv update` does.
func update(t testing.TB, c *broker.Conn, kv jetstream.KeyValue, value []byte) {
	t.Helper()
	_, last := headOf(t, c, "shirt")
	if _, err := kv.Update(within(t), "shirt", value, uint64(last)); err != nil {
		t.Fatal(err)
	}
}

// nth is the shirt's link of that number, as stored.
func nth(t testing.TB, c *broker.Conn, n uint64) []byte {
	t.Helper()
	f := newFold(c, "shirt")
	f.advance(t)
	return f.links[n-1]
}

// The newest link is found whatever was written by hand behind it, before it, or
// between it and the one before.
func TestNewestLink(t *testing.T) {
	t.Parallel()
	for name, write := range byHand {
		t.Run(name, func(t *testing.T) {
			w := on(t, one)
			c := w.sell(t, 5, "shirt", "mug")
			kv := w.bucket(t)
			want := appendLink(t, c, "shirt", sale.Position{Epoch: w.epoch(t), Seq: 1}, newOrder("a@x.com"))
			for n := uint64(2); n < 5; n++ {
				for range 2 {
					if got := newest(t, c, "shirt"); got.N != n || got.Revision != want.Revision || string(got.Value) != string(want.Value) {
						t.Errorf("the newest is link %d of revision %d, want %d of %d", got.N, got.Revision, n, want.Revision)
					}
					write(t, c, kv)
				}
				want = appendLink(t, c, "shirt", sale.Position{Epoch: w.epoch(t), Seq: n}, newOrder("a@x.com"))
			}
			if got := newest(t, c, "mug"); got.N != 1 {
				t.Errorf("the mug is at link %d", got.N)
			}
		})
	}
}

// What was written by hand costs a few reads, however long the history is: an instance
// asks for the newest link before its door opens, and a command before it gives up.
func TestNewestReadsLittle(t *testing.T) {
	t.Parallel()
	for name, write := range byHand {
		t.Run(name, func(t *testing.T) {
			w := on(t, one)
			c := w.sell(t, 5, "shirt", "mug")
			kv, js, h := w.bucket(t), w.admin(t), broker.NewHistory(c)
			head, last := headOf(t, c, "shirt")
			for n := range uint64(300) {
				m := &sale.Message{Product: "shirt", Epoch: head.Queue.Epoch, Seq: n + 1}
				link, _ := head.Decide(decidedBefore{}, m, nil, "test", time.Now())
				if _, err := head.Continue(link.Encode()); err != nil {
					t.Fatal(err)
				}
				var err error
				if last, err = h.Append(within(t), "shirt", last, link.Encode()); err != nil {
					t.Fatal(err)
				}
			}
			for range 3 {
				write(t, c, kv)
			}
			want := appendLink(t, c, "shirt", sale.Position{Epoch: head.Queue.Epoch, Seq: 400}, newOrder("a@x.com"))
			var reads atomic.Int64
			sub, err := js.Conn().Subscribe("$JS.API.STREAM.MSG.GET.KV_stock", func(*nats.Msg) { reads.Add(1) })
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sub.Unsubscribe() }()
			if err := js.Conn().Flush(); err != nil {
				t.Fatal(err)
			}
			link, err := h.Newest(within(t), "shirt")
			if err != nil || link.N != want.N || link.Revision != want.Revision {
				t.Errorf("the newest is %d, %v, want %d", link.N, err, want.N)
			}
			link, found, err := h.SettledBy(within(t), "shirt", want.Queue)
			if err != nil || !found || link.N != want.N {
				t.Errorf("the message was settled by %d, %v, %v, want %d", link.N, found, err, want.N)
			}
			if before, err := h.Before(within(t), link); err != nil || before.N != want.N-1 {
				t.Errorf("before it is %d, %v, want %d", before.N, err, want.N-1)
			}
			if n := reads.Load(); n < 5 || n > 150 {
				t.Errorf("that took %d reads of %d links", n, want.N)
			}
		})
	}
}

func TestNewestNeedsALink(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "mug")
	h := broker.NewHistory(c)
	if _, err := h.Newest(within(t), "shirt"); !errors.Is(err, sale.ErrNotFound) {
		t.Errorf("without any value: %v", err)
	}
	kv := w.bucket(t)
	put(t, kv, "shirt", []byte("garbage"))
	put(t, kv, "shirt", newest(t, c, "mug").Value)
	if _, err := h.Newest(within(t), "shirt"); !errors.Is(err, sale.ErrNotFound) {
		t.Errorf("without any link: %v", err)
	}
	put(t, kv, "mug", forged(t, c, "mug", func(sale.Head) string { return `"v":2` }, func(sale.Head) string { return `"v":3` }))
	if _, err := h.Newest(within(t), "mug"); !errors.Is(err, sale.ErrNewer) {
		t.Errorf("behind a link of another layout: %v", err)
	}
	products, err := h.Products(within(t))
	if err != nil || !slices.Equal(products, []sale.ProductID{"mug", "shirt"}) {
		t.Errorf("the bucket has %v, %v", products, err)
	}
}

// Each message's link is found, and the one before it, among those of other products
// and other epochs, and whatever was written by hand in between.
func TestSettledBy(t *testing.T) {
	t.Parallel()
	hands := map[string]func(testing.TB, *broker.Conn, jetstream.KeyValue){"nobody": func(testing.TB, *broker.Conn, jetstream.KeyValue) {}}
	for name, write := range byHand {
		hands[name] = write
	}
	for name, write := range hands {
		t.Run(name, func(t *testing.T) {
			w := on(t, one)
			c := w.sell(t, 5, "shirt", "mug")
			kv := w.bucket(t)
			h := broker.NewHistory(c)
			epochs := []string{w.epoch(t), "2126-03-01T08:00:00Z", "2126-03-01T08:00:00.5Z"}
			seqs := []uint64{2, 3, 7, 20}
			first := newest(t, c, "shirt")
			chain := []broker.StoredLink{first}
			for _, epoch := range epochs {
				for _, seq := range seqs {
					write(t, c, kv)
					chain = append(chain, appendLink(t, c, "shirt", sale.Position{Epoch: epoch, Seq: seq}, newOrder("a@x.com")))
					appendLink(t, c, "mug", sale.Position{Epoch: epoch, Seq: seq + 1})
				}
			}
			write(t, c, kv)
			for i, want := range chain[1:] {
				got, found, err := h.SettledBy(within(t), "shirt", want.Queue)
				if err != nil || !found || string(got.Value) != string(want.Value) {
					t.Fatalf("message %+v: %v, %v", want.Queue, found, err)
				}
				if name != "nobody" {
					continue
				}
				before, err := h.Before(within(t), got)
				if err != nil || before.Revision != chain[i].Revision || got.Revision != want.Revision {
					t.Errorf("before revision %d comes %d, want %d: %v", got.Revision, before.Revision, chain[i].Revision, err)
				}
			}
			for _, at := range []sale.Position{{Epoch: epochs[0], Seq: 4}, {Epoch: epochs[1], Seq: 8}, {Epoch: epochs[2], Seq: 21},
				{Epoch: epochs[1], Seq: 21}, {Epoch: "2136-03-01T08:00:00Z", Seq: 2}, {Epoch: "2016-03-01T08:00:00Z", Seq: 2}, {Epoch: "", Seq: 2}} {
				if link, found, err := h.SettledBy(within(t), "shirt", at); err != nil || found {
					t.Errorf("message %+v, which was not settled, has link %d, %v", at, link.N, err)
				}
			}
		})
	}
}

// A forged value with the position of the next message is not taken for its link.
func TestSettledByNoForgery(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "shirt", "mug")
	kv := w.bucket(t)
	at := sale.Position{Epoch: w.epoch(t), Seq: 1}
	put(t, kv, "shirt", wrongPrev(t, c, "shirt"))
	update(t, c, kv, wrongPrev(t, c, "shirt"))
	h := broker.NewHistory(c)
	if _, found, err := h.SettledBy(within(t), "shirt", at); err != nil || found {
		t.Errorf("the forgery counts: %v", err)
	}
	want := appendLink(t, c, "shirt", at, newOrder("a@x.com"))
	appendLink(t, c, "shirt", sale.Position{Epoch: at.Epoch, Seq: 2}, newOrder("b@x.com"))
	if got, found, err := h.SettledBy(within(t), "shirt", at); err != nil || !found || string(got.Value) != string(want.Value) {
		t.Errorf("found %v, %v: %s", found, err, got.Value)
	}
}

func TestWatchHistory(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "shirt", "mug")
	put(t, w.bucket(t), "scarf", []byte("garbage"))
	enough := errors.New("enough")
	seen := make(chan string, 100)
	watch := func(ctx context.Context, until uint64) error {
		return broker.WatchHistory(ctx, c, func(l broker.StoredLink) error {
			seen <- fmt.Sprintf("%s %d", l.Product, l.N)
			if l.N == until {
				return enough
			}
			return nil
		})
	}
	want := func(links ...string) {
		t.Helper()
		for _, link := range links {
			if got := receive(t, seen); got != link {
				t.Errorf("%s was seen, want %s", got, link)
			}
		}
	}
	if err := watch(within(t), 1); !errors.Is(err, enough) {
		t.Errorf("the link that is there: %v", err)
	}
	want("mug 1")

	ended := make(chan error)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	go func() { ended <- watch(ctx, 3) }()
	want("mug 1", "shirt 1")
	for seq := range uint64(2) {
		put(t, w.bucket(t), "shirt", []byte("garbage"))
		appendLink(t, c, "shirt", sale.Position{Epoch: w.epoch(t), Seq: seq + 1})
		want(fmt.Sprintf("shirt %d", seq+2))
	}
	if err := receive(t, ended); !errors.Is(err, enough) {
		t.Errorf("the change: %v", err)
	}

	go func() { ended <- watch(ctx, 99) }()
	want("mug 1", "shirt 3")
	cancel()
	if err := receive(t, ended); err != nil {
		t.Errorf("an ended context: %v", err)
	}
	if len(seen) > 0 {
		t.Errorf("%s was seen, too", <-seen)
	}
}

// Of two keys that look alike each has its own history.
func TestHistoriesOfLikeNames(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "a", "a-", "aa", "a_a")
	put(t, w.bucket(t), "a.a", newest(t, c, "a").Value)
	h := broker.NewHistory(c)
	for _, p := range []sale.ProductID{"a", "a-", "aa", "a_a"} {
		seq, _, err := h.Next(within(t), p, 0)
		if err != nil || newest(t, c, p).Product != p {
			t.Errorf("%s: %v", p, err)
		}
		if again, _, err := h.Next(within(t), p, seq); !errors.Is(err, sale.ErrNotFound) {
			t.Errorf("after its only revision %s has %d, %v", p, again, err)
		}
	}
}
