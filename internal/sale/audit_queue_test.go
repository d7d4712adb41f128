package sale

import (
	"testing"

	"pgregory.net/rapid"
)

func sequences(of ...uint64) *Sequences {
	s := &Sequences{}
	for _, seq := range of {
		s.Add(seq)
	}
	return s
}

func TestSequencesAreASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const most = 40
		var set Sequences
		naive := map[uint64]bool{}
		for _, seq := range rapid.SliceOf(rapid.Uint64Range(1, most)).Draw(t, "added") {
			set.Add(seq)
			naive[seq] = true
			if rapid.IntRange(0, 3).Draw(t, "look") == 0 {
				set.Has(seq)
			}
		}
		last := rapid.Uint64Range(0, most+2).Draw(t, "last")
		missing := map[uint64]bool{}
		for _, gap := range set.missing(last) {
			for seq := gap.first; seq <= gap.last; seq++ {
				missing[seq] = true
			}
		}
		for seq := uint64(0); seq <= most+2; seq++ {
			if set.Has(seq) != naive[seq] {
				t.Fatalf("has %d: %v", seq, set.Has(seq))
			}
			if want := seq > 0 && seq <= last && !naive[seq]; missing[seq] != want {
				t.Fatalf("%d is missing up to %d: %v", seq, last, missing[seq])
			}
		}
		if set.Len() != uint64(len(naive)) {
			t.Fatalf("%d of %d", set.Len(), len(naive))
		}
	})
}

func TestSequencesAreCompact(t *testing.T) {
	var set Sequences
	for seq := uint64(1); seq <= 1_000_000; seq++ {
		set.Add(seq)
	}
	set.Add(1<<64 - 1)
	if len(set.ranges) != 2 || set.Len() != 1_000_001 || len(set.missing(1<<63)) != 1 {
		t.Errorf("%d ranges, %d sequences", len(set.ranges), set.Len())
	}
}

func TestAuditQueue(t *testing.T) {
	const now, then = "2026-03-02T08:00:00Z", "2026-03-01T08:00:00Z"
	// ledger is a finished audit of a product that decided these messages.
	ledger := func(product ProductID, epoch string, seqs ...uint64) *Audit {
		a := &Audit{findings: findings{product: product}, epochs: map[string]struct{}{epoch: {}}}
		for _, seq := range seqs {
			a.settled.Add(seq)
			a.head = Head{Epoch: epoch, Seq: seq}
		}
		return a
	}
	queued := func(shirt, mug *Sequences) map[ProductID]*Sequences {
		return map[ProductID]*Sequences{"tshirt": shirt, "mug": mug}
	}
	for _, test := range []struct {
		name   string
		q      QueueState
		audits []*Audit
		want   string
	}{
		{"nothing at all", QueueState{Epoch: now}, nil, ""},
		{"every message in one place", QueueState{now, 6, queued(sequences(5), sequences(6)), sequences(3)},
			[]*Audit{ledger("tshirt", now, 1, 4), ledger("mug", now, 2)}, ""},
		{"an acknowledgement under way", QueueState{now, 2, queued(sequences(2), nil), nil}, []*Audit{ledger("tshirt", now, 1, 2)}, ""},
		{"some lines of a message dead", QueueState{now, 1, nil, sequences(1)}, []*Audit{ledger("tshirt", now, 1)}, ""},
		{"what came after the look at the queue", QueueState{now, 1, nil, nil}, []*Audit{ledger("tshirt", now, 1, 2, 3)}, ""},
		{"a poison message passed over on its way out", QueueState{now, 2, queued(sequences(1), nil), sequences(1)}, []*Audit{ledger("tshirt", now, 2)}, ""},
		{"a new queue before its first decision", QueueState{now, 1, queued(sequences(1), nil), nil}, []*Audit{ledger("tshirt", then, 1, 2)}, ""},
		{"a product that nobody ordered", QueueState{now, 1, nil, nil}, []*Audit{ledger("tshirt", now, 1), ledger("mug", "")}, ""},

		{"a message gone", QueueState{now, 3, queued(sequences(3), nil), nil}, []*Audit{ledger("tshirt", now, 1)}, "P3"},
		{"the newest gone", QueueState{now, 3, nil, nil}, []*Audit{ledger("tshirt", now, 1, 2)}, "P3"},
		{"all gone", QueueState{now, 3, nil, nil}, []*Audit{ledger("tshirt", then, 1, 2, 3)}, "P3"},
		{"a message passed over", QueueState{now, 3, queued(sequences(2), nil), nil}, []*Audit{ledger("tshirt", now, 1, 3)}, "P2"},
		{"one message for two products", QueueState{now, 3, nil, nil}, []*Audit{ledger("tshirt", now, 1, 2, 3), ledger("mug", now, 2)}, "P4"},
		{"one message for two products, far apart", QueueState{now, 4, nil, nil},
			[]*Audit{ledger("tshirt", now, 1, 2, 3, 4), ledger("mug", now, 2), ledger("cap", now, 4)}, "P4"},
		{"a queue from before", QueueState{then, 2, nil, sequences(1, 2)}, []*Audit{func() *Audit {
			a := ledger("tshirt", now, 1)
			a.epochs[then] = struct{}{}
			return a
		}()}, "P2"},
	} {
		if findings := AuditQueue(test.q, test.audits...); promises(findings) != test.want {
			t.Errorf("%s: broken: %s, want %s\n%v", test.name, promises(findings), test.want, findings)
		}
	}

	// A wide range is compared with every narrow one beside it.
	findings := AuditQueue(QueueState{now, 4, nil, nil}, ledger("tshirt", now, 1, 2, 3, 4), ledger("mug", now, 2), ledger("cap", now, 4))
	if len(findings) != 2 {
		t.Errorf("two messages of two products each: %v", findings)
	}
}
