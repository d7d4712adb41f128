package broker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"firstcome/internal/sale"
)

// Values that are written, deleted, reverted and forged by hand at random moments of a
// flow of orders change nothing: every order is decided once, in order, by the rule
// (P2, P4, P8), while one instance takes over from another.
func TestValuesByHandChangeNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		const orders = 80
		c := w.sell(t, 30, "shirt", "mug")
		kv, js := w.bucket(t), w.admin(t)
		readers := []*reader{follow(t, w.connect(t)), follow(t, w.connect(t))}
		stop := w.work(t, "shirt")
		moments := make(chan struct{}, orders) // at which something is written
		ended := sync.OnceFunc(func() { close(moments) })
		known := newFold(c, "shirt")
		var writing sync.WaitGroup
		writing.Go(func() {
			random := rand.New(rand.NewPCG(7, 7))
			for range moments {
				known.advance(t)
				var value []byte
				switch random.IntN(6) {
				case 0:
					value = []byte("garbage")
				case 1:
					if err := kv.Delete(within(t), "shirt"); err != nil {
						t.Error(err)
					}
					continue
				case 2:
					value = known.links[0]
				case 3:
					value = known.links[len(known.links)-1]
				case 4:
					value = wrongPrevAfter(t, known.head)
				case 5:
					// As a program would: it may lose against the worker, or the worker against it.
					_, _ = kv.Update(within(t), "shirt", wrongPrevAfter(t, known.head), uint64(known.last))
					continue
				}
				put(t, kv, "shirt", value)
			}
		})
		defer writing.Wait()
		defer ended()
		var placed []sale.OrderID
		for i := range orders {
			o := newOrder(fmt.Sprintf("a%d@x.com", i))
			placed = append(placed, o.ID)
			publishOrders(t, js, "shirt", o)
			if i%2 == 0 {
				moments <- struct{}{}
			}
			switch i {
			case orders / 3:
				stop()
				stop = w.work(t, "shirt")
			case orders / 2:
				publishTo(t, js, "desk.shirt", []byte(`{"do":"supply","units":10}`))
			}
		}
		waitDrained(t, js, "shirt")
		ended()
		writing.Wait()
		links, foreign := w.chain(t, "shirt")
		if foreign == 0 || len(links) != 1+orders+1 {
			t.Fatalf("%d links, %d foreign values", len(links), foreign)
		}
		n := 0
		for _, link := range links {
			for _, o := range link.Orders {
				if o.ID != placed[n] || o.Place != uint64(n+1) || (o.Outcome == sale.Accepted) != (n < 30 || n > orders/2 && n <= orders/2+10) {
					t.Fatalf("order %d is %s at %d, %s; want %s", n, o.ID, o.Place, o.Outcome, placed[n])
				}
				n++
			}
		}
		if last := links[len(links)-1]; n != orders || last.Supplied != 40 || last.Available != 0 {
			t.Errorf("%d orders are decided, and the stock is %+v", n, last.Stock)
		}
		if link := newest(t, c, "shirt"); link.N != uint64(len(links)) {
			t.Errorf("the newest link is said to be %d of %d", link.N, len(links))
		}
		for _, r := range readers {
			r.caughtUp(t)
			if p, _ := r.book.Product("shirt"); p.N != uint64(len(links)) || p.Sold != 40 || r.book.Foreign("shirt") != uint64(foreign) {
				t.Errorf("a book is at link %d with %d sold, and counts %d of %d foreign values", p.N, p.Sold, r.book.Foreign("shirt"), foreign)
			}
		}
	})
}

// A forged next value with a wrong prev, right where a worker is to append, is passed
// over: the worker that looked at its number alone would go on from it.
func TestForgedNextValueIsPassedOver(t *testing.T) {
	w := on(t, one)
	c := w.sell(t, 1, "shirt")
	kv, js := w.bucket(t), w.admin(t)
	for range 2 { // before the worker knows the product, and behind its back
		put(t, kv, "shirt", wrongPrev(t, c, "shirt"))
	}
	workOn(t, c, "shirt", sale.NewBook(10)) // without a feed
	for i := range 3 {
		publishOrders(t, js, "shirt", newOrder(fmt.Sprintf("a%d@x.com", i)))
		waitDrained(t, js, "shirt")
		put(t, kv, "shirt", wrongPrev(t, c, "shirt"))
	}
	links, foreign := w.chain(t, "shirt")
	if last := links[len(links)-1]; len(links) != 4 || foreign != 5 || last.Supplied != 1 || last.Sold != 1 || last.Decided != 3 {
		t.Errorf("%d links, %d foreign values, and the stock is %+v", len(links), foreign, last.Stock)
	}
}

