package sale

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// naivePast is the naive model: every order ever decided, in order, searched through
// for everything, and the desk's lines.
type naivePast struct {
	product ProductID
	orders  []pastOrder
	lines   []OrderID
}

type pastOrder struct {
	Order
	outcome   Outcome
	available int64 // before it
}

func (h *naivePast) Decided(id OrderID, product ProductID) bool {
	for _, o := range h.orders {
		if o.ID == id && product == h.product {
			return true
		}
	}
	return false
}

func (h *naivePast) Got(buyer Email, product ProductID) (units int64) {
	for _, o := range h.orders {
		if o.Email == buyer && product == h.product && o.outcome == Accepted {
			units += int64(o.Quantity)
		}
	}
	return units
}

func (h *naivePast) Steered(id OrderID, product ProductID) bool {
	return product == h.product && slices.Contains(h.lines, id)
}

// decide is the rule as it would be told: one order after another, each against
// everything before it.
func (h *naivePast) decide(s *Stock, l *Line) Outcome {
	if l.Err != nil {
		return Dead
	}
	o := l.Order
	if h.Decided(o.ID, s.Product) {
		return Duplicate
	}
	outcome, units := Accepted, int64(o.Quantity)
	if s.LimitPerBuyer > 0 && h.Got(o.Email, s.Product)+units > s.LimitPerBuyer {
		outcome = LimitReached
	} else if units > s.Available {
		outcome = SoldOut
	}
	h.orders = append(h.orders, pastOrder{o, outcome, s.Available})
	s.Decided++
	if outcome == Accepted {
		s.Available -= units
		s.Sold += units
	}
	return outcome
}

func TestDecideIsTheNaiveRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stock := newStock(rapid.Int64Range(0, 40).Draw(t, "supplied"), rapid.Int64Range(0, 6).Draw(t, "limit"))
		model := naivePast{product: "tshirt"}
		naive := stock
		for range rapid.IntRange(1, 8).Draw(t, "groups") {
			lines := genLines(genOrder(30, 6, 5), 12).Draw(t, "lines")
			past := naivePast{product: "tshirt", orders: model.orders}
			next, outcomes := Decide(stock, &past, lines)
			for i := range lines {
				if want := model.decide(&naive, &lines[i]); outcomes[i] != want {
					t.Fatalf("line %d is %v, want %v", i+1, outcomes[i], want)
				}
			}
			if next != naive {
				t.Fatalf("the stock is %+v, want %+v", next, naive)
			}
			if stock = next; !stock.addsUp() {
				t.Fatalf("it does not add up: %+v", stock)
			}
			if rapid.IntRange(0, 3).Draw(t, "restock") == 0 {
				units := rapid.Int64Range(-3, 10).Draw(t, "units")
				if stock.supply(units) == "" {
					naive = stock
				}
			}
		}
		checkPromise(t, &stock, model.orders)
	})
}

// checkPromise states P1, P2, P4 and P5 without knowing how they are kept.
func checkPromise(t *rapid.T, stock *Stock, orders []pastOrder) {
	var sold int64
	first := map[OrderID]bool{}
	for i, o := range orders {
		if first[o.ID] {
			t.Fatalf("P4: order %s has two outcomes", o.ID)
		}
		first[o.ID] = true
		switch o.outcome {
		case Accepted:
			sold += int64(o.Quantity)
		case SoldOut:
			if int64(o.Quantity) <= o.available {
				t.Fatalf("P5: %d units refused with %d left", o.Quantity, o.available)
			}
			for _, later := range orders[i+1:] {
				if later.outcome == Accepted && later.Quantity >= o.Quantity && later.available <= o.available {
					t.Fatalf("P2: %d units refused, and a later order got %d without a restock", o.Quantity, later.Quantity)
				}
			}
		}
	}
	if sold > stock.Supplied || sold != stock.Sold {
		t.Fatalf("P1: sold %d, the stock says %d of %d", sold, stock.Sold, stock.Supplied)
	}
}

