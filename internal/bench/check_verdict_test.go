package bench

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// honest draws a run on a shop that kept every promise: concurrent buyers, a
// queue in which an order stands somewhere between sent and answered, stock
// for all or for some.
func honest(t *rapid.T) facts {
	stock := rapid.Int64Range(0, 40).Draw(t, "stock")
	n := rapid.Int64Range(0, 40).Draw(t, "orders")
	first := rapid.Int64Range(0, 100).Draw(t, "decided before")
	f := facts{
		exclusive: true, sockets: rapid.Bool().Draw(t, "sockets"),
		before: product{ID: "tshirt", Available: stock, Sold: 7, Supplied: stock + 7, State: "open"},
	}
	for i := range n {
		at := time.Duration(i+1) * time.Millisecond // in the queue
		o := fact{receipt: receipt{
			id:       uuid.New(),
			sent:     at - time.Duration(rapid.Int64Range(0, 5e6).Draw(t, "before")),
			answered: at + time.Duration(rapid.Int64Range(0, 5e6).Draw(t, "after")),
		}, final: soldOut, finalAt: first + i + 1}
		if i < stock {
			o.final = accepted
		}
		if f.sockets {
			o.outcome, o.place = o.final, o.finalAt
		}
		f.orders = append(f.orders, o)
	}
	sold := min(n, stock)
	f.after = f.before
	f.after.Available -= sold
	f.after.Sold += sold
	if f.after.Available == 0 {
		f.after.State = "sold_out"
		f.refused = rapid.Int64Range(0, 9).Draw(t, "refused")
	}
	rand.Shuffle(len(f.orders), func(i, j int) { f.orders[i], f.orders[j] = f.orders[j], f.orders[i] })
	return f
}

func TestAnHonestShopIsNotAccused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := honest(t)
		v := newVerdict()
		v.judge(f)
		if found := v.list(); len(found) > 0 {
			t.Fatalf("%+v", found)
		}
		// Others who order take places and units; lost answers may have.
		f.exclusive = false
		f.after.Sold++
		f.after.Available--
		if f.after.Available < 0 {
			return
		}
		for i := range f.orders {
			f.orders[i].finalAt *= 2
			f.orders[i].place *= 2
		}
		v.judge(f)
		if found := v.list(); len(found) > 0 {
			t.Fatalf("with others: %+v", found)
		}
	})
}

// One figure that is wrong is enough, wherever it is.
func TestEveryLieIsNamed(t *testing.T) {
	base := func() facts {
		f := facts{
			exclusive: true, sockets: true,
			before: product{ID: "tshirt", Available: 2, Supplied: 2, State: "open"},
			after:  product{ID: "tshirt", Sold: 2, Supplied: 2, State: "sold_out"},
		}
		for i := range 4 {
			o := fact{receipt: receipt{
				id: uuid.UUID{byte(i)}, sent: time.Duration(2 * i), answered: time.Duration(2*i + 1),
				outcome: accepted, place: int64(i + 1),
			}, final: accepted, finalAt: int64(i + 1)}
			if i > 1 {
				o.outcome, o.final = soldOut, soldOut
			}
			f.orders = append(f.orders, o)
		}
		return f
	}
	v := newVerdict()
	if v.judge(base()); len(v.list()) > 0 {
		t.Fatalf("the base is accused: %+v", v.list())
	}
	for name, c := range map[string]struct {
		lie  func(f *facts)
		want []Promise
	}{
		"a unit more than there was": {func(f *facts) {
			f.orders[2].outcome, f.orders[2].final = accepted, accepted
			f.after.Sold = 3
		}, []Promise{P1, P8}},
		"units below zero":  {func(f *facts) { f.after.Available, f.after.Supplied = -1, 1 }, []Promise{P1}},
		"a unit nobody got": {func(f *facts) { f.after.Sold, f.after.Available = 1, 1 }, []Promise{P8}},
		"a unit too few sold": {func(f *facts) {
			f.orders[1].outcome, f.orders[1].final = soldOut, soldOut
			f.after.Sold, f.after.Available = 1, 1
		}, []Promise{P5}},
		"a refusal with stock": {func(f *facts) {
			f.orders, f.refused = f.orders[:2], 1
			f.before.Available, f.before.Supplied = 3, 3
			f.after.Available, f.after.Supplied, f.after.State = 1, 3, "open"
		}, []Promise{P5}},
		"accepted after sold out": {func(f *facts) {
			f.orders[1].outcome, f.orders[1].final = soldOut, soldOut
			f.orders[2].outcome, f.orders[2].final = accepted, accepted
		}, []Promise{P2}},
		"decided out of order": {func(f *facts) {
			f.orders[0].place, f.orders[0].finalAt, f.orders[1].place, f.orders[1].finalAt = 2, 2, 1, 1
		}, []Promise{P2}},
		"one id for two":    {func(f *facts) { f.orders[1].id = f.orders[0].id }, []Promise{P4}},
		"another place":     {func(f *facts) { f.orders[3].place = 5 }, []Promise{P4}},
		"no place":          {func(f *facts) { f.orders[3].place, f.orders[3].finalAt = 0, 0 }, []Promise{P8}},
		"a gap":             {func(f *facts) { f.orders[3].place, f.orders[3].finalAt = 5, 5 }, []Promise{P8}},
		"one place for two": {func(f *facts) { f.orders[3].place, f.orders[3].finalAt = 3, 3 }, []Promise{P8}},
		"told nothing":      {func(f *facts) { f.orders[3].outcome, f.orders[3].place = unknown, 0 }, []Promise{P6}},
	} {
		f := base()
		c.lie(&f)
		v := newVerdict()
		v.judge(f)
		var got []Promise
		for _, b := range v.list() {
			got = append(got, b.Promise)
		}
		for _, want := range c.want {
			if !slices.Contains(got, want) {
				t.Errorf("%s: %v, want %s: %+v", name, got, want, v.list())
			}
		}
	}
}

// Requests without an answer may have taken units and places, and no more.
func TestUncertainOrdersLoosenByTheirNumber(t *testing.T) {
	f := facts{
		exclusive: true, uncertain: 1,
		before: product{Available: 9, Supplied: 9, State: "open"},
		after:  product{Available: 7, Sold: 2, Supplied: 9, State: "open"},
		orders: []fact{{receipt: receipt{id: uuid.UUID{1}}, final: accepted, finalAt: 2}},
	}
	v := newVerdict()
	if v.judge(f); len(v.list()) > 0 {
		t.Fatalf("%+v", v.list())
	}
	f.after.Available, f.after.Sold = 6, 3
	if v.judge(f); len(v.list()) != 1 || v.list()[0].Promise != P8 {
		t.Fatalf("%+v", v.list())
	}
}
