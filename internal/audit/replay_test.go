package audit

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"firstcome/internal/sale"
)

// shop is some products on one queue, as they come to be.
type shop struct {
	stories []*story
	queue   Queue
	settled map[sale.ProductID]uint64 // the newest message, in this epoch
}

func newShop(t *rapid.T) *shop {
	s := &shop{}
	s.recreate(0)
	for _, product := range []sale.ProductID{"tshirt", "mug"} {
		b := begin(product, rapid.Int64Range(0, 20).Draw(t, "supplied"), rapid.Int64Range(0, 4).Draw(t, "limit"), s.queue.Epoch)
		s.stories = append(s.stories, b)
	}
	return s
}

// recreate begins a new queue, with the sequences of the one before if it goes on.
func (s *shop) recreate(last uint64) {
	day := s.queue.Epoch
	if day == "" {
		day = noon.Format(time.RFC3339Nano)
	}
	before, err := time.Parse(time.RFC3339Nano, day)
	if err != nil {
		panic(err)
	}
	s.queue = Queue{Epoch: before.Add(time.Hour).Format(time.RFC3339Nano), First: last + 1, Last: last,
		Queued: map[sale.ProductID]*Sequences{"tshirt": {}, "mug": {}}, Acked: map[sale.ProductID]uint64{}}
	s.settled = map[sale.ProductID]uint64{}
}

// message is the next one of the queue.
func (s *shop) message() uint64 {
	s.queue.Last++
	return s.queue.Last
}

func genOrders() *rapid.Generator[[]string] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		if rapid.IntRange(0, 9).Draw(t, "bad") == 0 {
			return "garbage"
		}
		return order(rapid.IntRange(0, 39).Draw(t, "id"), rapid.IntRange(0, 5).Draw(t, "buyer"), rapid.IntRange(1, 4).Draw(t, "quantity"))
	}), 1, 6)
}

func genDesk() *rapid.Generator[[]string] {
	number := func(name string, from, to int64) func(*rapid.T) string {
		return func(t *rapid.T) string { return fmt.Sprintf(`"%s":%d`, name, rapid.Int64Range(from, to).Draw(t, name)) }
	}
	hour := func(name string) func(*rapid.T) string {
		return func(t *rapid.T) string {
			at := rapid.SampledFrom([]string{`null`, `"2026-03-01T09:00:00Z"`, `"2026-03-01T10:00:00.5Z"`}).Draw(t, name)
			return fmt.Sprintf(`"%s":%s`, name, at)
		}
	}
	whats := []func(*rapid.T) string{
		func(t *rapid.T) string { return `"do":"supply",` + number("units", -4, 8)(t) },
		func(t *rapid.T) string { return `"do":"supply",` + number("units", sale.MaxUnits-20, sale.MaxUnits)(t) },
		func(t *rapid.T) string { return `"do":"supply",` + number("available", 0, 9)(t) },
		func(t *rapid.T) string { return `"do":"terms",` + number("limit_per_buyer", 0, 5)(t) },
		func(t *rapid.T) string { return `"do":"terms",` + hour("opens_at")(t) },
		func(t *rapid.T) string { return `"do":"terms",` + hour("opens_at")(t) + `,` + hour("closes_at")(t) },
		func(t *rapid.T) string {
			return fmt.Sprintf(`"do":"terms","paused":%v`, rapid.Bool().Draw(t, "paused"))
		},
	}
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string {
		return desk(rapid.IntRange(0, 19).Draw(t, "id"), rapid.SampledFrom(whats).Draw(t, "what")(t))
	}), 1, 4)
}

// genForeign is a value by hand: anything but the story's next link, and no two of them
// that hang together.
func genForeign(s *story) *rapid.Generator[[]byte] {
	return rapid.Custom(func(t *rapid.T) []byte {
		switch rapid.IntRange(0, 5).Draw(t, "foreign") {
		case 0:
			return nil // a marker of deletion
		case 1:
			return []byte("garbage")
		case 2: // reverted
			return rapid.SampledFrom(s.links()).Draw(t, "old").Encode()
		case 3: // made up
			link := *s.links()[len(s.links())-1]
			link.N += rapid.Uint64Range(1, 3).Draw(t, "ahead")
			return link.Encode()
		case 4: // of another product
			link := *s.links()[len(s.links())-1]
			link.N, link.Product, link.Prev = link.N+1, "cap", s.head.Hash
			return link.Encode()
		}
		return bytes.Replace(s.link(1).Encode(), []byte(`"v":2`), []byte(`"v":1`), 1)
	})
}

