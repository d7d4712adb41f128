package sale_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"firstcome/internal/sale"
	"firstcome/internal/saletest"
)

// A failure or two look like a change of leader, and do not end an instance's
// readiness; a row of them does.
func TestStuckAfterARowOfFailures(t *testing.T) {
	for fails, stuck := range map[int]bool{1: false, 3: false, 1 << 30: true} {
		synctest.Test(t, func(t *testing.T) {
			s := newShop(t, &scenario{supplied: 5})
			failed := 0
			i := s.start(&saletest.Faults{Plan: func(_ int, call string) saletest.Fault {
				if call != saletest.CallBury || failed == fails {
					return saletest.Pass
				}
				failed++
				return saletest.LoseWrite
			}}, newBook())
			s.publish(line(1, 1, 1) + "\ngarbage")
			seen := false
			for range 6000 {
				time.Sleep(10 * time.Millisecond)
				seen = seen || i.worker.Stuck() != nil
			}
			if seen != stuck || !stuck && len(s.orders.Left(product)) != 0 {
				t.Errorf("after %d failures: stuck %v, %d messages left", fails, seen, len(s.orders.Left(product)))
			}
			i.stop()
		})
	}
}

// silent answers nothing at its first call of that name.
type silent struct {
	sale.History
	sale.DeadLetters
	call string
	once sync.Once
}

func (s *silent) wait(ctx context.Context, call string) (err error) {
	if s.call == call {
		s.once.Do(func() {
			<-ctx.Done()
			err = context.Cause(ctx)
		})
	}
	return err
}

func (s *silent) Next(ctx context.Context, p sale.ProductID, after sale.Seq) (sale.Seq, []byte, error) {
	if err := s.wait(ctx, saletest.CallRead); err != nil {
		return 0, nil, err
	}
	return s.History.Next(ctx, p, after)
}

func (s *silent) Append(ctx context.Context, p sale.ProductID, after sale.Seq, revision []byte) (sale.Seq, error) {
	if err := s.wait(ctx, saletest.CallAppend); err != nil {
		return 0, err
	}
	return s.History.Append(ctx, p, after, revision)
}

func (s *silent) Bury(ctx context.Context, l sale.DeadLetter) error {
	if err := s.wait(ctx, saletest.CallBury); err != nil {
		return err
	}
	return s.DeadLetters.Bury(ctx, l)
}

// A broker that answers a call never holds the line up for StepTimeout.
func TestEveryStepIsBounded(t *testing.T) {
	for _, call := range []string{saletest.CallRead, saletest.CallAppend, saletest.CallBury} {
		t.Run(call, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShop(t, &scenario{supplied: 5})
				i := s.startWith(product, &saletest.Faults{}, newBook(), func(w *sale.Worker) {
					mute := &silent{History: w.History, DeadLetters: w.DeadLetters, call: call}
					w.History, w.DeadLetters = mute, mute
				})
				began := time.Now()
				s.publish(line(1, 1, 1)+"\ngarbage", line(2, 2, 1))
				if err := s.drained(i); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took < 2*time.Second || took > 4*time.Second { // StepTimeout is 2 s
					t.Errorf("it took %v", took)
				}
				i.stop()
			})
		})
	}
}