// An instance that hears nothing goes on by the leader's word alone, also from where
// another one has left.
func TestDeafInstanceDecides(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.sell(t, 3, "shirt")
		g := w.gate()
		c := dial(t, w.options(t, g))
		deaf := follow(t, c)
		deaf.caughtUp(t)
		g.losing(isCopy)
		js := w.admin(t)
		for i := range 6 {
			stop := func() {}
			if i%2 == 0 {
				stop = workOn(t, c, "shirt", deaf.book)
			} else {
				stop = w.work(t, "shirt")
			}
			publishOrders(t, js, "shirt", newOrder(fmt.Sprintf("a%d@x.com", i)))
			waitDrained(t, js, "shirt")
			stop()
		}
		links, foreign := w.chain(t, "shirt")
		if last := links[len(links)-1]; len(links) != 7 || foreign != 0 || last.Sold != 3 || last.Decided != 6 {
			t.Errorf("%d links, %d foreign values, and the stock is %+v", len(links), foreign, last.Stock)
		}
		// And behind the back of one that goes on deciding.
		other := w.connect(t)
		workOn(t, c, "shirt", deaf.book)
		for i := range 3 {
			appendLink(t, other, "shirt", newest(t, other, "shirt").Queue)
			publishOrders(t, js, "shirt", newOrder(fmt.Sprintf("b%d@x.com", i)))
			waitDrained(t, js, "shirt")
		}
		if links, foreign := w.chain(t, "shirt"); len(links) != 13 || foreign != 0 || links[12].Decided != 9 {
			t.Errorf("%d links, %d foreign values", len(links), foreign)
		}
		if g.lost() == 0 {
			t.Error("it was not deaf")
		}
	})
}

// A message without a good line is a link, too: it is settled, and what it held is
// buried (P3, P5).
func TestMessageWithoutAGoodLine(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.sell(t, 3, "shirt")
		w.work(t, "shirt")
		js := w.admin(t)
		var seqs []uint64
		for _, m := range []message{{"orders.", "garbage"}, {"desk.", "garbage\n{}"}, {"orders.", ""}, {"desk.", `{"email":"a@x.com"}`}, {"orders.", `{"do":"supply","units":1}`}} {
			seqs = append(seqs, publishTo(t, js, m.prefix+"shirt", []byte(m.data)))
		}
		waitDrained(t, js, "shirt")
		links, foreign := w.chain(t, "shirt")
		if len(links) != 1+len(seqs) || foreign != 0 {
			t.Fatalf("%d links, %d foreign values", len(links), foreign)
		}
		for i, seq := range seqs {
			change := []sale.Change{sale.OrdersTaken, sale.DeskTaken}[i%2]
			if l := links[i+1]; l.Queue.Seq != seq || l.Change != change || len(l.Orders)+len(l.Desk) > 0 || l.Available != 3 {
				t.Errorf("message %d has link %+v", seq, l)
			}
		}
		if letters := w.letters(t); len(letters) != 6 {
			t.Errorf("%d dead letters", len(letters))
		}
	})
}

// A worker that the queue's witnesses stop says so, and decides nothing (P3).
func TestWorkerIsStuckWhereWitnessesDisagree(t *testing.T) {
	w := on(t, one)
	w.sell(t, 9, "shirt")
	w.decided(t, 4)
	w.restored(t, 2)
	js := w.admin(t)
	publishOrders(t, js, "shirt", newOrder("late@x.com"))
	c := w.connect(t)
	worker, q := newWorker(c, "shirt", sale.NewBook(10))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { worker.Run(ctx) })
	eventually(t, "the worker is stuck", func() bool { return worker.Stuck() != nil })
	cancel()
	running.Wait()
	leave(t, q)
	if links, _ := w.chain(t, "shirt"); len(links) != 2 {
		t.Errorf("%d links are stored", len(links))
	}
	if left := w.queued(t)(); left != 1 {
		t.Errorf("%d messages are left", left)
	}
}
