package audit

import (
	"errors"

	"firstcome/internal/sale"
)

// Replay recomputes the history of one product. Give it every value of the product's
// key with Revision, then ask for Finish.
//
// It measures each link by what the link before says, not by what that one should have
// said, so that one lie is one finding. It keeps the id of every order and the address
// of every buyer with an accepted one.
type Replay struct {
	findings
	summary Summary
	head    sale.Head // the newest link
	past    past
	settled map[string]*Sequences // by the links, of each epoch
	refused *refusal
	foreign foreign
	stopped bool // a link has a layout that is not known here
	cut     bool // links are missing
}

// New begins the replay of a product's history.
func New(product sale.ProductID) *Replay {
	return &Replay{
		findings: findings{product: product},
		summary:  Summary{Product: product},
		head:     sale.Head{Stock: sale.Stock{Product: product}},
		past:     newPast(),
		settled:  map[string]*Sequences{},
	}
}

// Revision checks the next value of the key: its bytes as stored, none for a marker of
// deletion. No value may be left out.
func (r *Replay) Revision(seq sale.Seq, value []byte) {
	if r.stopped {
		return
	}
	before := r.head
	link, err := r.head.Continue(value)
	switch {
	case errors.Is(err, sale.ErrNewer):
		r.stopped = true
		r.add("P8", "revision %d is link %d in a layout that needs a newer firstcome: the history cannot be checked from there on", seq, before.N+1)
	case err != nil:
		r.passOver(seq, value)
	default:
		r.link(&before, link)
		r.summary.count(seq, link)
	}
}

// link checks a link against the one before.
func (r *Replay) link(before *sale.Head, link *sale.Link) {
	r.position(before, link)
	if link.At.Before(before.At) {
		r.add("P8", "link %d is of %s, before link %d of %s", link.N, hour(&link.At), before.N, hour(&before.At))
	}
	if link.Supplied != before.Supplied {
		r.unsold()
	}
	var ruled sale.Stock
	switch link.Change {
	case sale.Created:
		ruled = r.created(link)
	case sale.OrdersTaken:
		ruled = r.orders(before, link)
	case sale.DeskTaken:
		ruled = r.desk(before, link)
	}
	r.figures(link, &ruled)
}

// position checks the link's place in the queue (P2).
func (r *Replay) position(before *sale.Head, link *sale.Link) {
	epoch, seq := link.Queue.Epoch, link.Queue.Seq
	settled, known := r.settled[epoch]
	if !known {
		settled = &Sequences{}
		r.settled[epoch] = settled
	}
	switch {
	case !isTime(epoch):
		r.add("P8", "link %d has no place in the queue: its epoch is no time", link.N)
	case link.Change == sale.Created && seq > 0:
		r.add("P8", "link %d creates the product, and says that message %d was settled", link.N, seq)
	case link.Change != sale.Created && seq == 0:
		r.add("P8", "link %d settles no message", link.N)
	case link.N == 1:
	case epoch == before.Queue.Epoch && seq == before.Queue.Seq:
		r.add("P2", "link %d settles message %d a second time", link.N, seq)
	case epoch != before.Queue.Epoch && known:
		r.add("P2", "link %d goes back to the queue of %s, which had ended", link.N, epoch)
	}
	if seq > 0 {
		settled.Add(seq)
	}
}

// created is the stock that the product begins with. Hours and pause are what the link
// says: there is nothing before it that they could follow from.
func (r *Replay) created(link *sale.Link) sale.Stock {
	first, err := sale.NewProduct(r.product, link.Supplied, link.LimitPerBuyer, link.Queue.Epoch, link.At)
	if err != nil {
		r.add("P8", "link %d creates the product out of range: %v", link.N, err)
		return link.Stock
	}
	first.OpensAt, first.ClosesAt, first.Paused = link.OpensAt, link.ClosesAt, link.Paused
	return first.Stock
}

// Finish returns all that was found. It lets go of what the replay remembered of orders
// and buyers; Summary and CheckQueue still work. It is called once, after the last
// Revision.
func (r *Replay) Finish() []Finding {
	r.unsold()
	r.finishForeign()
	r.past = past{}
	return r.all()
}

// Summary is what the replay counted. It is complete after Finish.
func (r *Replay) Summary() Summary { return r.summary }
