package sale_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
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
	before := len(s.orders.Left(product))
	time.Sleep(time.Minute)
	if err := i.worker.Stuck(); err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("the worker says %v, want something of %q", err, why)
	}
	if left := len(s.orders.Left(product)); left != before {
		t.Errorf("%d of %d messages are left", left, before)
	}
}

func TestQueueThatForgotItsSequencesLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, &scenario{supplied: 5})
		i := s.start(&saletest.Faults{}, newBook())
		s.publish(line(1, 1, 1), desk(supply(91, 1)), line(2, 2, 1))
		if err := s.drained(i); err != nil {
			t.Fatal(err)
		}
		for _, decided := range []string{line(2, 2, 1), desk(supply(91, 1))} {
			s.orders.Recreate(epoch) // from a backup: the same stream begins again
			s.publish(decided)       // long ago
			if err := s.drained(i); err != nil {
				t.Fatal(err)
			}
		}
		i.stop()
		for _, undecided := range []string{line(3, 3, 1), desk(supply(91, 1), supply(92, 1))} {
			s.orders.Recreate(epoch)
			s.publish(undecided)
			i := s.start(&saletest.Faults{}, newBook())
			wantStuck(t, s, i, "sequences went back")
			i.stop()
		}
	})
}

func TestStuckUntilTheStoreIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, &scenario{supplied: 5})
		back := time.Now().Add(3 * time.Minute)
		i := s.start(&saletest.Faults{Plan: func(_ int, call string) saletest.Fault {
			if call == saletest.CallAppend && time.Now().Before(back) {
				return saletest.LoseWrite
			}
			return saletest.Pass
		}}, newBook())
		if err := i.worker.Stuck(); err != nil {
			t.Errorf("stuck before anything happened: %v", err)
		}
		s.publish(line(1, 1, 1))
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

// A queue whose holder finds that queue and history contradict each other stops the
// product at once, and until they do not.
func TestQueueThatIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, &scenario{supplied: 5})
		q := &behind{}
		err := sale.Witness{Epoch: epoch, Acked: 9, Last: 9}.Check(sale.Position{Epoch: epoch, Seq: 7})
		q.err.Store(&err)
		i := s.startWith(product, &saletest.Faults{}, newBook(), func(w *sale.Worker) { q.Queue, w.Queue = w.Queue, q })
		synctest.Wait() // no patience: it takes an operator
		if err := i.worker.Stuck(); !errors.Is(err, sale.ErrBehind) {
			t.Errorf("the worker says %v", err)
		}
		s.publish(line(1, 1, 1))
		wantStuck(t, s, i, "2 more: run firstcome repair")
		q.err.Store(nil)
		if err := s.drained(i); err != nil {
			t.Fatal(err)
		}
		if err := i.worker.Stuck(); err != nil {
			t.Errorf("still stuck: %v", err)
		}
	})
}

// behind is a queue that gives nothing out while it has an error.
type behind struct {
	sale.Queue
	err atomic.Pointer[error]
}

func (q *behind) Next(ctx context.Context) (sale.Delivery, error) {
	if err := q.err.Load(); err != nil {
		return nil, *err
	}
	return q.Queue.Next(ctx)
}

// A repaired queue has another epoch and the same sequences: what waits in it is
// decided once, also where it was decided and not acknowledged before the repair.
func TestRepairedQueue(t *testing.T) {
	for _, fault := range []saletest.Fault{saletest.CrashBefore, saletest.CrashAfter} {
		synctest.Test(t, func(t *testing.T) {
			s := newShop(t, &scenario{supplied: 2})
			s.publish(line(1, 1, 1), desk(supply(91, 1)), line(2, 2, 1), line(3, 3, 1), line(4, 4, 1))
			dying := s.start(&saletest.Faults{Plan: func(_ int, call string) saletest.Fault {
				if _, all := s.newest(); call == saletest.CallAppend && len(all) == 3 {
					return fault // at the second order
				}
				return saletest.Pass
			}}, newBook())
			<-dying.done
			s.orders.Repair(nextEpoch)
			i := s.start(&saletest.Faults{}, dying.book)
			if err := s.drained(i); err != nil {
				t.Fatal(err)
			}
			i.stop()
			s.published = nil
			want := map[saletest.Fault]string{saletest.CrashBefore: "accepted | supply | accepted | accepted | sold_out",
				saletest.CrashAfter: "accepted | supply | accepted | duplicate | accepted | sold_out"}[fault]
			if r := s.record(i.book); r.outcomes != want {
				t.Errorf("the history says %s", r.outcomes)
			}
		})
	}
}

