package broker_test

import (
	"fmt"
	"strings"
	"testing"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// decidedBefore is a sale.Past made of links.
type decidedBefore struct {
	orders, lines map[sale.OrderID]bool
	got           map[sale.Email]int64
}

func (p decidedBefore) Decided(id sale.OrderID, _ sale.ProductID) bool { return p.orders[id] }
func (p decidedBefore) Steered(id sale.OrderID, _ sale.ProductID) bool { return p.lines[id] }
func (p decidedBefore) Got(e sale.Email, _ sale.ProductID) int64       { return p.got[e] }

// chain is what the bucket holds of a product: its links, and how many values are none.
// Each link is recomputed from those before it, to the byte (P8).
func (w *world) chain(t testing.TB, p sale.ProductID) (links []*sale.Link, foreign int) {
	t.Helper()
	return chain(t, w.read(t, "KV_stock"), p)
}

func chain(t testing.TB, values []stored, p sale.ProductID) (links []*sale.Link, foreign int) {
	t.Helper()
	past := decidedBefore{orders: map[sale.OrderID]bool{}, lines: map[sale.OrderID]bool{}, got: map[sale.Email]int64{}}
	head := sale.Head{Stock: sale.Stock{Product: p}}
	for _, m := range values {
		if m.Subject != "$KV.stock."+string(p) {
			continue
		}
		before := head
		link, err := head.Continue(m.Data)
		if err != nil {
			foreign++
			continue
		}
		links = append(links, link)
		if link.N == 1 {
			continue
		}
		queued := &sale.Message{Product: p, Desk: link.Change == sale.DeskTaken, Epoch: link.Queue.Epoch, Seq: link.Queue.Seq}
		var lines []sale.Line
		for i := range link.Orders {
			lines = append(lines, sale.Line{N: i + 1, Order: link.Orders[i].Order})
		}
		for i := range link.Desk {
			lines = append(lines, sale.Line{N: i + 1, Desk: &link.Desk[i].DeskLine})
		}
		ruled, _ := before.Decide(past, queued, lines, link.By, link.At)
		if again := ruled.Encode(); string(again) != string(m.Data) {
			t.Errorf("link %d of %s is\n%s\nand should be\n%s", link.N, p, m.Data, again)
		}
		for _, o := range link.Orders {
			past.orders[o.ID] = true
			if o.Outcome == sale.Accepted {
				past.got[o.Email] += int64(o.Quantity)
			}
		}
		for _, l := range link.Desk {
			past.lines[l.ID] = true
		}
	}
	return links, foreign
}

// linkString shows a link without what differs from run to run.
func linkString(l *sale.Link) string {
	var lines []string
	for _, o := range l.Orders {
		lines = append(lines, fmt.Sprintf("%s %d %s at %d", o.Email, o.Quantity, o.Outcome, o.Place))
	}
	for _, d := range l.Desk {
		text := string(d.Do)
		if d.Refused != "" {
			text += " " + string(d.Refused)
		}
		lines = append(lines, text)
	}
	return fmt.Sprintf("link %d, %s: %s: %d of %d left\n", l.N, l.Change, strings.Join(lines, ", "), l.Available, l.Supplied)
}

// newest is the product's newest link, which must exist.
func newest(t testing.TB, c *broker.Conn, p sale.ProductID) broker.StoredLink {
	t.Helper()
	link, err := broker.NewHistory(c).Newest(within(t), p)
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// appendLink stores the link that settles a message after the newest one, as a worker
// would.
func appendLink(t testing.TB, c *broker.Conn, p sale.ProductID, at sale.Position, orders ...sale.Order) broker.StoredLink {
	t.Helper()
	h := broker.NewHistory(c)
	head, last := headOf(t, c, p)
	var lines []sale.Line
	for i := range orders {
		lines = append(lines, sale.Line{N: i + 1, Order: orders[i]})
	}
	link, _ := head.Decide(decidedBefore{}, &sale.Message{Product: p, Epoch: at.Epoch, Seq: at.Seq}, lines, "test", head.At)
	value := link.Encode()
	seq, err := h.Append(within(t), p, last, value)
	if err != nil {
		t.Fatal(err)
	}
	return broker.StoredLink{Link: link, Revision: seq, Value: value}
}

// headOf folds a product's history, and tells which revision is the newest.
func headOf(t testing.TB, c *broker.Conn, p sale.ProductID) (head sale.Head, last sale.Seq) {
	t.Helper()
	f := newFold(c, p)
	f.advance(t)
	return f.head, f.last
}

// fold is a product's history as far as it was read.
type fold struct {
	history *broker.History
	head    sale.Head
	last    sale.Seq // the newest revision
	links   [][]byte
}

func newFold(c *broker.Conn, p sale.ProductID) *fold {
	return &fold{history: broker.NewHistory(c), head: sale.Head{Stock: sale.Stock{Product: p}}}
}

// advance reads what was stored since.
func (f *fold) advance(t testing.TB) {
	t.Helper()
	for {
		seq, value, err := f.history.Next(within(t), f.head.Product, f.last)
		if err != nil {
			return
		}
		f.last = seq
		if _, err := f.head.Continue(value); err == nil {
			f.links = append(f.links, value)
		}
	}
}

// forged is the next link as a worker would write it, with units from nowhere, and with
// one part of its text replaced.
func forged(t testing.TB, c *broker.Conn, p sale.ProductID, old, new func(sale.Head) string) []byte {
	t.Helper()
	head, _ := headOf(t, c, p)
	return forgedAfter(t, head, old(head), new(head))
}

func forgedAfter(t testing.TB, head sale.Head, of, with string) []byte {
	t.Helper()
	next := head
	next.Supplied += 1000
	next.Available += 1000
	link, _ := next.Decide(decidedBefore{}, &sale.Message{Product: head.Product, Epoch: head.Queue.Epoch, Seq: head.Queue.Seq + 1}, nil, "forger", head.At)
	text := string(link.Encode())
	if strings.Count(text, of) == 0 {
		t.Fatalf("%s has no %s", text, of)
	}
	return []byte(strings.Replace(text, of, with, 1))
}

// wrongPrev is a next link whose prev is no link's hash.
func wrongPrev(t testing.TB, c *broker.Conn, p sale.ProductID) []byte {
	t.Helper()
	head, _ := headOf(t, c, p)
	return wrongPrevAfter(t, head)
}

func wrongPrevAfter(t testing.TB, head sale.Head) []byte {
	t.Helper()
	return forgedAfter(t, head, `"prev":"`+head.Hash, `"prev":"`+sale.HashOf(nil))
}
