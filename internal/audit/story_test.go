package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"firstcome/internal/sale"
)

// What the tests tell of: two days, each with its queue.
const (
	dayOne = "2026-03-01T08:00:00Z"
	dayTwo = "2026-03-02T08:00:00.5Z"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func testID(n int) (id sale.OrderID) {
	copy(id[:], fmt.Sprintf("order-%010d", n))
	return id
}

func testBuyer(n int) sale.Email { return sale.Email(fmt.Sprintf("buyer%d@example.com", n)) }

// order is a line of a message.
func order(id, buyer, quantity int) string {
	o := sale.Order{ID: testID(id), Email: testBuyer(buyer), Quantity: quantity, PlacedAt: noon}
	return string(o.AppendLine(nil))
}

// desk is a line of a desk message, given what it asks for.
func desk(id int, what string) string {
	return fmt.Sprintf(`{"id":"%s",%s,"by":"ann@example.com","why":"ask bob@example.com"}`, testID(id), what)
}

// story is a product's history as it comes to be: every message is decided by the rule,
// against a past that is searched through from its beginning.
type story struct {
	product sale.ProductID
	stored  []revision
	head    sale.Head
}

// revision is a stored value: a link, or the bytes of what is none.
type revision struct {
	seq  sale.Seq
	link *sale.Link
	raw  []byte
}

func begin(product sale.ProductID, supplied, limit int64, epoch string) *story {
	s := &story{product: product, head: sale.Head{Stock: sale.Stock{Product: product}}}
	first, err := sale.NewProduct(product, supplied, limit, epoch, noon)
	if err != nil {
		panic(err)
	}
	s.append(first)
	return s
}

func (s *story) append(link *sale.Link) {
	if _, err := s.head.Continue(link.Encode()); err != nil {
		panic(err)
	}
	s.stored = append(s.stored, revision{seq: s.next(), link: link})
}

// next leaves out some sequences: other products have them.
func (s *story) next() sale.Seq { return sale.Seq(3*len(s.stored) + 5) }

func (s *story) foreign(value []byte) {
	s.stored = append(s.stored, revision{seq: s.next(), raw: value})
}

// settle decides a message of these lines.
func (s *story) settle(epoch string, seq uint64, isDesk bool, lines ...string) *sale.Link {
	m := &sale.Message{Product: s.product, Desk: isDesk, Epoch: epoch, Seq: seq, StoredAt: noon, Data: []byte(strings.Join(lines, "\n"))}
	link, _ := s.head.Decide(s, m, m.Lines(), "one", noon.Add(time.Duration(s.head.N)*time.Second))
	s.append(link)
	return link
}

// Decided implements sale.Past.
func (s *story) Decided(id sale.OrderID, _ sale.ProductID) bool {
	return slices.ContainsFunc(s.orders(), func(o sale.DecidedOrder) bool { return o.ID == id })
}

// Steered implements sale.Past.
func (s *story) Steered(id sale.OrderID, _ sale.ProductID) bool {
	return slices.ContainsFunc(s.links(), func(l *sale.Link) bool {
		return slices.ContainsFunc(l.Desk, func(d sale.DecidedLine) bool { return d.ID == id })
	})
}

// Got implements sale.Past.
func (s *story) Got(buyer sale.Email, _ sale.ProductID) (units int64) {
	for _, o := range s.orders() {
		if o.Email == buyer && o.Outcome == sale.Accepted {
			units += int64(o.Quantity)
		}
	}
	return units
}

func (s *story) links() (links []*sale.Link) {
	for _, r := range s.stored {
		if r.link != nil {
			links = append(links, r.link)
		}
	}
	return links
}

// link is the one of that number.
func (s *story) link(n int) *sale.Link { return s.links()[n-1] }

// orders are those with an outcome, in order.
func (s *story) orders() (orders []sale.DecidedOrder) {
	for _, l := range s.links() {
		for _, o := range l.Orders {
			if o.Outcome.Final() {
				orders = append(orders, o)
			}
		}
	}
	return orders
}

// bytes are the values as stored. Afterwards they can be altered.
func (s *story) bytes() []revision {
	stored := slices.Clone(s.stored)
	for i := range stored {
		if stored[i].link != nil {
			stored[i].raw = stored[i].link.Encode()
		}
	}
	return stored
}

// seal makes every hash true again, as a careful forger would.
func (s *story) seal() {
	prev := ""
	for _, l := range s.links() {
		l.Prev = prev
		prev = sale.HashOf(l.Encode())
	}
}

// shift changes the figures from a link on, so that they go on adding up.
func (s *story) shift(from int, available, sold, supplied int64) {
	for _, l := range s.links()[from-1:] {
		l.Available += available
		l.Sold += sold
		l.Supplied += supplied
	}
}

func replay(product sale.ProductID, stored []revision) (*Replay, []Finding) {
	r := New(product)
	for _, v := range stored {
		r.Revision(v.seq, v.raw)
	}
	return r, r.Finish()
}

// promises are the broken ones, each once, in order.
func promises(findings []Finding) string {
	var names []string
	for _, f := range findings {
		names = append(names, f.Promise)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " ")
}

// sample is a sale of nine links in two epochs, with every outcome and every refusal.
func sample() *story {
	s := begin("tshirt", 5, 0, dayOne)
	s.settle(dayOne, 1, false, order(1, 1, 2), order(2, 2, 1))                                                 // accepted, accepted: 2 left
	s.settle(dayOne, 2, false, "garbage")                                                                      // nothing
	s.settle(dayOne, 4, false, order(3, 3, 3), "garbage", order(4, 1, 1), order(1, 1, 2))                      // sold_out, accepted, duplicate: 1 left
	s.settle(dayOne, 5, true, desk(1, `"do":"supply","units":2`), desk(2, `"do":"terms","limit_per_buyer":3`), //
		desk(1, `"do":"supply","units":2`), desk(3, `"do":"supply","units":-9`)) // done, done, duplicate, not-enough: 3 left
	s.foreign([]byte(`{"available":100}`))
	s.settle(dayTwo, 1, false, order(5, 1, 1), order(6, 4, 3), order(7, 5, 1)) // limit_reached, accepted, sold_out: 0 left
	s.settle(dayTwo, 2, true, desk(4, `"do":"terms","paused":true,"opens_at":"2026-03-01T10:00:00Z"`), desk(5, `"do":"terms","closes_at":"2026-03-01T09:00:00Z"`),
		desk(6, `"do":"supply","available":1`), desk(7, `"do":"supply","units":1000000000000`)) // done, closes-before-opens, done, out-of-range: 1 left
	s.settle(dayTwo, 3, false, order(8, 6, 1)) // accepted: 0 left
	s.settle(dayTwo, 4, false, "garbage")
	return s
}

// sampleQueue is the queue after the sample: all is acknowledged.
func sampleQueue() Queue {
	return Queue{Epoch: dayTwo, Last: 4, Mark: 4, Acked: map[sale.ProductID]uint64{"tshirt": 4}}
}
