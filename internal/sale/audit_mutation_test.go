package sale

import (
	"slices"
	"strings"
	"testing"
)

// Every way of breaking the sample, and the promises that its audit must name. A
// forger makes all hashes true again; without that the chain is broken as well.
func TestAuditNamesTheBrokenPromise(t *testing.T) {
	entry := func(n int, change func(*Entry)) func(*past) {
		return func(p *past) { change(p.entries[n-1]) }
	}
	order := func(n, i int, change func(*EntryOrder)) func(*past) {
		return entry(n, func(e *Entry) { change(&e.Orders[i-1]) })
	}
	for _, test := range []struct {
		name  string
		forge func(*past)
		want  string
	}{
		{"nothing", func(*past) {}, ""},
		{"an entry of another product", entry(2, func(e *Entry) { e.Product = "mug" }), "P8"},
		{"an entry with another number", entry(2, func(e *Entry) { e.N = 7 }), "P8"},
		{"an entry without a place in the queue", entry(2, func(e *Entry) { e.Epoch = "" }), "P8"},
		{"a message decided after a later one", entry(2, func(e *Entry) { e.Seq = 1 }), "P2"},
		{"an ended queue that comes back", entry(2, func(e *Entry) { e.Epoch, e.Seq = "2026-03-02T08:00:00Z", 1 }), "P2"},
		{"an epoch that comes back", func(p *past) {
			p.entries[1].Epoch = "2026-03-02T08:00:00Z"
			p.entries[2].Epoch, p.entries[2].Seq = p.entries[0].Epoch, 9
		}, "P2"},

		{"a larger order than there was stock", order(3, 2, func(o *EntryOrder) { o.Quantity = 4 }), "P1 P2"},
		{"sold to one who was sold out", order(2, 1, func(o *EntryOrder) { o.Outcome = Accepted }), "P1"},
		{"a refusal that a later order gains by", order(1, 1, func(o *EntryOrder) { o.Outcome = SoldOut }), "P1 P2 P8"},
		{"a refusal that a later entry gains by", func(p *past) {
			p.entries[0].Orders[1].Outcome = SoldOut
			p.entries[0].Available++
			p.entries[1].Available++
			p.supplyFrom(3, -1)
		}, "P2"},
		{"a refusal that nobody gains by", func(p *past) {
			p.entries[1].Orders[1].Outcome = SoldOut
			p.entries[1].Available++
			p.supplyFrom(3, -1)
		}, "P2 P5"}, // P2: the limit of entry 3 is not explained any more

		{"a smaller order was refused for a larger one's reason", order(2, 1, func(o *EntryOrder) { o.Quantity = 1 }), "P2"},
		{"a limit that explains nothing", order(3, 3, func(o *EntryOrder) { o.Outcome = LimitReached }), "P2"},
		{"a limit that others got past", order(3, 1, func(o *EntryOrder) { o.Email = testBuyer(9) }), "P2"},

		{"a second outcome", order(2, 3, func(o *EntryOrder) { o.Outcome, o.Place = SoldOut, 5 }), "P4 P8"},
		{"one order twice", order(3, 3, func(o *EntryOrder) { o.ID = testID(2) }), "P4"},
		{"one order twice in a group", order(3, 3, func(o *EntryOrder) { o.ID = testID(6) }), "P4"},
		{"a duplicate of nothing", order(2, 3, func(o *EntryOrder) { o.ID = testID(99) }), "P4"},
		{"a duplicate with a place", order(2, 3, func(o *EntryOrder) { o.Place = 5 }), "P4"},
		{"an order called a duplicate", order(2, 2, func(o *EntryOrder) { o.Outcome, o.Place = Duplicate, 0 }), "P1 P2 P4 P8"},
		{"an order without an outcome", order(3, 1, func(o *EntryOrder) { o.Outcome = Pending }), "P2 P8"},
		{"places exchanged", func(p *past) {
			orders := p.entries[2].Orders
			orders[0].Place, orders[1].Place = orders[1].Place, orders[0].Place
		}, "P2"},
		{"a place left out", order(3, 3, func(o *EntryOrder) { o.Place++ }), "P2"},

		{"one unit too many left", entry(2, func(e *Entry) { e.Available++ }), "P1 P5 P8"},
		{"one unit too few left", entry(2, func(e *Entry) { e.Available-- }), "P1 P8"},
		{"a stock below nothing", entry(3, func(e *Entry) { e.Available = -1 }), "P1 P8"},
		{"a supply below what was sold", entry(2, func(e *Entry) { e.Supplied, e.Available = 2, -2 }), "P1"},
		{"a supply out of range", entry(3, func(e *Entry) { e.Supplied, e.Available = MaxUnits+1, e.Available+MaxUnits-6 }), "P5 P8"},
		{"a decided order too many", entry(2, func(e *Entry) { e.Decided++ }), "P2 P8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := sample()
			test.forge(p)
			p.seal()
			if _, findings := audit(p.stock.Encode(), p.ledger()); promises(findings) != test.want {
				t.Errorf("broken: %s, want %s\n%v", promises(findings), test.want, findings)
			}
			if test.want == "" {
				return
			}
			// Who does not forge the hashes is found by the chain, whatever was altered.
			careless := sample()
			test.forge(careless)
			if _, findings := audit(careless.stock.Encode(), careless.ledger()); !slices.ContainsFunc(findings, func(f Finding) bool { return f.Promise == "P8" }) {
				t.Errorf("the chain holds: %v", findings)
			}
		})
	}
}

