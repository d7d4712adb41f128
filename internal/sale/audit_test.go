package sale

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// past is a product's whole past: what the audit is given.
type past struct {
	stock   Stock
	entries []*Entry
	decided history
	queue   QueueState // the stream in its newest epoch
}

func newPast(supplied, limit int64) *past {
	stock, err := NewStock("tshirt", supplied, limit)
	if err != nil {
		panic(err)
	}
	p := &past{stock: stock, decided: history{product: "tshirt"}}
	p.recreate("2026-03-01T08:00:00Z")
	return p
}

func (p *past) recreate(epoch string) {
	p.queue = QueueState{Epoch: epoch, Queued: map[ProductID]*Sequences{"tshirt": {}}, Dead: &Sequences{}}
}

// settle decides a message as the worker does.
func (p *past) settle(lines []Line) {
	p.queue.LastSeq++
	if slices.ContainsFunc(lines, func(l Line) bool { return l.Err != nil }) {
		p.queue.Dead.Add(p.queue.LastSeq)
	}
	if allDead(lines) {
		return
	}
	next, outcomes := Decide(p.stock, &p.decided, lines)
	next.Entries++
	head := Head{Epoch: p.queue.Epoch, Seq: p.queue.LastSeq, N: next.Entries, Prev: p.stock.LedgerHead, Supplied: next.Supplied,
		Available: next.Available, Decided: next.Decided, DecidedAt: testTime.Add(time.Duration(next.Entries) * time.Second)}
	next.Last = &Last{Head: head, Outcomes: outcomes, Orders: entryOrders(lines, outcomes, next.Decided)}
	next.LedgerHead = hashEntry(next.Entry().Encode())
	for i, o := range outcomes {
		if o.Final() {
			p.decided.orders = append(p.decided.orders, decidedOrder{Order: lines[i].Order, outcome: o})
		}
	}
	p.stock = next
	p.entries = append(p.entries, next.Entry())
}

func (p *past) supply(units int64) {
	if more, err := p.stock.Supply(units); err == nil {
		p.stock = more
	}
}

// ledger is the entries as stored.
func (p *past) ledger() (stored [][]byte) {
	for _, e := range p.entries {
		stored = append(stored, e.Encode())
	}
	return stored
}

// seal makes every hash true again, as somebody would who forges with care.
func (p *past) seal() {
	prev := ""
	for _, e := range p.entries {
		e.Prev = prev
		prev = hashEntry(e.Encode())
	}
	last := p.entries[len(p.entries)-1]
	p.stock.Last.Head, p.stock.Last.Orders, p.stock.LedgerHead = last.Head, last.Orders, prev
	p.stock.Last.Outcomes = nil
	for _, o := range last.Orders {
		p.stock.Last.Outcomes = append(p.stock.Last.Outcomes, o.Outcome)
	}
}

func audit(value []byte, ledger [][]byte) (*Audit, []Finding) {
	a := NewAudit("tshirt", value)
	for i, data := range ledger {
		a.Entry(uint64(i+1), data)
	}
	return a, a.Finish()
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

// What Decide decided, the audit has nothing to say about; and it counts right.
func TestAuditOfHealthySales(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPast(rapid.Int64Range(0, 30).Draw(t, "supplied"), rapid.Int64Range(0, 4).Draw(t, "limit"))
		for range rapid.IntRange(0, 12).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				p.supply(rapid.Int64Range(-4, 8).Draw(t, "units"))
			case 1:
				p.stock.LimitPerBuyer = rapid.Int64Range(0, 5).Draw(t, "limit")
			case 2:
				p.recreate(fmt.Sprintf("2026-03-%02dT08:00:00Z", 2+len(p.entries)))
			default:
				p.settle(genLines(genOrder(30, 5, 4), 6).Draw(t, "lines"))
			}
		}
		ledger := p.ledger()
		waiting := rapid.Uint64Range(0, 3).Draw(t, "waiting")
		for range waiting {
			p.queue.LastSeq++
			p.queue.Queued["tshirt"].Add(p.queue.LastSeq)
		}
		missing := 0
		if len(ledger) > 0 && rapid.Bool().Draw(t, "the last entry is not written yet") {
			missing, ledger = 1, ledger[:len(ledger)-1]
		}
		a, findings := audit(p.stock.Encode(), ledger)
		if findings = append(findings, AuditQueue(p.queue, a)...); len(findings) > 0 {
			t.Fatalf("%v", findings)
		}
		got := a.Summary()
		if got.Orders != p.stock.Decided || got.UnitsSold != p.stock.Sold || got.Entries != p.stock.Entries || got.Available != p.stock.Available ||
			got.Orders != got.Accepted+got.SoldOut+got.LimitReached || len(got.Notes) != missing {
			t.Fatalf("%+v of %+v", got, p.stock)
		}
	})
}

