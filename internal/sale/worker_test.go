package sale_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"firstcome/internal/sale"
	"firstcome/internal/saletest"
)

// wantStuck wants the queue to stay as it is: the worker cannot go on, and says
// so, and loses nothing (P3).
func wantStuck(t *testing.T, s *shop, i *instance, why string) {
	t.Helper()
	before := s.left()
	time.Sleep(time.Minute)
	if err := i.worker.Stuck(); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("the worker says %v, want something of %q", err, why)
	}
	if left := s.left(); left != before {
		t.Errorf("%d of %d messages are left", left, before)
	}
}

// left is how many messages are in the queue.
func (s *shop) left() uint64 {
	queued := s.orders.State().Queued[product]
	if queued == nil {
		return 0
	}
	return queued.Len()
}

// decided is a shop that settled one order, and its next order's line.
func decided(t *testing.T) (s *shop, next []byte) {
	s = newShop(t, &scenario{supplied: 5})
	i := s.start(&saletest.Faults{}, newBook())
	s.orders.Publish(product, []byte(line(1, 1, 1)))
	s.orders.Publish(product, []byte(line(2, 2, 1)))
	if err := s.drained(i); err != nil {
		t.Fatal(err)
	}
	i.stop()
	return s, []byte(line(3, 3, 1))
}

func TestQueueThatForgotItsSequencesLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, next := decided(t)
		i := s.start(&saletest.Faults{}, newBook())
		s.orders.Recreate(epoch) // from a backup: the same stream begins again
		s.orders.Publish(product, []byte(line(2, 2, 1)))
		if err := s.drained(i); err != nil { // decided long ago
			t.Fatal(err)
		}
		s.orders.Recreate(epoch)
		s.orders.Publish(product, next)
		wantStuck(t, s, i, "sequences went back")
	})
}

func TestStockThatLiesIsNotBuiltOn(t *testing.T) {
	for why, lie := range map[string]func(*sale.Stock){
		"hashes to":    func(stock *sale.Stock) { stock.Last.Orders[0].Quantity++ },
		"the book is":  func(stock *sale.Stock) { stock.Entries = 1 },
		"another entr": func(stock *sale.Stock) { stock.Last.Epoch = nextEpoch; seal(stock) },
		"waiting for":  func(stock *sale.Stock) { stock.Entries, stock.Last.N = 9, 9; seal(stock) },
	} {
		t.Run(why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, next := decided(t)
				stock, _, err := s.stocks.Load(context.Background(), product)
				if err != nil {
					t.Fatal(err)
				}
				lie(&stock)
				s.stocks.Seed(stock)
				s.orders.Publish(product, next)
				wantStuck(t, s, s.start(&saletest.Faults{}, newBook()), why)
			})
		})
	}
}

// seal makes the carried entry's hash true again.
func seal(stock *sale.Stock) { stock.LedgerHead = hashOf(stock.Entry().Encode()) }

func TestStuckUntilTheStoreIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, &scenario{supplied: 5})
		back := time.Now().Add(3 * time.Minute)
		i := s.start(&saletest.Faults{Plan: func(_ int, call string) saletest.Fault {
			if call == saletest.CallReplace && time.Now().Before(back) {
				return saletest.LoseWrite
			}
			return saletest.Pass
		}}, newBook())
		if err := i.worker.Stuck(); err != nil {
			t.Errorf("stuck before anything happened: %v", err)
		}
		s.orders.Publish(product, []byte(line(1, 1, 1)))
		wantStuck(t, s, i, "injected fault")
		if err := s.drained(i); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := i.worker.Stuck(); err != nil {
			t.Errorf("still stuck: %v", err)
		}
	})
}

// A queue that cannot be read for longer than an election takes stops the product,
// until it can be read again (P5).
func TestQueueOutOfReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, &scenario{supplied: 5})
		back := time.Now().Add(time.Minute)
		i := s.start(&saletest.Faults{Plan: func(_ int, call string) saletest.Fault {
			if call == saletest.CallNext && time.Now().Before(back) {
				return saletest.LoseWrite
			}
			return saletest.Pass
		}}, newBook())
		time.Sleep(8 * time.Second)
		if err := i.worker.Stuck(); err != nil {
			t.Errorf("stuck after a moment: %v", err)
		}
		time.Sleep(8 * time.Second)
		if err := i.worker.Stuck(); err == nil {
			t.Error("not stuck")
		}
		time.Sleep(2 * time.Minute) // and nothing to do
		if err := i.worker.Stuck(); err != nil {
			t.Errorf("still stuck: %v", err)
		}
	})
}

// Slow work is reported as in progress, so nobody else gets the message, and each
// message takes its time.
func TestProcessingTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, &scenario{supplied: 5})
		began := time.Now()
		for n := range 3 {
			s.orders.Publish(product, []byte(line(n, n, 1)))
		}
		i, other := s.slow(3*ackWait), s.slow(3*ackWait)
		if err := s.drained(i); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 9*ackWait || took > 10*ackWait {
			t.Errorf("three messages took %v", took)
		}
		i.stop()
		other.stop()
		if n := s.observer.redelivered.Load(); n != 0 {
			t.Errorf("%d messages were redelivered", n)
		}
		if n := s.observer.decided.Load(); n != 3 {
			t.Errorf("%d messages were decided", n)
		}
	})
}