// A message costs one append and nothing is read, as long as nobody else decides.
func TestOneWriteAMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, &scenario{supplied: 5})
		f := &saletest.Faults{}
		i := s.start(f, newBook())
		s.publish(line(1, 1, 1))
		if err := s.drained(i); err != nil {
			t.Fatal(err)
		}
		before := len(f.Calls())
		s.publish(line(2, 2, 1), desk(supply(91, 1)), "garbage")
		if err := s.drained(i); err != nil {
			t.Fatal(err)
		}
		// One Next was waiting, and one is.
		const want = "Append Announce Ack Next Append Announce Ack Next Append Announce Bury Ack Next"
		if calls := strings.Join(f.Calls()[before:], " "); calls != want {
			t.Errorf("the calls are %s, want %s", calls, want)
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
			s.publish(line(n, n, 1), desk(supply(90+n, 1))) // the desk is no work
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
		if n := s.observer.decided.Load(); n != 6 {
			t.Errorf("%d messages were decided", n)
		}
	})
}

// A worker that is told to stop finishes the message in hand, and takes no other.
func TestStopFinishesTheMessageInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t, &scenario{supplied: 5})
		s.publish(line(1, 1, 1))
		s.publish(line(2, 2, 1))
		i := s.slow(2 * time.Second)
		time.Sleep(time.Second)
		began := time.Now()
		i.stop()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("stopping took %v", took)
		}
		if head, _ := s.newest(); head.N != 2 {
			t.Errorf("the history ends at link %d", head.N)
		}
		if left := len(s.orders.Left(product)); left != 1 {
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
		dying := s.start(&saletest.Faults{Plan: func(_ int, call string) saletest.Fault {
			if call == saletest.CallAppend {
				return saletest.CrashBefore
			}
			return saletest.Pass
		}}, newBook())
		s.publish(line(1, 1, 1))
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
			if call == saletest.CallAppend && once {
				once, before = false, time.Minute
			}
			return before, 0
		}}, newBook())
		s.publish(line(1, 1, 1))
		synctest.Wait()
		other := s.start(&saletest.Faults{}, newBook())
		if err := s.drained(other); err != nil {
			t.Fatal(err)
		}
		s.open(&stage{recreate: true, messages: []string{line(2, 2, 1)}})
		if err := s.drained(other); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		stale.stop()
		other.stop()
		if r := s.record(stale.book); r.outcomes != "accepted | accepted" {
			t.Errorf("the history says %s", r.outcomes)
		}
	})
}

// An append that takes effect and seems to fail counts as the decision that it is; one
// that another worker was quicker with does not, and an acknowledgement that fails is
// tried again at once and counts for nothing.
func TestDecisionIsCountedOnce(t *testing.T) {
	for _, c := range []struct {
		call  string
		fault saletest.Fault
	}{{"", saletest.Pass}, {saletest.CallAppend, saletest.LoseReply}, {saletest.CallAppend, saletest.LoseWrite}, {saletest.CallAck, saletest.LoseWrite}, {"quicker", saletest.Pass}} {
		synctest.Test(t, func(t *testing.T) {
			s := newShop(t, &scenario{supplied: 5})
			first := true
			i := s.start(&saletest.Faults{Plan: func(_ int, call string) saletest.Fault {
				if call == saletest.CallAppend && c.call == "quicker" && first {
					first = false
					head, all := s.newest()
					m := s.orders.Left(product)[0]
					link, _ := head.Decide(&told{}, &m, m.Lines(), "quicker", decidedAt)
					s.store.Put(product, link.Encode())
					if len(all) != 1 {
						t.Errorf("%d revisions are stored", len(all))
					}
				}
				if call == c.call && first {
					first = false
					return c.fault
				}
				return saletest.Pass
			}}, newBook())
			s.publish(line(1, 1, 1))
			if err := s.drained(i); err != nil {
				t.Fatal(err)
			}
			i.stop()
			want := int64(1)
			if c.call == "quicker" {
				want = 0
			}
			if n, again := s.observer.decided.Load(), s.observer.redelivered.Load(); n != want || again != 0 {
				t.Errorf("%s, fault %d: counted %d times, redelivered %d times", c.call, c.fault, n, again)
			}
			if r := s.record(i.book); r.outcomes != "accepted" || len(r.statuses) != 1 {
				t.Errorf("%s, fault %d: %s, announced %s", c.call, c.fault, r.outcomes, r.statuses)
			}
		})
	}
}
