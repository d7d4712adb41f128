package audit

import (
	"fmt"

	"firstcome/internal/sale"
)

// past is what the links so far said of orders and desk lines.
type past struct {
	decided map[sale.OrderID]struct{}
	steered map[sale.OrderID]struct{}
	got     map[sale.Email]int64 // units
}

func newPast() past {
	return past{decided: map[sale.OrderID]struct{}{}, steered: map[sale.OrderID]struct{}{}, got: map[sale.Email]int64{}}
}

// Decided implements sale.Past.
func (p *past) Decided(id sale.OrderID, _ sale.ProductID) bool {
	_, ok := p.decided[id]
	return ok
}

// Steered implements sale.Past.
func (p *past) Steered(id sale.OrderID, _ sale.ProductID) bool {
	_, ok := p.steered[id]
	return ok
}

// Got implements sale.Past.
func (p *past) Got(buyer sale.Email, _ sale.ProductID) int64 { return p.got[buyer] }

// orders decides the link's orders again, one by one: each on what the link says of
// those before it. It returns the stock after them.
func (r *Replay) orders(before *sale.Head, link *sale.Link) sale.Stock {
	stock := before.Stock
	var line [1]sale.Line
	for i := range link.Orders {
		o := &link.Orders[i]
		line[0].Order = o.Order
		next, outcomes := sale.Decide(stock, &r.past, line[:])
		if outcomes[0] != o.Outcome {
			r.outcome(link, o, outcomes[0], stock.Available)
			next = claimed(stock, o)
		}
		stock = next
		r.place(link, o, stock.Decided)
		if o.Outcome.Final() {
			r.past.decided[o.ID] = struct{}{}
		}
		if o.Outcome == sale.Accepted {
			r.past.got[o.Email] += int64(o.Quantity)
			r.gained(link, o)
		}
	}
	return stock
}

// claimed is the stock after an order if it came to what its link says.
func claimed(stock sale.Stock, o *sale.DecidedOrder) sale.Stock {
	if o.Outcome.Final() {
		stock.Decided++
	}
	if o.Outcome == sale.Accepted {
		stock.Available -= int64(o.Quantity)
		stock.Sold += int64(o.Quantity)
	}
	return stock
}

// outcome reports an outcome that is not the rule's, given the units left before it. A
// refused order that the rule accepts waits for a later one that gains by it.
func (r *Replay) outcome(link *sale.Link, o *sale.DecidedOrder, rule sale.Outcome, left int64) {
	switch {
	case rule == sale.Duplicate:
		r.add("P4", "link %d decides order %s a second time", link.N, o.ID)
	case o.Outcome == sale.Duplicate:
		r.add("P4", "link %d calls order %s a duplicate, and no link decided it before", link.N, o.ID)
	case o.Outcome == sale.Accepted && int64(o.Quantity) > left:
		r.add("P1", "link %d accepts order %s for %d units with %d left", link.N, o.ID, o.Quantity, left)
	case rule == sale.Accepted && r.refused == nil:
		r.refused = &refusal{link: link.N, order: *o, left: left}
	case rule == sale.Accepted:
		r.refused.more++
	default:
		r.add("P8", "order %s in link %d is %s, by the rule it is %s", o.ID, link.N, o.Outcome, rule)
	}
}

// place checks the order's place, given how many are decided with it (P2).
func (r *Replay) place(link *sale.Link, o *sale.DecidedOrder, decided uint64) {
	switch {
	case !o.Outcome.Final():
		if o.Place != 0 {
			r.add("P4", "the duplicate %s in link %d has place %d", o.ID, link.N, o.Place)
		}
	case o.Place != decided:
		r.add("P2", "order %s in link %d has place %d instead of %d", o.ID, link.N, o.Place, decided)
	}
}

// refusal is an order that was refused although the rule accepts it.
type refusal struct {
	link  uint64
	order sale.DecidedOrder
	left  int64 // units before it
	more  int   // such orders after it
}

func (r *refusal) String() string {
	text := fmt.Sprintf("the order at place %d in link %d is %s, for %d units with %d left", r.order.Place, r.link, r.order.Outcome, r.order.Quantity, r.left)
	if r.more > 0 {
		text += fmt.Sprintf(" (and %d more like it)", r.more)
	}
	return text
}

// gained reports a refusal that a later order gained by (P2).
func (r *Replay) gained(link *sale.Link, o *sale.DecidedOrder) {
	if r.refused != nil {
		r.add("P2", "%s, and the one at place %d in link %d got %d units", r.refused, o.Place, link.N, o.Quantity)
		r.refused = nil
	}
}

// unsold reports a refusal that no other order gained by (P5).
func (r *Replay) unsold() {
	if r.refused != nil {
		r.add("P5", "%s", r.refused)
		r.refused = nil
	}
}

// desk decides the link's desk lines again, and returns the stock after them.
func (r *Replay) desk(before *sale.Head, link *sale.Link) sale.Stock {
	lines := make([]sale.Line, len(link.Desk))
	for i := range link.Desk {
		lines[i].Desk = &link.Desk[i].DeskLine
	}
	m := &sale.Message{Product: r.product, Desk: true, Epoch: link.Queue.Epoch, Seq: link.Queue.Seq}
	ruled, _ := before.Decide(&r.past, m, lines, link.By, link.At)
	for i := range link.Desk {
		l := &link.Desk[i]
		if rule := ruled.Desk[i].Refused; l.Refused != rule {
			promise := "P8"
			if l.Refused == sale.DuplicateLine || rule == sale.DuplicateLine {
				promise = "P4"
			}
			r.add(promise, "desk line %s in link %d is %s, by the rule it is %s", l.ID, link.N, became(l.Refused), became(rule))
		}
		r.past.steered[l.ID] = struct{}{}
	}
	return ruled.Stock
}

// became says what became of a desk line. A reason that the rule does not know is not
// repeated.
func became(r sale.Refusal) string {
	switch r {
	case "":
		return "done"
	case sale.DuplicateLine, sale.NotEnough, sale.OutOfRange, sale.ClosesBeforeOpens:
		return "refused as " + string(r)
	}
	return "refused for a reason that is none"
}
