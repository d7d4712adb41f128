package broker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
	"firstcome/internal/saletest"
)

// playMessages are the messages of the play, for any product: every outcome, both kinds
// of dead letters, and the desk, from a stock of four units of which a buyer may have
// two.
func playMessages(p sale.ProductID) []message {
	line := func(key, email string, quantity int) string {
		o := newOrder(email)
		o.ID, o.Quantity = sale.KeyedID(o.Email, p, key), quantity
		return string(o.AppendLine(nil))
	}
	first := line("1", "a@x.com", 1)
	return []message{
		{"orders.", first + "\n" + line("1", "b@x.com", 2)},
		{"orders.", "garbage\n" + line("1", "c@x.com", 2) + "\n" + first},
		{"orders.", `{"quantity":1}`},
		{"desk.", `{"do":"supply","units":1}` + "\n" + `{"do":"supply","units":-9}`},
		{"orders.", line("1", "d@x.com", 1) + "\n" + line("1", "e@x.com", 2) + "\n" + line("2", "b@x.com", 1)},
	}
}

type message struct{ prefix, data string }

const playHistory = `link 1, created: : 4 of 4 left
link 2, orders: a@x.com 1 accepted at 1, b@x.com 2 accepted at 2: 1 of 4 left
link 3, orders: c@x.com 2 sold_out at 3, a@x.com 1 duplicate at 0: 1 of 4 left
link 4, orders: : 1 of 4 left
link 5, desk: supply, supply not-enough: 2 of 5 left
link 6, orders: d@x.com 1 accepted at 4, e@x.com 2 sold_out at 5, b@x.com 1 limit_reached at 6: 1 of 5 left
`

// playCalls are the calls that a worker needs for the play, at least.
var playCalls = map[string]int{
	saletest.CallNext: 5, saletest.CallRead: 2, saletest.CallAppend: 5, saletest.CallAnnounce: 5,
	saletest.CallBury: 2, saletest.CallAck: 5,
}

