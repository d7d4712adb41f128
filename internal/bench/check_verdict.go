package bench

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"sync"
)

// ErrBroken is what Run's error wraps when Check found a promise broken.
var ErrBroken = errors.New("the promise is broken")

// Promise names one of the product's promises.
type Promise string

// The promises that can be checked from outside.
const (
	P1 Promise = "P1" // no oversell
	P2 Promise = "P2" // strict order
	P3 Promise = "P3" // no acknowledged order is lost
	P4 Promise = "P4" // exactly one final outcome per order
	P5 Promise = "P5" // no undersell
	P6 Promise = "P6" // the outcome reaches the buyer
	P8 Promise = "P8" // the history explains the stock
)

// Breach is everything found against one promise.
type Breach struct {
	Promise  Promise  `json:"promise"`
	Count    int64    `json:"count"`
	Examples []string `json:"examples"` // the first few
}

// Checked is the result of Check.
type Checked struct {
	OK         bool             `json:"ok"`
	Orders     int64            `json:"orders"`    // asked for by GET, each
	Outcomes   map[string]int64 `json:"outcomes"`  // as GET tells them
	Exclusive  bool             `json:"exclusive"` // nobody else ordered, as far as can be told
	Uncertain  int64            `json:"uncertain"` // requests without an answer that settles whether they were stored
	Breaches   []Breach         `json:"breaches,omitempty"`
	Unverified []string         `json:"unverified,omitempty"` // what could not be asked
}

// err is what makes the run fail.
func (c *Checked) err() error {
	var all []string
	for _, b := range c.Breaches {
		all = append(all, fmt.Sprintf("%s (%d times, first: %s)", b.Promise, b.Count, b.Examples[0]))
	}
	if len(all) > 0 {
		return fmt.Errorf("%w: %s", ErrBroken, strings.Join(all, "; "))
	}
	return fmt.Errorf("the check could not be completed: %s", strings.Join(c.Unverified, "; "))
}

func (c *Checked) table(b *strings.Builder) {
	who := "nobody else ordered"
	if !c.Exclusive {
		who = "others ordered too: places may have gaps, units may be theirs"
	}
	verdict := "ok"
	if !c.OK {
		verdict = "BROKEN"
		if len(c.Breaches) == 0 {
			verdict = "INCOMPLETE"
		}
	}
	fmt.Fprintf(b, "\ncheck: %s, %d orders asked for by GET (%s)\n", verdict, c.Orders, who)
	for _, o := range slices.Sorted(maps.Keys(c.Outcomes)) {
		fmt.Fprintf(b, "%9d  %s\n", c.Outcomes[o], o)
	}
	if c.Uncertain > 0 {
		fmt.Fprintf(b, "%9d  requests whose order may or may not have been stored\n", c.Uncertain)
	}
	for _, breach := range c.Breaches {
		fmt.Fprintf(b, "%s broken, %d times:\n", breach.Promise, breach.Count)
		for _, example := range breach.Examples {
			fmt.Fprintf(b, "  %s\n", example)
		}
	}
	for _, what := range c.Unverified {
		fmt.Fprintf(b, "not verified: %s\n", what)
	}
}

const maxExamples = 3

// verdict collects breaches from many goroutines.
type verdict struct {
	mu       sync.Mutex
	breaches map[Promise]*Breach
}

func newVerdict() *verdict { return &verdict{breaches: map[Promise]*Breach{}} }

func (v *verdict) broken(p Promise, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	b := v.breaches[p]
	if b == nil {
		b = &Breach{Promise: p}
		v.breaches[p] = b
	}
	b.Count++
	if len(b.Examples) < maxExamples {
		b.Examples = append(b.Examples, fmt.Sprintf(format, args...))
	}
}

func (v *verdict) list() []Breach {
	v.mu.Lock()
	defer v.mu.Unlock()
	var all []Breach
	for _, b := range v.breaches {
		all = append(all, *b)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Promise < all[j].Promise })
	return all
}

// facts is what is known after a run, on one side of the comparison.
type facts struct {
	before, after product
	exclusive     bool  // nobody else ordered
	sockets       bool  // outcomes were to be told
	refused       int64 // 409, but for a buyer's limit
	uncertain     int64
	orders        []fact
}

// fact is one order that was answered 202, from all sides.
type fact struct {
	receipt
	final   outcome // by GET
	finalAt int64   // place by GET
}

// judge compares. It asks nobody and keeps nothing: the same facts give the
// same breaches.
func (v *verdict) judge(f facts) {
	v.judgeOrders(f)
	v.judgeStock(f)
	v.judgePlaces(f)
}

