package audit

import (
	"strings"
	"testing"

	"firstcome/internal/sale"
)

func TestCheckQueue(t *testing.T) {
	const dayThree = "2026-03-03T08:00:00Z"
	type numbers = map[sale.ProductID]uint64
	type sets = map[sale.ProductID]*Sequences
	// settled is the replay of a product that settled these messages.
	settled := func(product sale.ProductID, epoch string, seqs ...uint64) *Replay {
		s := begin(product, 5, 0, epoch)
		for _, seq := range seqs {
			s.settle(epoch, seq, false, "garbage")
		}
		r, findings := replay(product, s.bytes())
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		return r
	}
	// then goes on in another epoch.
	then := func(r *Replay, epoch string, seqs ...uint64) *Replay {
		s := &story{product: r.product, head: r.head}
		for _, seq := range seqs {
			s.settle(epoch, seq, false, "garbage")
		}
		for _, v := range s.bytes() {
			r.Revision(v.seq, v.raw)
		}
		return r
	}
	stopped := func(r *Replay) *Replay {
		r.Revision(99, []byte(strings.Replace(string((&sale.Link{N: r.head.N + 1, Prev: r.head.Hash, Stock: r.head.Stock}).Encode()), `"v":2`, `"v":3`, 1)))
		if !r.stopped {
			t.Fatal("it was not stopped")
		}
		return r
	}
	cut := func(r *Replay) *Replay {
		link := &sale.Link{N: r.head.N + 2, Stock: r.head.Stock}
		first := link.Encode()
		r.Revision(99, first)
		r.Revision(100, (&sale.Link{N: link.N + 1, Prev: sale.HashOf(first), Stock: r.head.Stock}).Encode())
		if !r.cut {
			t.Fatal("it was not cut")
		}
		return r
	}
	for _, test := range []struct {
		name    string
		q       Queue
		replays []*Replay
		want    []string
	}{
		{"nothing at all", Queue{Epoch: dayTwo}, nil, nil},
		{"every message in one place", Queue{Epoch: dayTwo, Last: 6, Queued: sets{"tshirt": sequences(5), "mug": sequences(3, 6)}, Acked: numbers{"tshirt": 4, "mug": 2}},
			[]*Replay{settled("tshirt", dayTwo, 1, 4), settled("mug", dayTwo, 2)}, nil},
		{"an acknowledgement under way", Queue{Epoch: dayTwo, Last: 2, Queued: sets{"tshirt": sequences(2)}, Acked: numbers{"tshirt": 1}}, []*Replay{settled("tshirt", dayTwo, 1, 2)}, nil},
		{"two acknowledgements lost", Queue{Epoch: dayTwo, Last: 2, Queued: sets{"tshirt": sequences(1, 2)}}, []*Replay{settled("tshirt", dayTwo, 1, 2)}, nil},
		{"what came after the look at the queue", Queue{Epoch: dayTwo, Last: 1, End: 3}, []*Replay{settled("tshirt", dayTwo, 1, 2, 3)}, nil},
		{"what came after the look, and what came after the histories", Queue{Epoch: dayTwo, Last: 1, End: 5}, []*Replay{settled("tshirt", dayTwo, 1, 2, 3)}, nil},
		{"a new queue before its first decision", Queue{Epoch: dayTwo, Last: 1, Queued: sets{"tshirt": sequences(1)}}, []*Replay{settled("tshirt", dayOne, 1, 2)}, nil},
		{"a new queue", Queue{Epoch: dayTwo, Last: 1}, []*Replay{then(settled("tshirt", dayOne, 1, 2), dayTwo, 1)}, nil},
		{"a new epoch of the same stream", Queue{Epoch: dayTwo, First: 5, Last: 6, Queued: sets{"tshirt": sequences(6)}}, []*Replay{then(settled("tshirt", dayOne, 1, 2), dayTwo, 5)}, nil},
		{"a product without orders", Queue{Epoch: dayTwo, Last: 1}, []*Replay{settled("tshirt", dayTwo, 1), settled("mug", dayTwo)}, nil},
		{"a product that is not made yet", Queue{Epoch: dayTwo, Last: 2, Queued: sets{"mug": sequences(2)}}, []*Replay{settled("tshirt", dayTwo, 1), New("mug")}, nil},
		{"a mark within the queue", Queue{Epoch: dayTwo, Last: 1, Mark: 1}, []*Replay{settled("tshirt", dayTwo, 1)}, nil},
		{"a mark that came after the look at the queue", Queue{Epoch: dayTwo, Last: 1, End: 2, Mark: 2}, []*Replay{settled("tshirt", dayTwo, 1)}, nil},

		{"a message gone", Queue{Epoch: dayTwo, Last: 3, Queued: sets{"tshirt": sequences(3)}}, []*Replay{settled("tshirt", dayTwo, 1)},
			[]string{"P3 broken: message 2: gone from the queue, and settled by no link"}},
		{"the newest gone", Queue{Epoch: dayTwo, Last: 4}, []*Replay{settled("tshirt", dayTwo, 1, 2)},
			[]string{"P3 broken: messages 3 to 4: gone from the queue, and settled by no link"}},
		{"all gone", Queue{Epoch: dayTwo, First: 2, Last: 3}, []*Replay{settled("tshirt", dayOne, 1, 2, 3)},
			[]string{"P3 broken: messages 2 to 3: gone from the queue, and settled by no link"}},
		{"a message passed over", Queue{Epoch: dayTwo, Last: 3, Queued: sets{"tshirt": sequences(2)}}, []*Replay{settled("tshirt", dayTwo, 1, 3)},
			[]string{"P2 broken for tshirt: message 2: still in the queue, although the later message 3 was decided"}},
		{"a message that the consumer will not hand out", Queue{Epoch: dayTwo, Last: 5, Queued: sets{"tshirt": sequences(2, 3, 4, 5)}, Passed: numbers{"tshirt": 4}}, []*Replay{settled("tshirt", dayTwo, 1, 2)},
			[]string{"P3 broken for tshirt: messages 3 to 4: still in the queue, and its consumer will not hand it out: run firstcome repair"}},
		{"the same after a message that was decided", Queue{Epoch: dayTwo, Last: 3, Queued: sets{"tshirt": sequences(2)}, Passed: numbers{"tshirt": 3}}, []*Replay{settled("tshirt", dayTwo, 1, 3)},
			[]string{"P2 broken for tshirt: message 2: still in the queue, although the later message 3 was decided"}},
		{"the same in a new queue", Queue{Epoch: dayTwo, Last: 1, Queued: sets{"tshirt": sequences(1)}, Passed: numbers{"tshirt": 1}}, []*Replay{settled("tshirt", dayOne, 1)},
			[]string{"P3 broken for tshirt: message 1: still in the queue, and its consumer will not hand it out: run firstcome repair"}},
		{"the same of a history that cannot be read", Queue{Epoch: dayTwo, Last: 2, Queued: sets{"tshirt": sequences(2)}, Passed: numbers{"tshirt": 2}}, []*Replay{stopped(settled("tshirt", dayTwo, 1))}, nil},
		{"a message that another product passed by", Queue{Epoch: dayTwo, Last: 3, Queued: sets{"mug": sequences(2)}}, []*Replay{settled("tshirt", dayTwo, 1, 3), settled("mug", dayTwo)}, nil},
		{"one message for two products", Queue{Epoch: dayTwo, Last: 3}, []*Replay{settled("tshirt", dayTwo, 1, 2, 3), settled("mug", dayTwo, 2)},
			[]string{"P4 broken: message 2: settled for both tshirt and mug"}},
		{"one message for two products, far apart", Queue{Epoch: dayTwo, Last: 4}, []*Replay{settled("tshirt", dayTwo, 1, 2, 3, 4), settled("mug", dayTwo, 2), settled("cap", dayTwo, 4)},
			[]string{"P4 broken: message 2: settled for both tshirt and mug", "P4 broken: message 4: settled for both tshirt and cap"}},
		{"one message for two products, in an earlier queue", Queue{Epoch: dayTwo}, []*Replay{settled("tshirt", dayOne, 1), settled("mug", dayOne, 1)},
			[]string{"P4 broken: message 1 in the queue of " + dayOne + ": settled for both tshirt and mug"}},
		{"the same number in two queues", Queue{Epoch: dayTwo}, []*Replay{settled("tshirt", dayOne, 1), settled("mug", "2026-02-28T08:00:00Z", 1)}, nil},

		{"a history that lost its end", Queue{Epoch: dayTwo, Last: 4, Queued: sets{"tshirt": sequences(4)}, Acked: numbers{"tshirt": 3}}, []*Replay{settled("tshirt", dayTwo, 1)},
			[]string{"P3 broken for tshirt: the history is behind: it ends at message 1 and message 3 was settled, 2 more: run firstcome repair"}},
		{"a history that lost its end, and more", Queue{Epoch: dayTwo, Last: 6, Acked: numbers{"tshirt": 3}}, []*Replay{settled("tshirt", dayTwo, 2)},
			[]string{"P3 broken for tshirt: the history is behind: it ends at message 2 and message 3 was settled, 1 more: run firstcome repair",
				"P3 broken: message 1: gone from the queue, and settled by no link", "P3 broken: messages 4 to 6: gone from the queue, and settled by no link"}},
		{"a history that lost its epoch", Queue{Epoch: dayTwo, Last: 2, Acked: numbers{"tshirt": 2}}, []*Replay{settled("tshirt", dayOne, 1)},
			[]string{"P3 broken for tshirt: the history is behind: it has nothing of the queue since message 1 and message 2 was settled, 2 more: run firstcome repair"}},
		{"a queue that lost its end", Queue{Epoch: dayTwo, Last: 2}, []*Replay{settled("tshirt", dayTwo, 1, 2, 3, 4)},
			[]string{"P3 broken for tshirt: the queue is behind: it ends at message 2 and the history has settled message 4, 2 more: run firstcome repair"}},
		{"a queue that lost what it had confirmed", Queue{Epoch: dayTwo, Last: 2, Mark: 4}, []*Replay{settled("tshirt", dayTwo, 1), settled("mug", dayTwo, 2)},
			[]string{"P3 broken: the queue is behind: it ends at message 2 and had confirmed message 4, 2 more: run firstcome repair"}},
		{"a queue that lost what it had confirmed and what was settled", Queue{Epoch: dayTwo, Last: 2, Mark: 4}, []*Replay{settled("tshirt", dayTwo, 1, 4), settled("mug", dayTwo, 2, 5)},
			[]string{"P3 broken for mug: the queue is behind: it ends at message 2 and the history has settled message 5, 3 more: run firstcome repair",
				"P3 broken: the queue is behind: it ends at message 2 and had confirmed message 4, 2 more: run firstcome repair"}},
		{"a queue from before", Queue{Epoch: dayTwo, Last: 2}, []*Replay{then(settled("tshirt", dayTwo, 1, 2), dayThree, 1)},
			[]string{"P3 broken for tshirt: the queue is behind: it is of " + dayTwo + ", and the history has settled messages of " + dayThree + ": run firstcome repair"}},

		// What cannot be read is neither settled nor lost; what lies before is.
		{"a history with a newer layout", Queue{Epoch: dayTwo, Last: 9, Acked: numbers{"tshirt": 9}}, []*Replay{stopped(settled("tshirt", dayTwo, 1, 3)), settled("mug", dayTwo, 5)},
			[]string{"P3 broken: message 2: gone from the queue, and settled by no link"}},
		{"a history with a newer layout, and a queue that lost its end", Queue{Epoch: dayTwo, Last: 2}, []*Replay{stopped(settled("tshirt", dayTwo, 1, 2, 3))},
			[]string{"P3 broken for tshirt: the queue is behind: it ends at message 2 and the history has settled message 3, 1 more: run firstcome repair"}},
		{"a history that is cut", Queue{Epoch: dayTwo, Last: 9, Acked: numbers{"tshirt": 9}}, []*Replay{cut(settled("tshirt", dayTwo, 1, 3))},
			[]string{"P3 broken: message 2: gone from the queue, and settled by no link"}},
		{"a history that is cut before this queue", Queue{Epoch: dayTwo, Last: 9, Acked: numbers{"tshirt": 9}}, []*Replay{cut(settled("tshirt", dayOne, 1, 3))}, nil},
	} {
		findings := CheckQueue(test.q, test.replays...)
		if got, want := lines(findings), strings.Join(append(test.want, ""), "\n"); got != want {
			t.Errorf("%s:\n%swant\n%s", test.name, got, want)
		}
	}
}

// An epoch is a text that a value made up.
func TestCheckQueueShowsNoAddress(t *testing.T) {
	var replays []*Replay
	for _, product := range []sale.ProductID{"tshirt", "mug"} {
		s := begin(product, 5, 0, "bob@example.com")
		s.settle("bob@example.com", 1, false, "garbage")
		r, findings := replay(product, s.bytes())
		checkAddresses(t, findings)
		replays = append(replays, r)
	}
	findings := CheckQueue(Queue{Epoch: dayTwo}, replays...)
	if want := "P4 broken: message 1 in an earlier queue: settled for both tshirt and mug\n"; lines(findings) != want {
		t.Errorf("%swant %s", lines(findings), want)
	}
}
