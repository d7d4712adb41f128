package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// ever is a wait that no test sits out.
const ever = time.Hour

func newOrder(email string) sale.Order {
	id, err := uuid.NewV7()
	if err != nil {
		panic(err) // no randomness
	}
	return sale.Order{ID: sale.OrderID(id), Email: sale.Email(email), Quantity: 1, PlacedAt: sale.Instant(time.Now())}
}

// door is an intake whose decisions the test makes by hand.
type door struct {
	*broker.Intake
	w       *world
	book    *sale.Book
	epoch   string
	product sale.ProductID
}

func (w *world) intake(t *testing.T, c *broker.Conn, g broker.Grouping) *door {
	t.Helper()
	return w.markedIntake(t, c, nil, g)
}

func (w *world) markedIntake(t *testing.T, c *broker.Conn, mark *broker.QueueMark, g broker.Grouping) *door {
	t.Helper()
	d := &door{w: w, book: sale.NewBook(1000), epoch: w.epoch(t), product: "shirt"}
	d.Intake = broker.NewIntake(c, d.book, broker.NewAnnouncer(c), mark, g)
	t.Cleanup(func() { _ = d.Close(within(t)) }) // a test that closes it looks at the error
	return d
}

// epoch is the queue's.
func (w *world) epoch(t *testing.T) string {
	t.Helper()
	s, err := w.admin(t).Stream(within(t), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	return s.CachedInfo().Config.Metadata["firstcome_epoch"]
}

func (d *door) place(t *testing.T, email string) {
	t.Helper()
	if err := d.Place(within(t), d.product, newOrder(email)); err != nil {
		t.Fatalf("%s: %v", email, err)
	}
}

// gather places an order that must wait for others. A caller who has gone does
// not take his order with him, so nothing blocks here.
func (d *door) gather(t *testing.T, email string) {
	t.Helper()
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if err := d.Place(gone, d.product, newOrder(email)); !errors.Is(err, sale.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Fatalf("%s did not wait: %v", email, err)
	}
}

// decide lets the message at seq be decided.
func (d *door) decide(t *testing.T, seq uint64) {
	t.Helper()
	head, last := d.book.Head(d.product)
	change := sale.OrdersTaken
	if head.N == 0 {
		change = sale.Created
	}
	link := &sale.Link{N: head.N + 1, Prev: head.Hash, Change: change, Stock: sale.Stock{Product: d.product},
		Queue: sale.Position{Epoch: d.epoch, Seq: seq}}
	if err := d.book.Apply(d.product, last+1, link.Encode()); err != nil {
		t.Fatal(err)
	}
	if now, _ := d.book.Head(d.product); now.N != link.N {
		t.Fatalf("link %d was not taken", link.N)
	}
}

// groups are the buyers in each message of the queue.
func (d *door) groups(t *testing.T) (groups [][]string) {
	t.Helper()
	ids := map[string]bool{}
	for _, m := range d.w.read(t, "ORDERS") {
		var emails []string
		for line := range strings.Lines(string(m.Data)) {
			var o struct{ Email string }
			if err := json.Unmarshal([]byte(line), &o); err != nil {
				t.Errorf("message %d has the line %q: %v", m.Seq, line, err)
			}
			emails = append(emails, o.Email)
		}
		if got := m.header.Get("Firstcome-Orders"); got != strconv.Itoa(len(emails)) {
			t.Errorf("message %d of %d orders says %q", m.Seq, len(emails), got)
		}
		id := m.header.Get("Nats-Msg-Id")
		if id == "" || ids[id] {
			t.Errorf("message %d has the id %q", m.Seq, id)
		}
		ids[id] = true
		groups = append(groups, emails)
	}
	return groups
}

func (d *door) wantGroups(t *testing.T, want ...string) {
	t.Helper()
	var got []string
	for _, g := range d.groups(t) {
		got = append(got, strings.ReplaceAll(strings.Join(g, " "), "@x.com", ""))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the queue holds %q, want %q", got, want)
	}
}

func TestOrdersGatherWhileGroupsAreUndecided(t *testing.T) {
	w := on(t, one)
	d := w.intake(t, w.sell(t, 5, "shirt"), broker.Grouping{MaxOrders: 4, MaxWait: ever, InFlight: 3})
	d.place(t, "a@x.com")                                   // alone and at once: nothing is undecided
	d.place(t, "b@x.com")                                   // as many as are undecided
	d.gather(t, "c@x.com")                                  // two are
	d.place(t, "d@x.com")                                   // and two are together
	d.gather(t, "e@x.com")                                  // four orders and three groups are undecided
	d.decide(t, 1)                                          // three orders in two groups
	d.gather(t, "f@x.com")                                  //
	d.place(t, "g@x.com")                                   // three are together
	d.gather(t, "h@x.com")                                  //
	d.gather(t, "i@x.com")                                  //
	d.decide(t, 3)                                          // 2 and 3 at once: three orders are undecided
	d.place(t, "j@x.com")                                   //
	d.gather(t, "k@x.com")                                  // six are undecided
	d.decide(t, 5)                                          // none is: released by a decision
	eventually(t, "k is stored", d.holds(t, 6))             // by now nobody waits for it
	d.wantGroups(t, "a", "b", "c d", "e f g", "h i j", "k") // in the order of arrival
}

// A few orders are not worth a group while others are undecided.
func TestSmallGroupsWait(t *testing.T) {
	w := on(t, one)
	d := w.intake(t, w.sell(t, 5, "shirt"), broker.Grouping{MaxOrders: 100, MaxWait: ever, InFlight: 3, Worth: 3})
	d.place(t, "a@x.com")
	d.gather(t, "b@x.com") // as many as are undecided, and not worth it
	d.gather(t, "c@x.com")
	d.place(t, "d@x.com")
	d.gather(t, "e@x.com")
	d.decide(t, 2) // nothing is undecided
	eventually(t, "e is stored", d.holds(t, 3))
	d.wantGroups(t, "a", "b c d", "e")
}

func TestFullGroupGoesAtOnce(t *testing.T) {
	w := on(t, one)
	d := w.intake(t, w.sell(t, 5, "shirt"), broker.Grouping{MaxOrders: 2, MaxWait: ever, InFlight: 1})
	d.place(t, "a@x.com")
	d.gather(t, "b@x.com")
	d.place(t, "c@x.com") // full, although a is undecided
	d.gather(t, "d@x.com")
	d.wantGroups(t, "a", "b c")
}

// holds tells whether the queue has stored so many messages.
func (d *door) holds(t *testing.T, messages uint64) func() bool {
	return func() bool {
		s, err := d.w.admin(t).Stream(within(t), "ORDERS")
		return err == nil && s.CachedInfo().State.LastSeq >= messages
	}
}

func TestGroupGoesWhenItsTimeIsUp(t *testing.T) {
	w := on(t, one)
	d := w.intake(t, w.sell(t, 5, "shirt"), broker.Grouping{MaxOrders: 100, MaxWait: 100 * time.Millisecond, InFlight: 1})
	d.place(t, "a@x.com")
	d.place(t, "b@x.com") // nobody decides anything
	d.place(t, "c@x.com")
	d.wantGroups(t, "a", "b", "c")
}

func TestProductsDoNotGatherTogether(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "shirt", "mug")
	shirt := w.intake(t, c, broker.Grouping{MaxOrders: 100, MaxWait: ever, InFlight: 1})
	mug := *shirt
	mug.product = "mug"
	shirt.place(t, "a@x.com")
	shirt.gather(t, "b@x.com")
	mug.place(t, "c@x.com") // its line is short
	shirt.wantGroups(t, "a", "c")
}

