package sale

import (
	"testing"
	"time"
)

// paced is a link that decided so many orders, the first of which was placed then.
func paced(orders int, placed, at time.Duration) *Link {
	l := &Link{At: testTime.Add(at)}
	for range orders {
		l.Orders = append(l.Orders, DecidedOrder{Order: Order{PlacedAt: testTime.Add(placed)}, Outcome: SoldOut})
	}
	return l
}

func TestPace(t *testing.T) {
	const s = time.Second
	for name, c := range map[string]struct {
		links []*Link
		now   time.Duration
		want  time.Duration // 0: unknown
	}{
		"nothing":                     {nil, 0, 0},
		"two orders":                  {[]*Link{paced(2, 0, 2*s)}, 2 * s, 0},
		"three orders in a row":       {[]*Link{paced(1, 0, 2*s), paced(1, 0, 4*s), paced(1, 0, 6*s)}, 6 * s, 2 * s},
		"one group":                   {[]*Link{paced(4, 0, 2*s)}, 3 * s, s / 2},
		"while nothing waited":        {[]*Link{paced(2, 0, 2*s), paced(1, 20*s, 21*s)}, 21 * s, s},
		"nothing for 30 s":            {[]*Link{paced(3, 0, 3*s)}, 34 * s, 0},
		"the older ones do not count": {[]*Link{paced(300, 0, s), paced(2, 30*s, 32*s), paced(1, 32*s, 34*s)}, 34 * s, 4 * s / 3},
		"a placed_at of the future":   {[]*Link{paced(3, 9*s, 3*s)}, 3 * s, 0},
		"the ring comes round":        {[]*Link{paced(3, 0, s), paced(3, 33*s, 36*s)}, 36 * s, s},
	} {
		var p pace
		for _, l := range c.links {
			p.decide(l)
		}
		got, known := p.perOrder(testTime.Add(c.now))
		if name == "a placed_at of the future" && known && got == 0 {
			continue // it took no time, as far as the clocks tell
		}
		if got != c.want || known != (c.want > 0) {
			t.Errorf("%s: %v, %v; want %v", name, got, known, c.want)
		}
	}
}

// A pace is of decided orders, not of duplicates and desk lines.
func TestPaceCountsOrders(t *testing.T) {
	var p pace
	for i := range 3 {
		l := paced(1, 0, time.Duration(i)*time.Second)
		l.Orders[0].Outcome = Duplicate
		p.decide(l)
	}
	if got, known := p.perOrder(testTime.Add(2 * time.Second)); known {
		t.Errorf("%v", got)
	}
}

func TestWatch(t *testing.T) {
	book := NewBook(100)
	seen, deaf := make(chan struct{}, 1), make(chan struct{}, 1)
	unwatch := book.Watch(seen)
	defer book.Watch(deaf)()
	due := func(want bool, after string) {
		t.Helper()
		select {
		case <-seen:
			if !want {
				t.Errorf("told after %s", after)
			}
		default:
			if want {
				t.Errorf("not told after %s", after)
			}
		}
	}
	due(false, "nothing")
	link, err := NewProduct("tshirt", 5, 0, testEpoch, testTime)
	if err != nil {
		t.Fatal(err)
	}
	if err := book.Apply("tshirt", 1, link.Encode()); err != nil {
		t.Fatal(err)
	}
	due(true, "a link")
	m := &Message{Product: "tshirt", Epoch: testEpoch, Seq: 1, Data: (&Order{ID: testID(1), Email: "a@b.de", Quantity: 1, PlacedAt: testTime}).AppendLine(nil)}
	book.Expect(m, m.Lines())
	due(true, "an order")
	book.Expect(m, m.Lines())
	due(false, "the same order")
	unwatch()
	book.Renew(laterEpoch)
	due(false, "the end")
	if len(deaf) != 1 {
		t.Error("the other one was not told")
	}
}