// sample is a sale of three entries in two epochs, with a restock before and after
// the last one, and every outcome.
func sample() *past {
	line := func(id, buyer, quantity int) Line {
		return Line{Order: Order{testID(id), testBuyer(buyer), quantity, testTime}}
	}
	p := newPast(5, 0)
	// accepted, accepted: 2 left
	p.settle([]Line{line(1, 1, 2), line(2, 2, 1)})
	p.settle([]Line{{Err: ErrEmail}})
	// sold_out, accepted, duplicate: 1 left
	p.settle([]Line{line(3, 3, 3), line(4, 1, 1), line(1, 1, 2)})
	p.supply(2)
	p.stock.LimitPerBuyer = 3
	p.recreate("2026-03-02T08:00:00Z")
	// limit_reached, accepted, sold_out: 0 left
	p.settle([]Line{line(5, 1, 1), line(6, 4, 3), line(7, 5, 1)})
	p.supply(1)
	return p
}

func TestAuditOfTheSample(t *testing.T) {
	p := sample()
	a, findings := audit(p.stock.Encode(), p.ledger())
	if findings = append(findings, AuditQueue(p.queue, a)...); len(findings) > 0 {
		t.Error(findings)
	}
	got := fmt.Sprintf("%+v", a.Summary())
	if want := "{Product:tshirt Entries:3 Orders:7 Accepted:4 SoldOut:2 LimitReached:1 Duplicates:1 UnitsSold:7 Available:1 Supplied:8 Notes:[]}"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// One finding a lie, and an end to findings: a ledger that is broken everywhere
// must not fill the memory.
func TestAuditBoundsItsFindings(t *testing.T) {
	ledger := slices.Repeat([][]byte{[]byte("garbage")}, 10_000)
	_, findings := audit(sample().stock.Encode(), ledger)
	if len(findings) != maxFindings+1 || !strings.Contains(findings[maxFindings].String(), "findings more") {
		t.Errorf("%d findings, the last is %v", len(findings), findings[len(findings)-1])
	}
}

// Whatever bytes are stored, the audit has something to say and does not fall over.
func FuzzAudit(f *testing.F) {
	p := sample()
	for _, data := range p.ledger() {
		f.Add(p.stock.Encode(), data)
	}
	f.Add([]byte(`{"last":{"outcomes":"yMjI","orders":[null]},"entries":1}`), []byte(`{"orders":[null]}`))
	f.Add([]byte(`{"available":9223372036854775807,"sold":1}`), []byte(nil))
	f.Add([]byte("0"), []byte("@bS"))
	f.Add([]byte("0"), bytes.Replace(p.ledger()[1], []byte("=40"), []byte("=50"), 1))
	address := regexp.MustCompile(`\w@\w`) // a lone @ may be what is wrong
	f.Fuzz(func(t *testing.T, value, second []byte) {
		ledger := p.ledger()
		altered := !bytes.Equal(second, ledger[1])
		ledger[1] = second
		a, findings := audit(value, ledger)
		AuditQueue(p.queue, a)
		for _, f := range findings {
			if address.MatchString(f.String()) {
				t.Errorf("a finding shows an address: %v", f)
			}
		}
		if altered && len(findings) == 0 {
			t.Errorf("an altered entry is not found")
		}
	})
}