func TestPendingIsToldAfterTheQueueHasIt(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "shirt")
	type told struct {
		token, status string
		stored        uint64
	}
	heard := make(chan told, 10)
	js := w.admin(t)
	stop, err := w.connect(t).Subscribe(func(token string, status []byte) {
		s, err := js.Stream(within(t), "ORDERS")
		if err != nil {
			t.Error(err)
			return
		}
		heard <- told{token, string(status), s.CachedInfo().State.LastSeq}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stop() }()
	d := w.intake(t, c, broker.Grouping{MaxOrders: 2, MaxWait: ever, InFlight: 1})
	order := newOrder("a@x.com")
	if err := d.Place(within(t), "shirt", order); err != nil {
		t.Fatal(err)
	}
	d.gather(t, "b@x.com")
	d.place(t, "c@x.com")
	want := fmt.Sprintf(`{"id":"%s","product":"shirt","email":"a@x.com","quantity":1,"status":"pending",`+
		`"message":"Your order is in the queue","rev":0,"placed_at":"%s"}`, order.ID, order.PlacedAt.Format(time.RFC3339Nano))
	for i, token := range []string{"a=40x=2Ecom", "b=40x=2Ecom", "c=40x=2Ecom"} {
		select {
		case got := <-heard:
			if got.token != token || got.stored < uint64(min(i+1, 2)) {
				t.Errorf("%s was told with %d messages stored, want %s", got.token, got.stored, token)
			}
			if i == 0 && got.status != want {
				t.Errorf("the status is %s, want %s", got.status, want)
			}
		case <-within(t).Done():
			t.Fatalf("%s was told nothing", token)
		}
	}
}

