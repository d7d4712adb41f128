package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"firstcome/internal/sale"
)

// Queue is what the queue says, by its leader's word. For a sale that goes on meanwhile,
// read it in this order: Acked and Passed, Last, Queued, then the history of each product, then End.
type Queue struct {
	Epoch string
	First uint64 // the epoch's first sequence; 0: 1
	Last  uint64 // the last sequence that was given out
	End   uint64 // the same, read after the histories; 0: Last
	Mark  uint64 // the highest sequence of the epoch that an instance saw confirmed; 0: unknown

	Queued map[sale.ProductID]*Sequences // the messages that are still stored
	Acked  map[sale.ProductID]uint64     // every message up to it was acknowledged; 0: none was
	Passed map[sale.ProductID]uint64     // the consumer hands out no message up to it any more; 0: unknown
}

// CheckQueue holds the replays of all products against the queue: no message left it
// undecided (P3), none was passed over (P2), and none was settled by two products (P4).
// Only the epoch of the queue has messages left to compare with; of earlier ones the
// links alone tell.
func CheckQueue(q Queue, replays ...*Replay) []Finding {
	c := check{queue: q, bound: q.Last}
	c.queue.First, c.queue.End = cmp.Or(q.First, 1), cmp.Or(q.End, q.Last)
	if err := (sale.Witness{Epoch: q.Epoch, Last: c.queue.End, Mark: q.Mark}).Check(sale.Position{}); err != nil {
		c.add("P3", "%v", err)
	}
	var all []Finding
	for _, queued := range q.Queued {
		c.accounted.addAll(queued)
	}
	for _, r := range replays {
		all = append(all, c.product(r)...)
	}
	c.twice(replays)
	for _, gap := range c.accounted.missing(c.queue.First, c.bound) {
		c.add("P3", "%v: gone from the queue, and settled by no link", gap)
	}
	return append(all, c.all()...)
}

// check is a CheckQueue in progress. Its findings concern the queue as a whole.
type check struct {
	findings
	queue     Queue
	accounted Sequences // settled, queued, or part of a finding
	bound     uint64    // what became of later messages cannot be told
}

// product compares the queue with one product's history.
func (c *check) product(r *Replay) []Finding {
	f := findings{product: r.product}
	newest, settled, q := r.head.Queue, r.settled[c.queue.Epoch], &c.queue
	c.accounted.addAll(settled)

	w := sale.Witness{Epoch: q.Epoch, First: q.First, Acked: q.Acked[r.product], Last: q.End}
	if newest.Seq <= q.Mark {
		w.Last = max(q.End, q.Mark) // a queue that lost its end is one finding, not one a product
	}
	if r.stopped || r.cut {
		w.Acked = 0 // the history is not behind, it cannot be read
		c.bound = min(c.bound, in(q.Epoch, newest))
	}
	if err := w.Check(newest); err != nil {
		f.add("P3", "%v", err)
	}
	c.stranded(&f, r, settled)
	if newest.Epoch != q.Epoch {
		if w.Acked >= q.First {
			c.accounted.add(span{q.First, w.Acked})
		}
		return f.all()
	}
	if w.Acked > newest.Seq {
		c.accounted.add(span{newest.Seq + 1, w.Acked})
	}
	passed := q.Queued[r.product].without(newest.Seq, settled)
	for _, r := range passed.sorted() {
		f.add("P2", "%v: still in the queue, although the later message %d was decided", r, newest.Seq)
	}
	return f.all()
}

// stranded reports undecided messages in the queue that the consumer will not hand out:
// nobody would decide them (P3). Those before a decided one are reported as passed over.
func (c *check) stranded(f *findings, r *Replay, settled *Sequences) {
	if r.stopped || r.cut {
		return // what was settled is not known
	}
	var done Sequences
	done.addAll(settled)
	if seq := in(c.queue.Epoch, r.head.Queue); seq > 0 {
		done.add(span{1, seq})
	}
	left := c.queue.Queued[r.product].without(c.queue.Passed[r.product]+1, &done)
	for _, s := range left.sorted() {
		f.add("P3", "%v: still in the queue, and its consumer will not hand it out: run firstcome repair", s)
	}
}

// in is the sequence of a position in that epoch, 0 if the position is in another.
func in(epoch string, p sale.Position) uint64 {
	if p.Epoch != epoch {
		return 0
	}
	return p.Seq
}

// claim is a product's word that it settled some messages.
type claim struct {
	span
	product sale.ProductID
}

// twice reports messages that more than one product settled, in any epoch (P4).
func (c *check) twice(replays []*Replay) {
	claims := map[string][]claim{}
	for _, r := range replays {
		for epoch, settled := range r.settled {
			for _, s := range settled.sorted() {
				claims[epoch] = append(claims[epoch], claim{s, r.product})
			}
		}
	}
	for _, epoch := range slices.Sorted(maps.Keys(claims)) {
		c.overlaps(epoch, claims[epoch])
	}
}

func (c *check) overlaps(epoch string, claims []claim) {
	where := ""
	if epoch != c.queue.Epoch {
		where = " in an earlier queue"
		if isTime(epoch) {
			where = fmt.Sprintf(" in the queue of %s", epoch)
		}
	}
	slices.SortStableFunc(claims, func(a, b claim) int { return cmp.Compare(a.first, b.first) })
	for i := 1; i < len(claims); i++ {
		one, two := &claims[i-1], &claims[i]
		if two.first <= one.last {
			c.add("P4", "%v%s: settled for both %s and %s", span{two.first, min(one.last, two.last)}, where, one.product, two.product)
		}
		if one.last > two.last { // a wide claim goes on beside those that follow it
			two.last, two.product = one.last, one.product
		}
	}
}