// What the rule decided, the audit has nothing to say about; and it counts right.
func TestReplayOfHealthySales(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shop := newShop(t)
		for range rapid.IntRange(0, 14).Draw(t, "steps") {
			s := rapid.SampledFrom(shop.stories).Draw(t, "product")
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				shop.recreate(rapid.SampledFrom([]uint64{0, shop.queue.Last}).Draw(t, "goes on"))
			case 1:
				s.foreign(genForeign(s).Draw(t, "value"))
			case 2, 3:
				s.settle(shop.queue.Epoch, shop.message(), true, genDesk().Draw(t, "desk")...)
				shop.settled[s.product] = shop.queue.Last
			default:
				s.settle(shop.queue.Epoch, shop.message(), false, genOrders().Draw(t, "orders")...)
				shop.settled[s.product] = shop.queue.Last
			}
		}
		for product, seq := range shop.settled {
			if rapid.Bool().Draw(t, "the newest is not acknowledged yet") {
				shop.queue.Queued[product].Add(seq)
			} else {
				shop.queue.Acked[product] = seq
			}
		}
		for range rapid.IntRange(0, 3).Draw(t, "waiting") {
			shop.queue.Queued[rapid.SampledFrom(shop.stories).Draw(t, "product").product].Add(shop.message())
		}
		shop.queue.Mark = rapid.Uint64Range(0, shop.queue.Last).Draw(t, "mark")

		var replays []*Replay
		for _, s := range shop.stories {
			r, findings := replay(s.product, s.bytes())
			if len(findings) > 0 {
				t.Fatalf("%v", findings)
			}
			if got, want := fmt.Sprintf("%+v", r.Summary()), fmt.Sprintf("%+v", s.summary()); got != want {
				t.Fatalf("%s, want\n%s", got, want)
			}
			replays = append(replays, r)
		}
		if findings := CheckQueue(shop.queue, replays...); len(findings) > 0 {
			t.Fatalf("%v", findings)
		}
	})
}

// summary counts what is in the story.
func (s *story) summary() Summary {
	count := map[sale.Outcome]uint64{}
	var refused, done uint64
	for _, l := range s.links() {
		for _, o := range l.Orders {
			count[o.Outcome]++
		}
		for _, d := range l.Desk {
			if d.Refused == "" {
				done++
			} else {
				refused++
			}
		}
	}
	sum := Summary{Product: s.product, Links: s.head.N, Orders: s.head.Decided, Accepted: count[sale.Accepted], SoldOut: count[sale.SoldOut],
		LimitReached: count[sale.LimitReached], Duplicates: count[sale.Duplicate], UnitsSold: s.head.Sold, DeskDone: done, DeskRefused: refused,
		Available: s.head.Available, Supplied: s.head.Supplied, Queue: s.head.Queue}
	var foreign []sale.Seq
	for _, v := range s.stored {
		if v.link == nil {
			foreign = append(foreign, v.seq)
		} else {
			sum.Revision = v.seq
		}
	}
	switch n := len(foreign); {
	case n == 1:
		sum.Notes = []string{fmt.Sprintf("revision %d is no link and was passed over", foreign[0])}
	case n > 1:
		sum.Notes = []string{fmt.Sprintf("%d revisions are no links and were passed over, the first is %d", n, foreign[0])}
	}
	return sum
}

func TestReplayOfTheSample(t *testing.T) {
	r, findings := replay("tshirt", sample().bytes())
	if findings = append(findings, CheckQueue(sampleQueue(), r)...); len(findings) > 0 {
		t.Error(findings)
	}
	got := fmt.Sprintf("%+v", r.Summary())
	want := "{Product:tshirt Links:9 Orders:8 Accepted:5 SoldOut:2 LimitReached:1 Duplicates:1 UnitsSold:8 DeskDone:4 DeskRefused:4 " +
		"Available:0 Supplied:8 Queue:{Epoch:2026-03-02T08:00:00.5Z Seq:4} Revision:32 Notes:[revision 20 is no link and was passed over]}"
	if got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
	refusals := map[sale.Refusal]bool{}
	for _, l := range sample().links() {
		for _, d := range l.Desk {
			refusals[d.Refused] = true
		}
	}
	if len(refusals) != 5 {
		t.Errorf("the sample has the refusals %v", slices.Collect(maps.Keys(refusals)))
	}
}

