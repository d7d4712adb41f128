package sale

import (
	"fmt"
	"slices"
)

// naiveBook is the book as one would write it down: lists, searched through.
type naiveBook struct {
	orders  []*naiveOrder // as they were first heard of
	folds   map[ProductID]*naiveFold
	expects map[ProductID]Position // the newest message expected
}

// naiveFold is what is known of one product.
type naiveFold struct {
	known   bool // from its first link or message on
	links   []*Link
	at      Seq // of the newest link
	seen    Seq
	foreign uint64
	waiting []naiveMessage
	tickets []ticket // of those who wait, first in line first
}

type naiveMessage struct {
	Position
	pauses bool
}

type naiveOrder struct {
	status Status
	void   bool
}

type ticket struct {
	Position
	order *naiveOrder
}

func newNaiveBook(products []ProductID) *naiveBook {
	n := &naiveBook{folds: map[ProductID]*naiveFold{}, expects: map[ProductID]Position{}}
	for _, p := range products {
		n.folds[p] = &naiveFold{}
	}
	return n
}

func (n *naiveBook) find(id OrderID, product ProductID) *naiveOrder {
	for _, o := range n.orders {
		if o.status.ID == id && o.status.Product == product && !o.void {
			return o
		}
	}
	return nil
}

func (n *naiveBook) push(o Order, product ProductID) *naiveOrder {
	added := &naiveOrder{status: Status{Order: o, Product: product}}
	n.orders = append(n.orders, added)
	return added
}

// newestLink is the product's, one of nothing while there is none.
func (n *naiveBook) newestLink(product ProductID) *Link {
	if links := n.folds[product].links; len(links) > 0 {
		return links[len(links)-1]
	}
	return &Link{Stock: Stock{Product: product}}
}

// renew is what Book.Renew does for one product.
func (n *naiveBook) renew(product ProductID, epoch string) {
	if n.expects[product].Epoch != epoch {
		n.expects[product] = Position{Epoch: epoch}
		n.folds[product].tickets, n.folds[product].waiting = nil, nil
	}
}

func (n *naiveBook) expect(m *Message, lines []Line) {
	f := n.folds[m.Product]
	f.known = true
	n.renew(m.Product, m.Epoch)
	settled := n.newestLink(m.Product).Queue
	if m.Seq <= n.expects[m.Product].Seq || settled.Epoch == m.Epoch && m.Seq <= settled.Seq {
		return
	}
	n.expects[m.Product] = m.Position()
	pauses := false
	for _, l := range lines {
		switch {
		case l.Err != nil:
		case m.Desk:
			pauses = pauses || l.Desk.Paused != nil && *l.Desk.Paused
		default:
			o := n.find(l.Order.ID, m.Product)
			if o == nil {
				o = n.push(l.Order, m.Product)
			}
			holds := func(t ticket) bool { return t.order == o }
			if o.status.Outcome == Pending && !slices.ContainsFunc(f.tickets, holds) {
				f.tickets = append(f.tickets, ticket{m.Position(), o})
			}
		}
	}
	f.waiting = append(f.waiting, naiveMessage{m.Position(), pauses})
}

// apply returns what the book has to tell of it, if anything. Values before the first
// link leave nothing behind: any name can be made up.
func (n *naiveBook) apply(product ProductID, r revision) (told string) {
	f := n.folds[product]
	if r.seq <= f.seen {
		return ""
	}
	f.known = f.known || r.link != nil
	if f.known {
		f.seen = r.seq
	}
	if r.link == nil {
		if f.known {
			f.foreign++
		}
		return fmt.Sprintf("%s at %d is foreign: true", product, r.seq)
	}
	f.at = r.seq
	for _, o := range r.link.Orders {
		known := n.find(o.ID, product)
		if !o.Outcome.Final() || known != nil && known.status.Outcome != Pending {
			continue
		}
		if known != nil && known.status.Email != o.Email {
			known.void = true
			known = nil
		}
		if known == nil {
			known = n.push(o.Order, product)
		}
		known.status = Status{Order: o.Order, Product: product, Outcome: o.Outcome, Place: o.Place, DecidedAt: r.link.At}
	}
	f.links = append(f.links, r.link)
	settled := func(p Position) bool { return p.Epoch == r.link.Queue.Epoch && p.Seq <= r.link.Queue.Seq }
	f.tickets = slices.DeleteFunc(f.tickets, func(t ticket) bool { return settled(t.Position) })
	f.waiting = slices.DeleteFunc(f.waiting, func(m naiveMessage) bool { return settled(m.Position) })
	return fmt.Sprintf("%s %d %s", product, r.link.N, HashOf(r.value))
}

// settled is what Book.Settled tells.
func (n *naiveBook) settled(m *Message, lines []Line) (told []Status, unknown int) {
	newest := n.newestLink(m.Product)
	for _, l := range lines {
		switch {
		case l.Err != nil:
		case m.Desk && !n.steered(l.Desk.ID, m.Product), !m.Desk && !n.decided(l.Order.ID, m.Product):
			return nil, l.N
		}
	}
	if newest.Queue == m.Position() {
		told = newest.Statuses()
	}
	return told, 0
}

func (n *naiveBook) newest(e Email) []Status {
	var found []Status
	for _, o := range slices.Backward(n.orders) {
		if o.status.Email == e && !o.void {
			found = append(found, n.statusOf(o))
		}
	}
	return found
}

func (n *naiveBook) statusOf(o *naiveOrder) Status {
	s := o.status
	if s.Outcome == Pending {
		s.Turn = uint64(1 + slices.IndexFunc(n.folds[s.Product].tickets, func(t ticket) bool { return t.order == o }))
	}
	return s
}

func (n *naiveBook) recent(e Email, max int) (found []Status) {
	for i, s := range n.newest(e) {
		if i < max || s.Outcome == Pending {
			found = append(found, s)
		}
	}
	slices.Reverse(found)
	return found
}

func (n *naiveBook) waits(e Email) map[ProductID]Wait {
	waits := map[ProductID]Wait{}
	for product, f := range n.folds {
		for ahead, t := range f.tickets {
			if s := t.order.status; s.Email == e && s.Outcome == Pending && !t.order.void {
				waits[product] = Wait{product, uint64(ahead), n.newestLink(product).Decided}
				break
			}
		}
	}
	return waits
}

func (n *naiveBook) got(e Email, product ProductID) (units int64) {
	for _, l := range n.folds[product].links {
		for _, o := range l.Orders {
			if o.Email == e && o.Outcome == Accepted {
				units += int64(o.Quantity)
			}
		}
	}
	return units
}

func (n *naiveBook) decided(id OrderID, product ProductID) bool {
	return slices.ContainsFunc(n.folds[product].links, func(l *Link) bool {
		return slices.ContainsFunc(l.Orders, func(o DecidedOrder) bool { return o.ID == id && o.Outcome.Final() })
	})
}

func (n *naiveBook) steered(id OrderID, product ProductID) bool {
	return slices.ContainsFunc(n.folds[product].links, func(l *Link) bool {
		return slices.ContainsFunc(l.Desk, func(d DecidedLine) bool { return d.ID == id })
	})
}
