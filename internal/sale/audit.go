package sale

import (
	"fmt"
	"hash/maphash"
	"math"
)

// Finding is one broken promise, found in what is stored.
type Finding struct {
	Promise string    // "P1" … "P8", see the package comment
	Product ProductID // "" if it concerns the queue as a whole
	Detail  string    // for an operator; it holds no buyer's address
}

// String is the finding on one line.
func (f Finding) String() string {
	if f.Product == "" {
		return f.Promise + " broken: " + f.Detail
	}
	return f.Promise + " broken for " + string(f.Product) + ": " + f.Detail
}

// maxFindings bounds what one audit says of a product: a history broken in a
// million places is told by its first ones, and by how many more there are.
const maxFindings = 100

type findings struct {
	product ProductID
	list    []Finding
	more    int
}

func (f *findings) add(promise, format string, args ...any) {
	if len(f.list) == maxFindings {
		f.more++
		return
	}
	f.list = append(f.list, Finding{Promise: promise, Product: f.product, Detail: fmt.Sprintf(format, args...)})
}

func (f *findings) all() []Finding {
	if f.more > 0 {
		return append(f.list, Finding{Promise: "P8", Product: f.product, Detail: fmt.Sprintf("and %d findings more", f.more)})
	}
	return f.list
}

// Summary is what an audit counted in a product's ledger.
type Summary struct {
	Product      ProductID
	Entries      uint64
	Orders       uint64 // that got their first outcome
	Accepted     uint64
	SoldOut      uint64
	LimitReached uint64
	Duplicates   uint64 // lines of orders that had their outcome
	UnitsSold    int64
	Available    int64    // units, as the stock value says
	Supplied     int64    // units, as the stock value says
	Notes        []string // what is worth telling and breaks nothing
}

// Audit recomputes the history of one product and names every promise that it
// breaks. Give it the stock value, then every ledger entry in order, then ask for
// Finish. It knows nothing of the Book and keeps about 25 bytes an order, besides
// the buyers who got something.
//
// It may run beside an open sale if the stock value was read before the ledger
// and entries after the value's count are left out.
type Audit struct {
	findings
	summary Summary
	stock   *Stock // nil: none is stored, or it cannot be read

	n       uint64    // entries given
	head    Head      // of the last one
	hash    string    // of its bytes
	last    []Outcome // of its orders
	blind   bool      // an entry is missing: who had ordered before is not known
	figures bool      // head's figures can be counted on from
	epochs  map[string]struct{}
	settled Sequences // in head's epoch
	refused *refusal

	seed maphash.Seed
	ids  pile[OrderID] // of orders that have an outcome
	byID table
	got  map[Email]int64 // units
}

// refusal is an order that was refused although there was enough for it.
type refusal struct {
	n, place    uint64
	units, left int64
}

// NewAudit begins the audit of a product. The stock value is as it is stored, nil
// if there is none; what is wrong with it becomes a finding.
func NewAudit(product ProductID, stockValue []byte) *Audit {
	a := &Audit{findings: findings{product: product}, summary: Summary{Product: product}, figures: true,
		epochs: map[string]struct{}{}, seed: maphash.MakeSeed(), got: map[Email]int64{}}
	a.readStock(stockValue)
	return a
}

// Entry checks the next entry of the ledger: its bytes as stored under number n.
func (a *Audit) Entry(n uint64, data []byte) {
	if n <= a.n {
		a.add("P8", "entry %d comes again after entry %d", n, a.n)
		return
	}
	chained := n == a.n+1
	if !chained {
		a.add("P8", "entry %d follows entry %d: the ones between are missing", n, a.n)
		a.blind, a.figures = true, false
	}
	prev := a.hash
	a.n, a.hash = n, hashEntry(data)
	e, err := DecodeEntry(data)
	if err == nil && (e.Product != a.product || e.N != n) {
		err = fmt.Errorf("it is entry %d of %s", e.N, e.Product)
	}
	if err != nil {
		a.add("P8", "entry %d cannot be read: %v", n, err)
		a.blind, a.figures = true, false
		return
	}
	if chained && e.Prev != prev {
		a.add("P8", "entry %d does not continue entry %d: prev is %q, the hash %q", n, n-1, e.Prev, prev)
	}
	a.position(n, e)
	a.outcomes(n, e)
	a.head, a.figures = e.Head, true
}

// position checks the entry's place in the queue (P2).
func (a *Audit) position(n uint64, e *Entry) {
	_, seen := a.epochs[e.Epoch]
	switch {
	case e.Epoch == "" || e.Seq == 0:
		a.add("P8", "entry %d has no place in the queue", n)
	case e.Epoch == a.head.Epoch && e.Seq <= a.head.Seq:
		a.add("P2", "entry %d decided message %d after message %d", n, e.Seq, a.head.Seq)
	case e.Epoch != a.head.Epoch && seen:
		a.add("P2", "entry %d goes back to the queue of %s, which had ended", n, e.Epoch)
	}
	if e.Epoch != a.head.Epoch {
		a.epochs[e.Epoch] = struct{}{}
		a.settled = Sequences{}
	}
	a.settled.Add(e.Seq)
}