// supplyFrom forges the supply from an entry on, and with it what was sold of it.
func (p *past) supplyFrom(n int, units int64) {
	for _, e := range p.entries[n-1:] {
		e.Supplied += units
	}
	p.stock.Supplied += units
	p.stock.Sold += units
}

// A finding says what an operator needs: where, and how much.
func TestAuditSaysWhere(t *testing.T) {
	for _, test := range []struct {
		forge func(*past)
		want  string
	}{
		{func(p *past) { p.entries[2].Orders[1].Quantity = 4 }, "P1 broken for tshirt: entry 3 accepts order " + testID(6).String() + " for 4 units with 3 left"},
		{func(p *past) { p.entries[1].Supplied, p.entries[1].Available = 2, -2 }, "before entry 2 the supply fell to 2, and 3 of it were sold"},
		{func(p *past) { p.entries[1].Orders[0].Quantity = 1 }, "the order at place 3 was refused 1 units with 2 left, and the one at place 4 got 1"},
		{func(p *past) { p.stock.Product = "mug" }, `the stock value is one of "mug"`},
	} {
		p := sample()
		test.forge(p)
		p.seal()
		_, findings := audit(p.stock.Encode(), p.ledger())
		if !slices.ContainsFunc(findings, func(f Finding) bool { return strings.Contains(f.String(), test.want) }) {
			t.Errorf("%v\nhas no %q", findings, test.want)
		}
	}
}

func TestAuditOfALedgerThatLostBytes(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func([][]byte) [][]byte
		want   string
	}{
		{"the last entry", func(l [][]byte) [][]byte { return l[:2] }, ""}, // the stock value carries it
		{"the last two", func(l [][]byte) [][]byte { return l[:1] }, "P8"},
		{"all", func(l [][]byte) [][]byte { return nil }, "P8"},
		{"the first one", func(l [][]byte) [][]byte { return l[1:] }, "P8"},
		{"a byte", func(l [][]byte) [][]byte { l[1][40] ^= 1; return l }, "P8"},
		{"everything in one", func(l [][]byte) [][]byte { l[1] = nil; return l }, "P8"},
		{"the end of one", func(l [][]byte) [][]byte { l[2] = l[2][:100]; return l }, "P8"},
		{"the order of two", func(l [][]byte) [][]byte { l[0], l[1] = l[1], l[0]; return l }, "P8"},
		{"nothing, and has one twice", func(l [][]byte) [][]byte { return append(l, l[2]) }, "P8"},
	} {
		p := sample()
		if _, findings := audit(p.stock.Encode(), test.change(p.ledger())); promises(findings) != test.want {
			t.Errorf("%s: broken: %s, want %s\n%v", test.name, promises(findings), test.want, findings)
		}
	}
	// Numbers may be missing or repeated, too.
	for name, numbers := range map[string][]uint64{"left out": {1, 3}, "repeated": {1, 1, 2, 3}, "backwards": {2, 1, 3}} {
		p := sample()
		a, ledger := NewAudit("tshirt", p.stock.Encode()), p.ledger()
		for _, n := range numbers {
			a.Entry(n, ledger[n-1])
		}
		if findings := a.Finish(); promises(findings) != "P8" {
			t.Errorf("%s: %v", name, findings)
		}
	}
}