func (v *verdict) judgeOrders(f facts) {
	sort.Slice(f.orders, func(i, j int) bool {
		return strings.Compare(string(f.orders[i].id[:]), string(f.orders[j].id[:])) < 0
	})
	for i, o := range f.orders {
		if i > 0 && f.orders[i-1].id == o.id {
			v.broken(P4, "two orders were answered with the same id %s", o.id)
		}
		if !o.final.final() {
			continue // judged when it was asked for
		}
		switch {
		case f.sockets && o.outcome == unknown:
			v.broken(P6, "order %s is %s, and its buyer's socket was never told", o.id, o.final)
		case o.outcome != unknown && (o.outcome != o.final || o.place != o.finalAt):
			v.broken(P4, "order %s was %s at place %d on the socket and is %s at place %d by GET", o.id, o.outcome, o.place, o.final, o.finalAt)
		}
	}
}

func (v *verdict) judgeStock(f facts) {
	for _, p := range []product{f.before, f.after} {
		if p.Available+p.Sold != p.Supplied {
			v.broken(P8, "product %s: %d available + %d sold is not %d supplied", p.ID, p.Available, p.Sold, p.Supplied)
		}
		if p.Available < 0 {
			v.broken(P1, "product %s has %d units available", p.ID, p.Available)
		}
	}
	var n [outcomes]int64
	for _, o := range f.orders {
		n[o.final]++
	}
	restocked := f.after.Supplied - f.before.Supplied
	supply := f.before.Available + restocked
	sold := f.after.Sold - f.before.Sold
	if n[accepted] > supply {
		v.broken(P1, "%d orders were accepted for %d units", n[accepted], supply)
	}
	if !f.exclusive {
		if sold < n[accepted] {
			v.broken(P8, "%d orders were accepted, and the product counts %d more sold", n[accepted], sold)
		}
		return
	}
	if sold < n[accepted] || sold > n[accepted]+f.uncertain {
		v.broken(P8, "%d orders were accepted, and the product counts %d more sold", n[accepted], sold)
	}
	if restocked != 0 {
		return // what was refused before the restock cannot be told from what was refused after
	}
	due := min(int64(len(f.orders))-n[limitReached], supply)
	if n[accepted]+f.uncertain < due {
		v.broken(P5, "%d orders were accepted; %d units were there for %d orders", n[accepted], supply, len(f.orders))
	}
	// A sale that was not open before the run had a reason to refuse.
	if f.refused > 0 && f.before.State == stateOpen && f.after.State == stateOpen && f.after.Available > 0 {
		v.broken(P5, "%d orders were refused at the door, and %d units are left", f.refused, f.after.Available)
	}
}

func (v *verdict) judgePlaces(f facts) {
	placed := make([]fact, 0, len(f.orders))
	for _, o := range f.orders {
		switch {
		case !o.final.final():
		case o.finalAt < 1:
			v.broken(P8, "order %s is %s and has no place", o.id, o.final)
		default:
			placed = append(placed, o)
		}
	}
	if len(placed) == 0 {
		return
	}
	sort.Slice(placed, func(i, j int) bool { return placed[i].finalAt < placed[j].finalAt })
	for i, o := range placed[1:] {
		if o.finalAt == placed[i].finalAt {
			v.broken(P8, "orders %s and %s have the same place %d", placed[i].id, o.id, o.finalAt)
		}
	}
	first, last := placed[0].finalAt, placed[len(placed)-1].finalAt
	complete := f.exclusive && f.uncertain == 0 && len(placed) == len(f.orders)
	if gaps := last - first + 1 - int64(len(placed)); complete && gaps > 0 {
		v.broken(P8, "places %d to %d hold %d orders: %d are missing", first, last, len(placed), gaps)
	}
	if f.after.Supplied == f.before.Supplied {
		v.judgeRefusedEarlier(placed)
	}
	v.judgeQueueOrder(placed)
}

// judgeRefusedEarlier: every bench order is for one unit, so without a restock
// nobody gets one after somebody was told that none is left (P2).
func (v *verdict) judgeRefusedEarlier(byPlace []fact) {
	var gone *fact
	for i, o := range byPlace {
		switch {
		case o.final == soldOut && gone == nil:
			gone = &byPlace[i]
		case o.final == accepted && gone != nil:
			v.broken(P2, "order %s at place %d was accepted after %s at place %d was told sold out", o.id, o.finalAt, gone.id, gone.finalAt)
		}
	}
}

// judgeQueueOrder: an order that was answered before another was sent is in
// the queue before it, and so it is decided before it (P2).
func (v *verdict) judgeQueueOrder(byPlace []fact) {
	// From the last place to the first: of all orders decided later, the one
	// that was answered first must not have been answered before this was sent.
	earliest := byPlace[len(byPlace)-1]
	for i := len(byPlace) - 2; i >= 0; i-- {
		o := byPlace[i]
		if earliest.answered < o.sent && earliest.finalAt != o.finalAt {
			v.broken(P2, "order %s was answered before %s was sent, and has place %d after place %d", earliest.id, o.id, earliest.finalAt, o.finalAt)
		}
		if o.answered < earliest.answered {
			earliest = o
		}
	}
}
