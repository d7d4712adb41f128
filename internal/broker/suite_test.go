package broker_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
	"firstcome/internal/saletest"
)

func TestHistoryKeepsTheContract(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.sell(t, 1, "cap") // the bucket, and products that have nothing in it
		bucket := w.bucket(t)
		saletest.TestHistory(t, func(*testing.T) saletest.HistoryRig {
			return saletest.HistoryRig{
				Open:     func(t testing.TB) sale.History { return broker.NewHistory(w.connect(t)) },
				Products: [2]sale.ProductID{"shirt", "mug"},
				Delete: func(t testing.TB, p sale.ProductID) {
					if err := bucket.Delete(within(t), string(p)); err != nil {
						t.Fatal(err)
					}
				},
			}
		})
	})
}

func TestDeadLettersKeepTheContract(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.sell(t, 1, "shirt")
		saletest.TestDeadLetters(t, func(*testing.T) saletest.DeadLettersRig {
			return saletest.DeadLettersRig{
				Open:    func(t testing.TB) sale.DeadLetters { return broker.NewDeadLetters(w.connect(t)) },
				Letters: w.letters,
				Product: "shirt",
			}
		})
	})
}

func TestQueueKeepsTheContract(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		var parts atomic.Int32
		c := w.connect(t)
		js := w.admin(t)
		t.Run("suite", func(t *testing.T) {
			saletest.TestQueue(t, func(t *testing.T) saletest.QueueRig {
				n := parts.Add(1)
				products := [2]sale.ProductID{sale.ProductID(fmt.Sprintf("shirt%d", n)), sale.ProductID(fmt.Sprintf("mug%d", n))}
				if err := broker.Provision(within(t), c, w.layout(1, products[:]...)); err != nil {
					t.Fatal(err)
				}
				t.Parallel() // most of this suite is waiting for redeliveries
				return saletest.QueueRig{
					Open: func(t testing.TB, p sale.ProductID) (sale.Queue, func()) {
						q := broker.NewQueue(w.connect(t), p, broker.Witnesses{})
						return q, q.Close
					},
					Publish: func(t testing.TB, p sale.ProductID, data []byte) uint64 {
						return publish(t, js, p, data)
					},
					PublishDesk: func(t testing.TB, p sale.ProductID, data []byte) uint64 {
						return publishTo(t, js, "desk."+string(p), data)
					},
					Products: products,
					AckWait:  w.timing.AckWait, TakeOver: 15 * time.Second, // the pin of a holder that died runs out in between
				}
			})
		})
	})
}

// bucket is the stock as an admin can write it.
func (w *world) bucket(t testing.TB) jetstream.KeyValue {
	t.Helper()
	kv, err := w.admin(t).KeyValue(within(t), "stock")
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

// put stores a value by hand, as `nats kv put` does.
func put(t testing.TB, kv jetstream.KeyValue, p sale.ProductID, value []byte) sale.Seq {
	t.Helper()
	seq, err := kv.Put(within(t), string(p), value)
	if err != nil {
		t.Fatal(err)
	}
	return sale.Seq(seq)
}

// publish stores a queue message as `nats pub` does, and returns its sequence.
func publish(t testing.TB, js jetstream.JetStream, p sale.ProductID, data []byte) uint64 {
	t.Helper()
	return publishTo(t, js, "orders."+string(p), data)
}

func publishTo(t testing.TB, js jetstream.JetStream, subject string, data []byte) uint64 {
	t.Helper()
	ack, err := js.Publish(within(t), subject, data)
	if err != nil {
		t.Fatal(err)
	}
	return ack.Sequence
}

// stored is a message in a stream, as the JetStream API shows it.
type stored struct {
	Subject string    `json:"subject"`
	Seq     uint64    `json:"seq"`
	Time    time.Time `json:"time"`
	Headers []byte    `json:"hdrs"`
	Data    []byte    `json:"data"`

	header nats.Header
}

// read is all that a stream holds, by the leader's word.
func (w *world) read(t testing.TB, stream string) (all []stored) {
	t.Helper()
	nc := w.admin(t).Conn()
	for next := uint64(1); ; {
		answer, err := nc.RequestWithContext(within(t), "$JS.API.STREAM.MSG.GET."+stream, fmt.Appendf(nil, `{"seq":%d,"next_by_subj":">"}`, next))
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Error   *jetstream.APIError `json:"error"`
			Message stored              `json:"message"`
		}
		if err := json.Unmarshal(answer.Data, &got); err != nil {
			t.Fatal(err)
		}
		if got.Error != nil && got.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return all
		}
		if got.Error != nil {
			t.Fatal(got.Error)
		}
		m := got.Message
		if len(m.Headers) > 0 {
			if m.header, err = nats.DecodeHeadersMsg(m.Headers); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, m)
		next = m.Seq + 1
	}
}

// letters reads the dead letters by the headers that this folder's README documents.
func (w *world) letters(t testing.TB) (letters []sale.DeadLetter) {
	t.Helper()
	for _, m := range w.read(t, "DEAD") {
		header := func(name string) string {
			if len(m.header[name]) != 1 {
				t.Errorf("letter %d has %d headers %s", m.Seq, len(m.header[name]), name)
				return ""
			}
			return m.header[name][0]
		}
		l := sale.DeadLetter{Product: sale.ProductID(strings.TrimPrefix(m.Subject, "dead.")),
			Reason: header("Firstcome-Reason"), Raw: m.Data}
		var err error
		if l.Seq, err = strconv.ParseUint(header("Firstcome-Seq"), 10, 64); err != nil {
			t.Error(err)
		}
		if l.Line, err = strconv.Atoi(header("Firstcome-Line")); err != nil {
			t.Error(err)
		}
		if _, err := time.Parse(time.RFC3339Nano, header("Firstcome-At")); err != nil || !strings.HasSuffix(header("Firstcome-At"), "Z") {
			t.Errorf("letter %d is dated %q", m.Seq, header("Firstcome-At"))
		}
		var ok bool
		if l.Epoch, ok = strings.CutSuffix(header("Nats-Msg-Id"), fmt.Sprintf("-%d-%d", l.Seq, l.Line)); !ok {
			t.Errorf("letter %d has the message id %q", m.Seq, header("Nats-Msg-Id"))
		}
		letters = append(letters, l)
	}
	return letters
}
