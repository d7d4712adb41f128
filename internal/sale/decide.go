package sale

import "time"

// Past is what was decided before: exactly what the product's links up to the newest
// one say, neither less nor more.
type Past interface {
	// Decided tells whether the product's order has its first outcome already. The
	// same id for another product is another order: a product's outcomes depend on
	// its own history alone (P8).
	Decided(id OrderID, product ProductID) bool
	// Steered tells whether the product's history has that desk line already.
	Steered(id OrderID, product ProductID) bool
	// Got is how many units of the product the buyer has in accepted orders.
	Got(buyer Email, product ProductID) int64
}

// Decide is the rule. It goes through the lines in order and gives each its
// outcome: a line that is no order is Dead; an order decided before, or earlier
// in the same group, is a Duplicate (P4); then the buyer's limit is looked at,
// then the stock. A quantity above what is left is SoldOut and leaves the stock
// to those behind (P5). It returns the stock after the group, and one outcome per
// line.
//
// It has no clock, no I/O and no goroutine: the same arguments always give the
// same result, which is what lets anyone recompute the history (P8).
func Decide(stock Stock, past Past, lines []Line) (Stock, []Outcome) {
	outcomes := make([]Outcome, len(lines))
	seen := make(map[OrderID]struct{}, len(lines))
	var got map[Email]int64 // units accepted in this group
	if stock.LimitPerBuyer > 0 {
		got = make(map[Email]int64)
	}
	for i := range lines {
		if lines[i].Err != nil {
			outcomes[i] = Dead
			continue
		}
		o := &lines[i].Order
		if _, again := seen[o.ID]; again || past.Decided(o.ID, stock.Product) {
			outcomes[i] = Duplicate
			continue
		}
		seen[o.ID] = struct{}{}
		stock.Decided++
		units := int64(o.Quantity)
		switch {
		case stock.LimitPerBuyer > 0 && past.Got(o.Email, stock.Product)+got[o.Email]+units > stock.LimitPerBuyer:
			outcomes[i] = LimitReached
		case units > stock.Available:
			outcomes[i] = SoldOut
		default:
			outcomes[i] = Accepted
			stock.Available -= units
			stock.Sold += units
			if got != nil {
				got[o.Email] += units
			}
		}
	}
	return stock, outcomes
}

// Decide is the link that settles a message after h, by the instance of that name, and
// the outcome of each line if the message is one of orders. Desk lines are decided like
// orders, in their place. A message without a good line is a link, too: every message
// is exactly one.
func (h *Head) Decide(past Past, m *Message, lines []Line, by string, at time.Time) (*Link, []Outcome) {
	if at = Instant(at); at.Before(h.At) {
		at = h.At
	}
	link := &Link{N: h.N + 1, Prev: h.Hash, At: at, By: by, Queue: m.Position(), Change: OrdersTaken}
	if m.Desk {
		link.Change = DeskTaken
		link.Stock, link.Desk = steer(h.Stock, past, lines)
		return link, nil
	}
	var outcomes []Outcome
	link.Stock, outcomes = Decide(h.Stock, past, lines)
	link.Orders = decidedOrders(lines, outcomes, h.Decided)
	return link, outcomes
}

// decidedOrders are the orders of a message with their outcomes, without the dead
// lines, and with the places behind those decided before.
func decidedOrders(lines []Line, outcomes []Outcome, place uint64) []DecidedOrder {
	orders := make([]DecidedOrder, 0, len(lines))
	for i := range lines {
		o := DecidedOrder{Order: lines[i].Order, Outcome: outcomes[i]}
		if o.Outcome == Dead {
			continue
		}
		if o.Outcome.Final() {
			place++
			o.Place = place
		}
		orders = append(orders, o)
	}
	return orders
}
