package broker

import (
	"fmt"
	"testing"
	"time"

	"firstcome/internal/sale"
)

// What waits for the book is bounded: what the client drops then is a gap, which is
// read from the stream.
func TestFeedIsBounded(t *testing.T) {
	t.Parallel()
	ctx, c := alone(t, "")
	if err := Provision(ctx, c, Layout{Replicas: 1, MaxMessages: 1000, Products: []Product{{ID: "shirt", Supply: 5}}}); err != nil {
		t.Fatal(err)
	}
	book := sale.NewBook(1000)
	feed, err := OpenFeed(ctx, c, book)
	if err != nil {
		t.Fatal(err)
	}
	defer feed.Close()
	if err := feed.CatchUp(ctx); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		follower *follower
		subject  string
		knows    func(messages uint64) bool
	}{
		"queue":   {feed.queue, "orders.shirt", func(n uint64) bool { p, _ := book.Product("shirt"); return p.Waiting == n }},
		"history": {feed.history, stockSubject("shirt"), func(n uint64) bool { return book.Foreign("shirt") == n }},
	} {
		sub := test.follower.sub
		if messages, bytes, err := sub.PendingLimits(); err != nil || messages != -1 || bytes != 64<<20 {
			t.Errorf("%s: %d messages and %d bytes may wait: %v", name, messages, bytes, err)
		}
		if err := sub.SetPendingLimits(-1, 16<<10); err != nil {
			t.Fatal(err)
		}
		test.follower.mu.Lock() // the book takes nothing just now
		published := uint64(0)
		publish := func() {
			t.Helper()
			published++
			if _, err := c.js.Publish(ctx, test.subject, fmt.Appendf(nil, `{"email":"a%d@x.com","more":"%2000d"}`, published, 0)); err != nil {
				t.Fatal(err)
			}
		}
		for dropped := 0; dropped < 5; {
			publish()
			if dropped, err = sub.Dropped(); err != nil {
				t.Fatal(err)
			}
		}
		test.follower.mu.Unlock()
		for wait := time.Now(); ; {
			if pending, _, err := sub.Pending(); err != nil || time.Since(wait) > time.Minute {
				t.Fatalf("%s: %d messages are pending: %v", name, pending, err)
			} else if pending == 0 {
				break
			}
		}
		publish() // the gap before it shows
		for wait := time.Now(); !test.knows(published); {
			if time.Since(wait) > time.Minute {
				t.Fatalf("%s: not all of %d messages are known", name, published)
			}
		}
	}
}
