package sale_test

import (
	"testing"
	"testing/synctest"
	"time"

	"firstcome/internal/saletest"
)

// A stop that comes behind the point of no return goes on trying, and not for ever.
func TestStopIsPatientAndBounded(t *testing.T) {
	for _, c := range []struct {
		what     string
		fails    int // the first so many burials
		left     int
		from, to time.Duration
	}{
		{"it passes", 4, 0, 0, time.Second},
		{"it stays", 1 << 30, 1, 10 * time.Second, 12 * time.Second}, // finishTime, and a step
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newShop(t, &scenario{supplied: 5})
			failed := 0
			i := s.start(&saletest.Faults{Plan: func(_ int, call string) saletest.Fault {
				if call != saletest.CallBury || failed == c.fails {
					return saletest.Pass
				}
				failed++
				return saletest.LoseWrite
			}}, newBook())
			s.publish(line(1, 1, 1) + "\ngarbage")
			synctest.Wait() // it is decided, and could not be buried
			began := time.Now()
			i.stop()
			if took := time.Since(began); took < c.from || took > c.to {
				t.Errorf("%s: stopping took %v", c.what, took)
			}
			if left := len(s.orders.Left(product)); left != c.left {
				t.Errorf("%s: %d messages are left in the queue", c.what, left)
			}
		})
	}
}
