package audit

import (
	"testing"

	"pgregory.net/rapid"
)

func TestSequencesAreASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const most = 40
		draw := func(name string) (set *Sequences, naive map[uint64]bool) {
			set, naive = &Sequences{}, map[uint64]bool{}
			for _, seq := range rapid.SliceOf(rapid.Uint64Range(1, most)).Draw(t, name) {
				set.Add(seq)
				naive[seq] = true
				if rapid.IntRange(0, 3).Draw(t, "look") == 0 {
					set.Has(seq)
				}
			}
			return set, naive
		}
		set, naive := draw("set")
		other, naiveOther := draw("other")
		first, last := rapid.Uint64Range(1, most+2).Draw(t, "first"), rapid.Uint64Range(0, most+2).Draw(t, "last")
		missing := map[uint64]bool{}
		for _, gap := range set.missing(first, last) {
			for seq := gap.first; seq <= gap.last; seq++ {
				missing[seq] = true
			}
		}
		without := set.without(last, other)
		var both Sequences
		both.addAll(set)
		both.addAll(nil)
		both.addAll(other)
		for seq := uint64(0); seq <= most+2; seq++ {
			if set.Has(seq) != naive[seq] {
				t.Fatalf("has %d: %v", seq, set.Has(seq))
			}
			if want := first <= seq && seq <= last && !naive[seq]; missing[seq] != want {
				t.Fatalf("%d is missing from %d to %d: %v", seq, first, last, missing[seq])
			}
			if want := naive[seq] && !naiveOther[seq] && seq < last; without.Has(seq) != want {
				t.Fatalf("%d is not in the other: %v", seq, without.Has(seq))
			}
			if want := naive[seq] || naiveOther[seq]; both.Has(seq) != want {
				t.Fatalf("%d is in both together: %v", seq, both.Has(seq))
			}
		}
	})
}

func TestSequencesAreCompact(t *testing.T) {
	var set Sequences
	for seq := uint64(1); seq <= 1_000_000; seq++ {
		set.Add(seq)
	}
	set.Add(1<<64 - 1)
	set.Add(1<<64 - 1)
	if gaps := set.missing(1, 1<<63); len(set.ranges) != 2 || len(gaps) != 1 || gaps[0] != (span{1_000_001, 1 << 63}) {
		t.Errorf("%v, missing %v", set.ranges, gaps)
	}
	if gaps := set.missing(1<<64-1, 1<<64-1); len(gaps) != 0 {
		t.Errorf("missing %v", gaps)
	}
	if has := (*Sequences)(nil).Has(1); has {
		t.Error("no set has a sequence")
	}
}

func sequences(of ...uint64) *Sequences {
	s := &Sequences{}
	for _, seq := range of {
		s.Add(seq)
	}
	return s
}