func TestReplayOfNothing(t *testing.T) {
	r, findings := replay("tshirt", nil)
	if findings = append(findings, CheckQueue(Queue{Epoch: dayOne}, r)...); len(findings) > 0 {
		t.Error(findings)
	}
	r, findings = replay("tshirt", []revision{{seq: 3, raw: []byte("garbage")}, {seq: 8}})
	if len(findings) > 0 || len(r.Summary().Notes) != 1 || !strings.Contains(r.Summary().Notes[0], "2 revisions are no links and were passed over, the first is 3") {
		t.Errorf("%v, %v", findings, r.Summary().Notes)
	}
}

// A product may be made after any values, and after it was nearly made by hand.
func TestReplayOfAProductMadeLate(t *testing.T) {
	s := sample()
	stored := append([]revision{{seq: 1, raw: []byte("garbage")}, {seq: 2}, {seq: 3, raw: s.link(1).Encode()[1:]}}, s.bytes()...)
	if _, findings := replay("tshirt", stored); len(findings) > 0 {
		t.Error(findings)
	}
}

// A layout from the future is no foreign value: nothing can be said from there on.
func TestReplayStopsAtANewerLayout(t *testing.T) {
	for _, newer := range []string{`"v":3`, `"change":"bob@example.com"`} {
		stored := sample().bytes()[:7] // link 6 is the last one
		old, _, _ := strings.Cut(newer, ":")
		next := *sample().link(7)
		value := string(next.Encode())
		at := strings.Index(value, old+":")
		end := at + strings.IndexByte(value[at:], ',')
		stored = append(stored, revision{seq: 30, raw: []byte(value[:at] + newer + value[end:])}, revision{seq: 31, raw: []byte("garbage")})
		r, findings := replay("tshirt", stored)
		findings = append(findings, CheckQueue(Queue{Epoch: dayTwo, Last: 9, Acked: map[sale.ProductID]uint64{"tshirt": 9}}, r)...)
		want := "P8 broken for tshirt: revision 30 is link 7 in a layout that needs a newer firstcome: the history cannot be checked from there on"
		if len(findings) != 1 || findings[0].String() != want {
			t.Errorf("%s: %v", newer, findings)
		}
		if s := r.Summary(); s.Links != 6 || len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "revision 20 ") {
			t.Errorf("%s: %+v", newer, s)
		}
	}
}

// There is an end to findings: a history that is broken everywhere must not fill the
// memory.
func TestReplayBoundsItsFindings(t *testing.T) {
	s := begin("tshirt", 5, 0, dayOne)
	for range 300 {
		s.settle(dayOne, 1, false, "garbage")
	}
	_, findings := replay("tshirt", s.bytes())
	if len(findings) != maxFindings+1 || findings[maxFindings].String() != "P2 broken for tshirt: and 199 findings more" {
		t.Errorf("%d findings, the last is %v", len(findings), findings[len(findings)-1])
	}
}

func BenchmarkReplay(b *testing.B) {
	const group = 500
	s := begin("tshirt", 1_000_000, 2, dayOne)
	head, nobody := s.head, newPast()
	var stored []revision
	for n := range max(1, b.N/group) {
		lines := make([]sale.Line, group)
		for i := range lines {
			lines[i].Order = sale.Order{ID: testID(n*group + i), Email: testBuyer(n*group + i), Quantity: 1, PlacedAt: noon}
		}
		link, _ := head.Decide(&nobody, &sale.Message{Product: "tshirt", Epoch: dayOne, Seq: uint64(n + 1)}, lines, "one", noon)
		value := link.Encode()
		if _, err := head.Continue(value); err != nil {
			b.Fatal(err)
		}
		stored = append(stored, revision{seq: sale.Seq(n + 9), raw: value})
	}
	b.ReportAllocs()
	b.ResetTimer()
	if _, findings := replay("tshirt", append(s.bytes(), stored...)); len(findings) > 0 {
		b.Fatal(findings)
	}
}