// TestFaultsLeaveTheSameHistory lets every call of a worker on the real broker
// fail once, with its effect and without, and lets the process die before and
// after it (P1 to P5, P8).
func TestFaultsLeaveTheSameHistory(t *testing.T) {
	w := on(t, one)
	type trial struct {
		product sale.ProductID
		call    string
		nth     int
		fault   saletest.Fault
	}
	trials := []trial{{product: "calm"}}
	for call, times := range playCalls {
		faults := []saletest.Fault{saletest.LoseWrite, saletest.LoseReply, saletest.CrashBefore, saletest.CrashAfter}
		if call == saletest.CallAck || call == saletest.CallAnnounce {
			faults = append(faults, saletest.LoseQuietly)
		}
		for nth := range times {
			for _, fault := range faults {
				p := sale.ProductID(fmt.Sprintf("%s-%d-%d", strings.ToLower(call), nth+1, fault))
				trials = append(trials, trial{p, call, nth + 1, fault})
			}
		}
	}
	layout := w.layout(4)
	for _, trial := range trials {
		layout.Products = append(layout.Products, broker.Product{ID: trial.product, Supply: 4, LimitPerBuyer: 2})
	}
	c := w.connect(t)
	if err := broker.Provision(within(t), c, layout); err != nil {
		t.Fatal(err)
	}
	js := w.admin(t)
	for _, trial := range trials {
		for _, m := range playMessages(trial.product) {
			if _, err := js.PublishAsync(m.prefix+string(trial.product), []byte(m.data)); err != nil {
				t.Fatal(err)
			}
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-within(t).Done():
		t.Fatal("not everything was published")
	}
	// One instance stays and takes over whatever another one leaves.
	survivor, dying := w.connect(t), w.connect(t)
	stays := follow(t, survivor)
	stays.caughtUp(t)

	ctx, cancel := context.WithCancel(context.Background())
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()
	run := func(ctx context.Context, worker *sale.Worker, q *broker.Queue) {
		worker.Run(ctx)
		q.Close()
		_ = q.Unpin(within(t)) // as if the dead one's pin had run out
	}
	var faults []*saletest.Faults
	for _, trial := range trials {
		f := &saletest.Faults{}
		calls := map[string]int{}
		f.Plan = func(_ int, call string) saletest.Fault {
			if calls[call]++; call == trial.call && calls[call] == trial.nth {
				return trial.fault
			}
			return saletest.Pass
		}
		life, die := context.WithCancel(ctx)
		f.OnCrash = die
		faults = append(faults, f)
		first, q := newWorker(dying, trial.product, sale.NewBook(100)) // without a feed
		first.Queue, first.History = f.Queue(q), f.History(first.History)
		first.DeadLetters, first.Announcer = f.DeadLetters(first.DeadLetters), f.Announcer(first.Announcer)
		second, secondQueue := newWorker(survivor, trial.product, stays.book)
		workers.Go(func() {
			defer die()
			run(life, first, q)
			if ctx.Err() == nil {
				run(ctx, second, secondQueue)
			}
		})
	}
	const links = 6
	eventually(t, "everything is decided", func() bool {
		return !slices.ContainsFunc(trials, func(tr trial) bool { return stays.links(tr.product) < links })
	})
	w.wantDrained(t)

	letters := map[sale.ProductID][]string{}
	for _, l := range w.letters(t) {
		letters[l.Product] = append(letters[l.Product], fmt.Sprintf("line %d %q", l.Line, l.Raw))
	}
	values := w.read(t, "KV_stock")
	for i, trial := range trials {
		what := fmt.Sprintf("%s %d, fault %d (calls: %s)", trial.call, trial.nth, trial.fault, strings.Join(faults[i].Calls(), " "))
		history, foreign := history(t, values, trial.product)
		if history != playHistory || foreign != 0 {
			t.Errorf("%s: %d foreign values, and the history is\n%s", what, foreign, history)
		}
		if got := strings.Join(letters[trial.product], ", "); got != `line 1 "garbage", line 1 "{\"quantity\":1}"` {
			t.Errorf("%s: the dead letters are %s", what, got)
		}
		if trial.call != "" && !slices.Contains(faults[i].Calls(), trial.call) {
			t.Errorf("%s: no such call", what)
		}
	}
}

// history shows what the bucket holds of a product.
func history(t testing.TB, values []stored, p sale.ProductID) (history string, foreign int) {
	t.Helper()
	links, foreign := chain(t, values, p)
	for _, l := range links {
		history += linkString(l)
	}
	return history, foreign
}

// wantDrained waits until every message was acknowledged.
func (w *world) wantDrained(t testing.TB) {
	t.Helper()
	js := w.admin(t)
	eventually(t, "the queue is empty", func() bool {
		s, err := js.Stream(within(t), "ORDERS")
		return err == nil && s.CachedInfo().State.Msgs == 0
	})
}

// A message that is redelivered after what the desk said meanwhile is decided before it,
// and again where the next instance dies, too (P2, P4).
func TestRestockBetweenCrashAndRedelivery(t *testing.T) {
	w := on(t, one)
	type trial struct {
		product sale.ProductID
		crashes [2]saletest.Fault
		calls   [2]string
	}
	var trials []trial
	for _, first := range []string{saletest.CallAppend, saletest.CallAck} {
		for _, second := range []string{saletest.CallAppend, saletest.CallAck} {
			for _, fault := range []saletest.Fault{saletest.CrashBefore, saletest.CrashAfter} {
				p := sale.ProductID(fmt.Sprintf("p%d", len(trials)))
				trials = append(trials, trial{p, [2]saletest.Fault{fault, saletest.CrashBefore}, [2]string{first, second}})
			}
		}
	}
	var products []sale.ProductID
	for _, trial := range trials {
		products = append(products, trial.product)
	}
	w.sell(t, 1, products...)
	var all sync.WaitGroup
	defer all.Wait()
	for _, trial := range trials {
		c, js := w.connect(t), w.admin(t)
		all.Go(func() {
			p := trial.product
			publish(t, js, p, lines([]sale.Order{newOrder("a@x.com"), newOrder("b@x.com")}))
			for n, call := range trial.calls {
				dieAt(t, c, p, call, trial.crashes[n])
				publishTo(t, js, "desk."+string(p), []byte(`{"do":"supply","units":1}`))
			}
			publish(t, js, p, lines([]sale.Order{newOrder("c@x.com")}))
			stop := workOn(t, c, p, sale.NewBook(100))
			waitDrained(t, js, p)
			stop()
			const want = `link 1, created: : 1 of 1 left
link 2, orders: a@x.com 1 accepted at 1, b@x.com 1 sold_out at 2: 0 of 1 left
link 3, desk: supply: 1 of 2 left
link 4, desk: supply: 2 of 3 left
link 5, orders: c@x.com 1 accepted at 3: 1 of 3 left
`
			if history, foreign := history(t, w.read(t, "KV_stock"), p); history != want || foreign != 0 {
				t.Errorf("%+v: %d foreign values, and the history is\n%s", trial, foreign, history)
			}
		})
	}
}

// dieAt runs a worker until it dies at its first such call.
func dieAt(t testing.TB, c *broker.Conn, p sale.ProductID, call string, fault saletest.Fault) {
	t.Helper()
	ctx, die := context.WithCancel(within(t))
	defer die()
	f := &saletest.Faults{OnCrash: die, Plan: func(_ int, now string) saletest.Fault {
		if now == call {
			return fault
		}
		return saletest.Pass
	}}
	worker, q := newWorker(c, p, sale.NewBook(100))
	worker.Queue, worker.History = f.Queue(q), f.History(worker.History)
	worker.Run(ctx)
	q.Close()
	_ = q.Unpin(within(t)) // as if its pin had run out
}

// waitDrained waits until every message of one product was acknowledged.
func waitDrained(t testing.TB, js jetstream.JetStream, p sale.ProductID) {
	t.Helper()
	stream, err := js.Stream(within(t), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, string(p)+" is drained", func() bool {
		info, err := stream.Info(within(t), jetstream.WithSubjectFilter("*."+string(p)))
		return err == nil && len(info.State.Subjects) == 0
	})
}
