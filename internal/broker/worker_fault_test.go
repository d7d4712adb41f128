package broker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
	"firstcome/internal/saletest"
)

// The messages of the play, for any product: every outcome and both kinds of dead
// letters, from a stock of four units of which a buyer may have two.
func playMessages(p sale.ProductID) [][]byte {
	line := func(key, email string, quantity int) string {
		o := newOrder(email)
		o.ID, o.Quantity = sale.KeyedID(o.Email, p, key), quantity
		return string(o.AppendLine(nil))
	}
	first := line("1", "a@x.com", 1)
	return [][]byte{
		[]byte(first + "\n" + line("1", "b@x.com", 2)),
		[]byte("garbage\n" + line("1", "c@x.com", 2) + "\n" + first),
		[]byte(`{"quantity":1}`),
		[]byte(line("1", "d@x.com", 1) + "\n" + line("1", "e@x.com", 1) + "\n" + line("2", "b@x.com", 1)),
	}
}

const playHistory = `entry 1: a@x.com 1 accepted at 1, b@x.com 2 accepted at 2: 1 of 4 left
entry 2: c@x.com 2 sold_out at 3, a@x.com 1 duplicate at 0: 1 of 4 left
entry 3: d@x.com 1 accepted at 4, e@x.com 1 sold_out at 5, b@x.com 1 limit_reached at 6: 0 of 4 left
`

// playCalls are the calls that a worker needs for the play, at least.
var playCalls = map[string]int{
	saletest.CallNext: 4, saletest.CallLoad: 1, saletest.CallReplace: 3, saletest.CallAppend: 3, saletest.CallAnnounce: 3,
	saletest.CallBury: 2, saletest.CallAck: 4,
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
	layout := w.layout(t, 4)
	for _, trial := range trials {
		stock, err := sale.NewStock(trial.product, 4, 2)
		if err != nil {
			t.Fatal(err)
		}
		layout.Products = append(layout.Products, stock)
	}
	c := w.connect(t)
	if err := broker.Provision(within(t), c, layout); err != nil {
		t.Fatal(err)
	}
	js := w.admin(t)
	for _, trial := range trials {
		for _, data := range playMessages(trial.product) {
			if _, err := js.PublishAsync("orders."+string(trial.product), data); err != nil {
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
	stays := follow(t, w.connect(t))
	stays.caughtUp(t)
	survivor := newCrew(t, w.connect(t))
	dying := newCrew(t, w.connect(t))

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
		book := sale.NewBook(100) // of its own, with its own decisions only
		first := dying.worker(trial.product, book, book.Entries)
		q := first.Queue.(*broker.Queue)
		first.Queue, first.Stocks, first.Ledger = f.Queue(q), f.Stocks(first.Stocks), f.Ledger(first.Ledger)
		first.DeadLetters, first.Announcer = f.DeadLetters(first.DeadLetters), f.Announcer(first.Announcer)
		second := survivor.worker(trial.product, stays.book, stays.shop.Entries)
		workers.Go(func() {
			defer die()
			run(life, first, q)
			if ctx.Err() == nil {
				run(ctx, second, second.Queue.(*broker.Queue))
			}
		})
	}
	eventually(t, "everything is decided", func() bool {
		return !slices.ContainsFunc(trials, func(tr trial) bool { return stays.book.Entries(tr.product) < 3 })
	})
	eventually(t, "the queue is empty", func() bool {
		s, err := js.Stream(within(t), "ORDERS")
		return err == nil && s.CachedInfo().State.Msgs == 0
	})
	eventually(t, "the ledger is written", func() bool {
		s, err := js.Stream(within(t), "LEDGER")
		return err == nil && s.CachedInfo().State.Msgs >= uint64(3*len(trials))
	})

	history := map[sale.ProductID]string{}
	for _, m := range w.read(t, "LEDGER") {
		e, err := sale.DecodeEntry(m.Data)
		if err != nil {
			t.Fatal(err)
		}
		history[e.Product] += entryString(e)
	}
	letters := map[sale.ProductID][]string{}
	for _, l := range w.letters(t) {
		letters[l.Product] = append(letters[l.Product], fmt.Sprintf("line %d %q", l.Line, l.Raw))
	}
	for i, trial := range trials {
		what := fmt.Sprintf("%s %d, fault %d (calls: %s)", trial.call, trial.nth, trial.fault, strings.Join(faults[i].Calls(), " "))
		if got := history[trial.product]; got != playHistory {
			t.Errorf("%s: the history is\n%s", what, got)
		}
		if got := strings.Join(letters[trial.product], ", "); got != `line 1 "garbage", line 1 "{\"quantity\":1}"` {
			t.Errorf("%s: the dead letters are %s", what, got)
		}
		if stock, _, err := openStocks(t, c).Load(within(t), trial.product); err != nil || stock.Available != 0 || stock.Sold != 4 || stock.Entries != 3 {
			t.Errorf("%s: the stock is %+v, %v", what, stock, err)
		}
		if trial.call != "" && !slices.Contains(faults[i].Calls(), trial.call) {
			t.Errorf("%s: no such call", what)
		}
	}
	wantFindings(t, w)
}

func entryString(e *sale.Entry) string {
	var orders []string
	for _, o := range e.Orders {
		orders = append(orders, fmt.Sprintf("%s %d %s at %d", o.Email, o.Quantity, o.Outcome, o.Place))
	}
	return fmt.Sprintf("entry %d: %s: %d of %d left\n", e.N, strings.Join(orders, ", "), e.Available, e.Supplied)
}
