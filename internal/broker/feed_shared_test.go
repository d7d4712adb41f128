package broker

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var errRun = errors.New("the run failed")

// slow is shared work whose runs take a second of the bubble's time.
func slow(begun *[]time.Time, fails func(run int) bool) *shared {
	var mu sync.Mutex
	return &shared{run: func(context.Context) error {
		mu.Lock()
		*begun = append(*begun, time.Now())
		n := len(*begun)
		mu.Unlock()
		time.Sleep(time.Second)
		if fails != nil && fails(n) {
			return errRun
		}
		return nil
	}}
}

func TestManyCallersShareFewRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun []time.Time
		r := slow(&begun, nil)
		var wg sync.WaitGroup
		ask := func() { wg.Go(func() { _ = r.join(context.Background()) }) }
		ask()
		synctest.Wait() // the first run is under way
		for range 50 {
			ask()
		}
		wg.Wait()
		if len(begun) != 2 {
			t.Errorf("51 callers took %d runs", len(begun))
		}
	})
}

// TestNobodyGetsARunBegunBefore: what was stored just before the call may have
// come too late for a run under way.
func TestNobodyGetsARunBegunBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun []time.Time
		r := slow(&begun, nil)
		var wg sync.WaitGroup
		for i := range 40 {
			time.Sleep(70 * time.Millisecond * time.Duration(i%3))
			asked := time.Now()
			wg.Go(func() {
				if err := r.join(context.Background()); err != nil {
					t.Error(err)
				}
				// Its run took a second, and a whole one lies behind the call.
				if took := time.Since(asked); took < time.Second || took > 2*time.Second {
					t.Errorf("caller %d was served after %v", i, took)
				}
			})
		}
		wg.Wait()
	})
}

func TestCallersOfARunFailTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun []time.Time
		r := slow(&begun, func(run int) bool { return run == 2 })
		var wg sync.WaitGroup
		for i, want := range []error{nil, errRun, errRun} {
			wg.Go(func() {
				if err := r.join(context.Background()); !errors.Is(err, want) {
					t.Errorf("caller %d got %v, want %v", i, err, want)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		if err := r.join(context.Background()); err != nil {
			t.Errorf("after a failure: %v", err)
		}
	})
}

func TestCallerWhoLeavesEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun []time.Time
		r := slow(&begun, nil)
		impatient, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := r.join(impatient); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the impatient caller got %v", err)
			}
		})
		wg.Go(func() {
			if err := r.join(context.Background()); err != nil {
				t.Errorf("the patient caller got %v", err)
			}
		})
		wg.Wait()
		// The second caller has a run of its own, which may outlast its caller.
		if err := r.join(context.Background()); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// close ends the run under way, and nothing is run after it.
func TestClosedWorkIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		s := &shared{run: func(ctx context.Context) error {
			runs++
			<-ctx.Done()
			return ctx.Err()
		}}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := s.join(context.Background()); !errors.Is(err, context.Canceled) {
				t.Errorf("the caller under way got %v", err)
			}
		})
		synctest.Wait()
		s.close()
		wg.Wait()
		for range 2 {
			if err := s.join(context.Background()); !errors.Is(err, errClosed) {
				t.Errorf("afterwards: %v", err)
			}
			s.close()
		}
		if runs != 1 {
			t.Errorf("%d runs", runs)
		}
	})
}
