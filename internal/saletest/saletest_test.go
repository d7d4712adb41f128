package saletest_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"firstcome/internal/sale"
	"firstcome/internal/saletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFakeHistory(t *testing.T) {
	saletest.TestHistory(t, func(*testing.T) saletest.HistoryRig {
		h := saletest.NewHistory()
		return saletest.HistoryRig{
			Open:     func(testing.TB) sale.History { return h },
			Products: [2]sale.ProductID{"shirt", "mug"},
			Delete:   func(_ testing.TB, p sale.ProductID) { h.Delete(p) },
		}
	})
}

func TestFakeDeadLetters(t *testing.T) {
	saletest.TestDeadLetters(t, func(*testing.T) saletest.DeadLettersRig {
		d := saletest.NewDeadLetters()
		return saletest.DeadLettersRig{
			Open:    func(testing.TB) sale.DeadLetters { return d },
			Letters: func(testing.TB) []sale.DeadLetter { return d.Letters() },
			Product: "shirt",
		}
	})
}

func TestFakeQueue(t *testing.T) {
	const ackWait = 200 * time.Millisecond
	saletest.TestQueue(t, func(*testing.T) saletest.QueueRig {
		o := saletest.NewOrders("2026-03-01T08:00:00Z", ackWait)
		return saletest.QueueRig{
			Open: func(_ testing.TB, p sale.ProductID) (sale.Queue, func()) { return o.Queue(p), func() {} },
			Publish: func(_ testing.TB, p sale.ProductID, data []byte) uint64 {
				return o.Publish(p, data)
			},
			PublishDesk: func(_ testing.TB, p sale.ProductID, data []byte) uint64 {
				return o.PublishDesk(p, data)
			},
			Products: [2]sale.ProductID{"shirt", "mug"},
			AckWait:  ackWait, TakeOver: 5 * time.Second,
		}
	})
}