func TestFullQueueRefuses(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		c := w.connect(t)
		layout := w.layout(5, "shirt")
		layout.MaxMessages = 3
		if err := broker.Provision(within(t), c, layout); err != nil {
			t.Fatal(err)
		}
		d := w.intake(t, c, broker.Grouping{MaxOrders: 1, MaxWait: ever, InFlight: 100})
		for i := range 3 {
			d.place(t, fmt.Sprintf("%d@x.com", i))
		}
		for range 2 {
			err := d.Place(within(t), "shirt", newOrder("late@x.com"))
			if !errors.Is(err, sale.ErrQueueFull) || errors.Is(err, sale.ErrUnavailable) {
				t.Errorf("the fourth of three says %v", err)
			}
		}
		q := broker.NewQueue(c, "shirt", broker.Witnesses{})
		defer q.Close()
		settle(t, comes(t, q, patience)) // its consumer may not have a leader yet
		eventually(t, "an acknowledged message makes room", func() bool {
			return d.Place(within(t), "shirt", newOrder("again@x.com")) == nil
		})
		if got := len(d.groups(t)); got != 3 {
			t.Errorf("the queue holds %d messages", got)
		}
	})
}

func TestNobodySellsIt(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 5, "shirt")
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	d := w.intake(t, c, broker.Grouping{MaxOrders: 1, MaxWait: ever, InFlight: 1})
	if err := d.Place(ctx, "mug", newOrder("a@x.com")); !errors.Is(err, sale.ErrUnavailable) || ctx.Err() != nil {
		t.Errorf("placing says %v", err)
	}
	if _, err := broker.Buy(ctx, c, "mug", newOrder("a@x.com")); !errors.Is(err, sale.ErrUnknownProduct) || ctx.Err() != nil {
		t.Errorf("buying says %v", err)
	}
	_, err := w.admin(t).Publish(ctx, "orders.mug", []byte(`{"email":"a@x.com"}`))
	if !errors.Is(err, jetstream.ErrNoStreamResponse) || ctx.Err() != nil {
		t.Errorf("publishing says %v", err)
	}
}

func TestCloseFlushesWhatHasGathered(t *testing.T) {
	w := on(t, one)
	d := w.intake(t, w.sell(t, 5, "shirt"), broker.Grouping{MaxOrders: 100, MaxWait: ever, InFlight: 1})
	d.place(t, "a@x.com")
	d.gather(t, "b@x.com")
	d.gather(t, "c@x.com")
	for range 2 {
		if err := d.Close(within(t)); err != nil {
			t.Fatal(err)
		}
		d.wantGroups(t, "a", "b c")
		if err := d.Place(within(t), "shirt", newOrder("late@x.com")); !errors.Is(err, sale.ErrUnavailable) {
			t.Errorf("a closed intake says %v", err)
		}
	}
	d.decide(t, 1)
	d.decide(t, 2)
	d.wantGroups(t, "a", "b c")
}