func TestAuditOfAStockValueThatLies(t *testing.T) {
	for _, test := range []struct {
		name string
		lie  func(*Stock)
		want string
	}{
		{"a restock", func(s *Stock) { s.Available++; s.Supplied++ }, ""},
		{"another limit", func(s *Stock) { s.LimitPerBuyer = 0 }, ""},
		{"a unit too many left", func(s *Stock) { s.Available++ }, "P1 P8"},
		{"a unit too few left", func(s *Stock) { s.Available-- }, "P8"},
		{"a unit put back", func(s *Stock) { s.Available++; s.Sold-- }, "P1 P8"},
		{"a unit taken away", func(s *Stock) { s.Available--; s.Sold++ }, "P1 P8"},
		{"a unit supplied and sold", func(s *Stock) { s.Supplied++; s.Sold++ }, "P1 P8"},
		{"a supply that is not there", func(s *Stock) { s.Supplied++ }, "P8"},
		{"a stock below nothing", func(s *Stock) { s.Available -= 2; s.Supplied -= 2 }, "P1"},
		{"figures out of range", func(s *Stock) { s.Available, s.Supplied = s.Available+MaxUnits, s.Supplied+MaxUnits }, "P8"},
		{"an order too many", func(s *Stock) { s.Decided++ }, "P8"},
		{"an entry too many", func(s *Stock) { s.Entries++ }, "P8"},
		{"an entry too few", func(s *Stock) { s.Entries-- }, "P8"},
		{"another head", func(s *Stock) { s.LedgerHead = hashEntry(nil) }, "P8"},
		{"another product", func(s *Stock) { s.Product = "mug" }, "P8"},
		{"another message", func(s *Stock) { s.Last.Seq++ }, "P8"},
		{"another queue", func(s *Stock) { s.Last.Epoch = "2026-03-03T08:00:00Z" }, "P8"},
		{"another number", func(s *Stock) { s.Last.N-- }, "P8"},
		{"another prev", func(s *Stock) { s.Last.Prev = "" }, "P8"},
		{"another supply then", func(s *Stock) { s.Last.Supplied++ }, "P8"},
		{"another stock then", func(s *Stock) { s.Last.Available++ }, "P8"},
		{"another count then", func(s *Stock) { s.Last.Decided++ }, "P8"},
		{"another time", func(s *Stock) { s.Last.DecidedAt = testTime }, "P8"},
		{"another outcome", func(s *Stock) { s.Last.Outcomes[0] = SoldOut }, "P4"},
		{"an outcome too few", func(s *Stock) { s.Last.Outcomes = s.Last.Outcomes[:2] }, "P4"},
		{"a dead line more", func(s *Stock) { s.Last.Outcomes = append(s.Last.Outcomes, Dead) }, ""},
		{"another order carried", func(s *Stock) {
			s.Last.Orders = slices.Clone(s.Last.Orders)
			s.Last.Orders[0].Quantity++
		}, "P8"},
		{"nothing decided", func(s *Stock) { s.Last = nil }, "P8"},
	} {
		p := sample()
		test.lie(&p.stock)
		if _, findings := audit(p.stock.Encode(), p.ledger()); promises(findings) != test.want {
			t.Errorf("%s: broken: %s, want %s\n%v", test.name, promises(findings), test.want, findings)
		}
	}
	for _, value := range []string{"garbage", "", "[]", `{"available":"1"}`, `{"last":{"outcomes":["gone"]}}`, "null", "{}"} {
		if _, findings := audit([]byte(value), sample().ledger()); promises(findings) != "P8" {
			t.Errorf("%q: %v", value, findings)
		}
	}
	if _, findings := audit(nil, sample().ledger()); promises(findings) != "P8" {
		t.Errorf("no value: %v", findings)
	}
	if _, findings := audit(nil, nil); len(findings) != 0 {
		t.Errorf("no value and no ledger: %v", findings)
	}
}