// outcomes goes through the entry's orders as Decide did.
func (a *Audit) outcomes(n uint64, e *Entry) {
	left, place := a.before(n, e)
	// Some limit must explain all that was decided here: every accepted or sold
	// out order got past it, every limit_reached one did not.
	var least int64 = 1
	most := int64(MaxUnits)
	a.last = a.last[:0]
	for i := range e.Orders {
		o := &e.Orders[i]
		a.last = append(a.last, o.Outcome)
		known := a.known(o.ID)
		if !o.Outcome.Final() {
			a.other(n, o, known)
			continue
		}
		if known {
			a.add("P4", "entry %d decides order %s a second time", n, o.ID)
		} else {
			a.remember(o.ID)
		}
		place++
		if o.Place != place {
			a.add("P2", "order %s in entry %d has place %d instead of %d", o.ID, n, o.Place, place)
		}
		units := int64(o.Quantity)
		total := a.got[o.Email] + units
		a.summary.Orders++
		switch o.Outcome {
		case LimitReached:
			a.summary.LimitReached++
			most = min(most, total-1)
			continue
		case SoldOut:
			a.summary.SoldOut++
			if units <= left && a.refused == nil {
				a.refused = &refusal{n, place, units, left}
			}
		case Accepted:
			a.summary.Accepted++
			a.summary.UnitsSold += units
			a.got[o.Email] = total
			if units > left {
				a.add("P1", "entry %d accepts order %s for %d units with %d left", n, o.ID, units, left)
			}
			left -= units
			if r := a.refused; r != nil {
				a.add("P2", "the order at place %d was refused %d units with %d left, and the one at place %d got %d", r.place, r.units, r.left, place, units)
				a.refused = nil
			}
		}
		least = max(least, total)
	}
	if most < MaxUnits && least > most && !a.blind {
		a.add("P2", "no limit per buyer explains entry %d: it would be at least %d and at most %d", n, least, most)
	}
	a.after(n, e, left, place)
}

// other checks what is no first outcome.
func (a *Audit) other(n uint64, o *EntryOrder, known bool) {
	switch {
	case o.Outcome != Duplicate:
		a.add("P8", "order %s in entry %d is %s, which no ledger holds", o.ID, n, o.Outcome)
	case !known && !a.blind:
		a.add("P4", "entry %d calls order %s a duplicate, and no entry decided it before", n, o.ID)
	case o.Place != 0:
		a.add("P4", "the duplicate %s in entry %d has place %d", o.ID, n, o.Place)
	}
	if o.Outcome == Duplicate {
		a.summary.Duplicates++
	}
}

// before is what was left for the entry's first order, and how many orders had
// been decided. A restock since the entry before counts already.
func (a *Audit) before(n uint64, e *Entry) (left int64, place uint64) {
	if !a.figures {
		left, place = e.Available, e.Decided
		for i := range e.Orders {
			if e.Orders[i].Outcome == Accepted {
				left += int64(e.Orders[i].Quantity)
			}
			if e.Orders[i].Outcome.Final() {
				place--
			}
		}
		return left, place
	}
	if e.Supplied != a.head.Supplied {
		a.unsold()
	}
	left = a.head.Available + e.Supplied - a.head.Supplied
	if left < 0 {
		a.add("P1", "before entry %d the supply fell to %d, and %d of it were sold", n, e.Supplied, a.head.Supplied-a.head.Available)
	}
	return left, a.head.Decided
}

// after compares the entry's own figures with the recomputed ones. The next
// entry is measured by what this one says, so that one lie is one finding.
func (a *Audit) after(n uint64, e *Entry, left int64, place uint64) {
	switch {
	case e.Supplied < 0 || e.Supplied > MaxUnits:
		a.add("P8", "entry %d says that %d units were supplied", n, e.Supplied)
	case e.Available < 0:
		a.add("P1", "entry %d leaves %d units", n, e.Available)
	case e.Available > left:
		a.add("P1", "entry %d leaves %d units, by its orders it is %d", n, e.Available, left)
	case e.Available < left:
		a.add("P8", "entry %d leaves %d units, by its orders it is %d", n, e.Available, left)
	}
	if e.Decided != place {
		a.add("P8", "entry %d counts %d decided orders, by the ledger it is %d", n, e.Decided, place)
	}
}

// unsold reports a refusal that nobody else gained by (P5).
func (a *Audit) unsold() {
	if r := a.refused; r != nil {
		a.add("P5", "the order at place %d in entry %d was refused %d units with %d left", r.place, r.n, r.units, r.left)
		a.refused = nil
	}
}

func (a *Audit) known(id OrderID) bool {
	_, ok := a.byID.find(maphash.Bytes(a.seed, id[:]), func(n uint32) bool { return *a.ids.at(n) == id })
	return ok
}

func (a *Audit) remember(id OrderID) {
	a.byID.add(maphash.Bytes(a.seed, id[:]), a.ids.push(id))
}

// Finish compares the stock value with the history, and returns all that was
// found. It lets go of what the audit remembered of orders and buyers; Summary
// and AuditQueue still work. It may be called once, after the last entry.
func (a *Audit) Finish() []Finding {
	a.carried()
	a.unsold()
	a.summary.Entries = a.n
	a.compareStock()
	a.ids, a.byID, a.got = pile[OrderID]{}, table{}, nil
	return a.all()
}

// carried adds the entry that only the stock value holds yet: a worker died
// between the swap and the append, or is at it just now, and the next one writes it.
func (a *Audit) carried() {
	s := a.stock
	if s == nil || s.Last == nil || s.Entries != a.n+1 || s.Last.N != s.Entries {
		return
	}
	a.summary.Notes = append(a.summary.Notes, fmt.Sprintf("entry %d is in the stock value and not in the ledger yet", s.Entries))
	a.Entry(s.Entries, s.Entry().Encode())
}

// Summary is what the audit counted. It is complete after Finish.
func (a *Audit) Summary() Summary { return a.summary }

// Bound is the number of the last entry that belongs to the stock value: a sale
// that goes on appends others, which this audit leaves out. Without a readable
// value every entry belongs.
func (a *Audit) Bound() uint64 {
	if a.stock == nil {
		return math.MaxUint64
	}
	return a.stock.Entries
}