// A worker that is told to stop finishes the message in hand, and takes no other.
func TestStopFinishesTheMessageInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, &scenario{supplied: 5})
		s.orders.Publish(product, []byte(line(1, 1, 1)))
		s.orders.Publish(product, []byte(line(2, 2, 1)))
		i := s.slow(2 * time.Second)
		time.Sleep(time.Second)
		began := time.Now()
		i.stop()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("stopping took %v", took)
		}
		if n := len(s.ledger.Entries(product)); n != 1 {
			t.Errorf("the ledger has %d entries", n)
		}
		if left := s.left(); left != 1 {
			t.Errorf("%d messages are left in the queue", left)
		}
	})
}

// slow starts a worker whose messages take a while.
func (s *shop) slow(d time.Duration) *instance {
	return s.startWith(product, &saletest.Faults{}, newBook(), func(w *sale.Worker) { w.ProcessingTime = d })
}

// A take-over by an instance that followed all along waits for nothing but the
// redelivery.
func TestTakeOverIsWarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, &scenario{supplied: 5})
		dying := s.start(&saletest.Faults{Plan: at(4, saletest.CrashBefore)}, newBook())
		s.orders.Publish(product, []byte(line(1, 1, 1)))
		<-dying.done
		began := time.Now()
		other := s.start(&saletest.Faults{}, newBook())
		if err := s.drained(other); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > ackWait+time.Second {
			t.Errorf("the take-over took %v", took)
		}
		if n := s.observer.redelivered.Load(); n != 1 {
			t.Errorf("%d messages were redelivered", n)
		}
	})
}

// A worker that stood still while its message was decided by another one, and the
// queue was replaced and went on, wakes up to a message that is settled (P2).
func TestStaleMessageOfAnOldQueueIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, &scenario{supplied: 5})
		once := true
		stale := s.start(&saletest.Faults{Freeze: func(_ int, call string) (before, after time.Duration) {
			if call == saletest.CallReplace && once {
				once, before = false, time.Minute
			}
			return before, 0
		}}, newBook())
		s.orders.Publish(product, []byte(line(1, 1, 1)))
		synctest.Wait()
		other := s.start(&saletest.Faults{}, newBook())
		if err := s.drained(other); err != nil {
			t.Fatal(err)
		}
		s.orders.Recreate(nextEpoch)
		s.orders.Publish(product, []byte(line(2, 2, 1)))
		if err := s.drained(other); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		stale.stop()
		other.stop()
		if h := s.history(stale.book); h.outcomes != "accepted | accepted" {
			t.Errorf("the ledger says %s", h.outcomes)
		}
	})
}

// An entry that a crash kept out of the ledger, acknowledged as its message is, is
// written although the book knew it from the stock value before any worker
// looked (P8).
func TestEntryLeftBehindIsWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, &scenario{supplied: 5})
		dying := s.start(&saletest.Faults{Plan: func(_ int, call string) saletest.Fault {
			if call == saletest.CallAppend {
				return saletest.LoseWrite
			}
			return saletest.Pass
		}}, newBook())
		s.orders.Publish(product, []byte(line(1, 1, 1)))
		if err := s.orders.Drained(t.Context()); err != nil {
			t.Fatal(err)
		}
		dying.stop()
		if n := len(s.ledger.Entries(product)); n != 0 {
			t.Fatalf("%d entries were written", n)
		}
		book := newBook()
		stock, _, err := s.stocks.Load(t.Context(), product)
		if err == nil {
			err = book.Apply(stock.Entry())
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := s.drained(s.start(&saletest.Faults{}, book)); err != nil {
			t.Fatal(err)
		}
	})
}

// One who stands by leaves the ledger to the one who decides, who is slower to
// write than the stand-by looks.
func TestStandbyDoesNotMeddle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, &scenario{supplied: 100})
		decider := s.slow(2 * time.Second)
		standby := &saletest.Faults{}
		s.startWith(product, standby, newBook(), func(w *sale.Worker) { w.Queue = pinnedElsewhere{} })
		for n := range 20 {
			s.orders.Publish(product, []byte(line(n, n, 1)))
		}
		if err := s.drained(decider); err != nil {
			t.Fatal(err)
		}
		if calls := standby.Calls(); len(calls) > 0 {
			t.Errorf("the stand-by called %v", calls)
		}
	})
}

// pinnedElsewhere is a queue that gives its messages to another one.
type pinnedElsewhere struct{}

func (pinnedElsewhere) Next(ctx context.Context) (sale.Delivery, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A swap that takes effect and seems to fail counts as the decision that it is.
func TestDecisionIsCountedOnce(t *testing.T) {
	for _, fault := range []saletest.Fault{saletest.Pass, saletest.LoseReply, saletest.LoseWrite} {
		synctest.Test(t, func(t *testing.T) {
			s := newShop(t, &scenario{supplied: 5})
			first := true
			i := s.start(&saletest.Faults{Plan: func(_ int, call string) saletest.Fault {
				if call == saletest.CallReplace && first {
					first = false
					return fault
				}
				return saletest.Pass
			}}, newBook())
			s.orders.Publish(product, []byte(line(1, 1, 1)))
			if err := s.drained(i); err != nil {
				t.Fatal(err)
			}
			i.stop()
			if n := s.observer.decided.Load(); n != 1 {
				t.Errorf("fault %d: counted %d times", fault, n)
			}
		})
	}
}