func TestDecideOneGroup(t *testing.T) {
	order := func(id, buyer, quantity int) Line {
		return Line{Order: Order{ID: testID(id), Email: testBuyer(buyer), Quantity: quantity}}
	}
	for _, test := range []struct {
		name            string
		supplied, limit int64
		lines           []Line
		want            []Outcome
		left            int64
	}{
		{"first come, first served", 1, 0, []Line{order(1, 1, 1), order(2, 2, 1)}, []Outcome{Accepted, SoldOut}, 0},
		{"too many leave the stock to those behind", 3, 0,
			[]Line{order(1, 1, 4), order(2, 2, 2), order(3, 3, 2), order(4, 4, 1)}, []Outcome{SoldOut, Accepted, SoldOut, Accepted}, 0},
		{"the limit comes before the stock", 2, 2,
			[]Line{order(1, 1, 2), order(2, 1, 1), order(3, 2, 1)}, []Outcome{Accepted, LimitReached, SoldOut}, 0},
		{"what was refused counts for no limit", 5, 3,
			[]Line{order(1, 1, 4), order(2, 1, 3), order(3, 1, 1)}, []Outcome{LimitReached, Accepted, LimitReached}, 2},
		{"the same order twice in one group", 5, 0,
			[]Line{order(1, 1, 1), order(1, 1, 1)}, []Outcome{Accepted, Duplicate}, 4},
		{"a refused order stays refused", 0, 0,
			[]Line{order(1, 1, 1), order(1, 1, 1)}, []Outcome{SoldOut, Duplicate}, 0},
		{"nothing but dead lines", 5, 0, []Line{{Err: ErrOrderID}}, []Outcome{Dead}, 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			next, got := Decide(newStock(test.supplied, test.limit), &naivePast{}, test.lines)
			for i := range got {
				if got[i] != test.want[i] {
					t.Errorf("line %d is %v, want %v", i+1, got[i], test.want[i])
				}
			}
			if next.Available != test.left || next.Sold != test.supplied-test.left {
				t.Errorf("%d left, %d sold; want %d left", next.Available, next.Sold, test.left)
			}
		})
	}
}

// A link hangs on its head, says what its message came to, and is never of an earlier
// time than the one before (P8).
func TestHeadDecides(t *testing.T) {
	order := func(id, quantity int) Line {
		return Line{N: id, Order: Order{ID: testID(id), Email: testBuyer(id), Quantity: quantity, PlacedAt: testTime}}
	}
	dead := Line{N: 9, Err: ErrOrderID}
	head := Head{Stock: Stock{Product: "tshirt", Available: 2, Sold: 3, Supplied: 5, Decided: 7}, N: 4, Hash: HashOf(nil), At: testTime,
		Queue: Position{testEpoch, 11}}
	past := &naivePast{product: "tshirt", orders: []pastOrder{{Order: order(4, 1).Order}}}
	supply := &DeskLine{ID: testID(1), Do: DoSupply, Units: new(int64(2))}
	for name, c := range map[string]struct {
		desk   bool
		lines  []Line
		at     time.Time
		want   string
		wantAt time.Time
	}{
		"orders": {false, []Line{order(1, 3), dead, order(2, 1), order(2, 1), order(4, 1), order(3, 1)}, testTime.Add(1500),
			"orders 0/5 10 sold_out@8 accepted@9 duplicate@0 duplicate@0 accepted@10", testTime.Add(1000)},
		"no good line": {false, []Line{dead}, testTime.Add(-1), "orders 2/5 7", testTime},
		"the desk":     {true, []Line{dead, {Desk: supply}, {Desk: supply}}, testTime.In(time.FixedZone("", 3600)), "desk 4/7 7 supply/ supply/duplicate", testTime},
	} {
		before := head
		link, outcomes := head.Decide(past, &Message{Product: "tshirt", Desk: c.desk, Epoch: laterEpoch, Seq: 3}, c.lines, "a", c.at)
		got := fmt.Sprintf("%s %d/%d %d", link.Change, link.Available, link.Supplied, link.Decided)
		for _, o := range link.Orders {
			got += fmt.Sprintf(" %s@%d", o.Outcome, o.Place)
		}
		for _, l := range link.Desk {
			got += fmt.Sprintf(" %s/%s", l.Do, l.Refused)
		}
		if got != c.want || link.N != 5 || link.Prev != head.Hash || link.By != "a" || link.At != c.wantAt || link.Queue != (Position{laterEpoch, 3}) || head != before || c.desk != (outcomes == nil) || !c.desk && len(outcomes) != len(c.lines) {
			t.Errorf("%s: %s, want %s; the link is %+v", name, got, c.want, link)
		}
	}
}
