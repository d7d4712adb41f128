package sale

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// genHead is the head of some link of the product, or of none yet.
func genHead(product ProductID) *rapid.Generator[Head] {
	return rapid.Custom(func(t *rapid.T) Head {
		if rapid.IntRange(0, 9).Draw(t, "no link yet") == 0 {
			return Head{Stock: Stock{Product: product}}
		}
		return Head{Stock: Stock{Product: product}, N: rapid.Uint64Range(1, 1<<40).Draw(t, "n"), Hash: strings.Repeat("0f", 32),
			Queue: Position{testEpoch, rapid.Uint64Range(0, 1<<40).Draw(t, "seq")}}
	})
}

// genLink is a link that may come after h.
func genLink(h Head) *rapid.Generator[*Link] {
	units := rapid.Int64Range(0, MaxUnits)
	return rapid.Custom(func(t *rapid.T) *Link {
		l := &Link{N: h.N + 1, Prev: h.Hash, At: genInstant().Draw(t, "at"), By: rapid.StringMatching(`[A-Za-z0-9._-]{1,64}`).Draw(t, "by"),
			Stock: Stock{Product: h.Product, Available: units.Draw(t, "available"), Held: units.Draw(t, "held"), Sold: units.Draw(t, "sold"),
				Decided: rapid.Uint64Range(0, 1<<40).Draw(t, "decided"), LimitPerBuyer: units.Draw(t, "limit"),
				OpensAt: genHour().Draw(t, "opens at"), ClosesAt: genHour().Draw(t, "closes at"), Paused: rapid.Bool().Draw(t, "paused")},
			Queue:  rapid.SampledFrom([]Position{{testEpoch, h.Queue.Seq}, {testEpoch, h.Queue.Seq + 3}, {laterEpoch, 1}}).Draw(t, "queue"),
			Change: rapid.SampledFrom([]Change{OrdersTaken, DeskTaken}).Draw(t, "change")}
		l.Supplied = l.Available + l.Held + l.Sold
		switch {
		case h.N == 0:
			l.Change = Created
		case l.Change == OrdersTaken:
			for _, o := range rapid.SliceOfN(genOwnOrder(), 0, 10).Draw(t, "orders") {
				d := DecidedOrder{Order: o, Outcome: rapid.SampledFrom([]Outcome{Accepted, SoldOut, LimitReached, Duplicate}).Draw(t, "outcome")}
				if d.Outcome.Final() {
					d.Place = rapid.Uint64Range(1, 1<<40).Draw(t, "place")
				}
				l.Orders = append(l.Orders, d)
			}
		default:
			for range rapid.IntRange(0, 4).Draw(t, "lines") {
				l.Desk = append(l.Desk, DecidedLine{*genDeskLine(9).Draw(t, "line"),
					rapid.SampledFrom([]Refusal{"", DuplicateLine, NotEnough, OutOfRange, ClosesBeforeOpens}).Draw(t, "refused")})
			}
		}
		return l
	})
}

func TestLinkRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		before := genHead("tshirt").Draw(t, "head")
		want := genLink(before).Draw(t, "link")
		value := want.Encode()
		if want.Change == OrdersTaken && bytes.IndexByte(value, '@') >= 0 {
			t.Fatalf("the history shows an address: %s", value)
		}
		// Other writers' spacing and order of fields mean the same.
		var generic map[string]any
		dec := json.NewDecoder(bytes.NewReader(value))
		dec.UseNumber()
		if err := dec.Decode(&generic); err != nil {
			t.Fatal(err)
		}
		other, err := json.MarshalIndent(generic, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range [][]byte{value, other} {
			head := before
			got, err := head.Continue(value)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%s\nis %+v, %v; encoded was %+v", value, got, err, want)
			}
			if after := (Head{Stock: want.Stock, N: want.N, Hash: HashOf(value), At: want.At, By: want.By, Queue: want.Queue}); !reflect.DeepEqual(head, after) {
				t.Fatalf("the head is %+v, want %+v", head, after)
			}
		}
		var quick Link
		if took := readOwnLink(value, &quick); took != (want.Change == OrdersTaken) || took && !reflect.DeepEqual(&quick, want) {
			t.Fatalf("%s: the quick reader takes it: %v, as %+v", value, took, quick)
		}
	})
}

func TestNewProductKeepsItsBounds(t *testing.T) {
	for _, c := range []struct {
		supplied, limit int64
		good            bool
	}{{0, 0, true}, {MaxUnits, MaxUnits, true}, {-1, 0, false}, {MaxUnits + 1, 0, false}, {0, -1, false}, {0, MaxUnits + 1, false}} {
		if _, err := NewProduct("tshirt", c.supplied, c.limit, testEpoch, testTime); (err == nil) != c.good {
			t.Errorf("%d units, limit %d: %v", c.supplied, c.limit, err)
		}
	}
}

// The literal bytes are a contract: they are what is hashed, and others read them.
var layouts = []struct {
	after Head
	link  *Link
	bytes string
}{
	{Head{Stock: Stock{Product: "tshirt"}},
		&Link{N: 1, At: testTime, By: "provision", Stock: newStock(8, 2), Queue: Position{Epoch: testEpoch}, Change: Created},
		`{"v":2,"product":"tshirt","n":1,"prev":"","at":"2026-03-01T09:00:00Z","by":"provision",` +
			`"available":8,"held":0,"sold":0,"supplied":8,"decided":0,"limit_per_buyer":2,"opens_at":null,"closes_at":null,"paused":false,` +
			`"queue":{"epoch":"2026-03-01T08:00:00.123456789Z","seq":0},"change":"created"}`},
	{Head{Stock: Stock{Product: "tshirt"}, N: 1840, Hash: HashOf([]byte("link 1840"))},
		&Link{N: 1841, Prev: HashOf([]byte("link 1840")), At: time.Date(2026, 11, 28, 12, 0, 0, 123456000, time.UTC), By: "shop-1f2e",
			Stock: Stock{Product: "tshirt", Available: 2, Sold: 6, Supplied: 8, Decided: 7}, Queue: Position{testEpoch, 7712}, Change: OrdersTaken,
			Orders: []DecidedOrder{{Order{testID(1), "ann@example.com", 2, testTime}, 7, Accepted}, {Order{testID(1), "ann@example.com", 2, testTime}, 0, Duplicate}}},
		`{"v":2,"product":"tshirt","n":1841,"prev":"ec7ce1d3511c46992b787394a0d41ab098f0745fb0ed6ea6266ea58e1d881204",` +
			`"at":"2026-11-28T12:00:00.123456Z","by":"shop-1f2e",` +
			`"available":2,"held":0,"sold":6,"supplied":8,"decided":7,"limit_per_buyer":0,"opens_at":null,"closes_at":null,"paused":false,` +
			`"queue":{"epoch":"2026-03-01T08:00:00.123456789Z","seq":7712},"change":"orders","orders":[` +
			`{"id":"6f726465-722d-3030-3030-303030303031","buyer":"ann=40example=2Ecom","quantity":2,"placed_at":"2026-03-01T09:00:00Z","place":7,"outcome":"accepted"},` +
			`{"id":"6f726465-722d-3030-3030-303030303031","buyer":"ann=40example=2Ecom","quantity":2,"placed_at":"2026-03-01T09:00:00Z","outcome":"duplicate"}]}`},
	{Head{Stock: Stock{Product: "tshirt"}, N: 1},
		&Link{N: 2, At: testTime, By: "a", Queue: Position{testEpoch, 1}, Change: DeskTaken,
			Stock: Stock{Product: "tshirt", LimitPerBuyer: 2, OpensAt: &testTime, Paused: true},
			Desk: []DecidedLine{
				{DeskLine{ID: testID(1), Do: DoSupply, Units: new(int64(-3)), By: "ann", Why: `a "b" <c>`}, NotEnough},
				{DeskLine{ID: testID(2), Do: DoTerms, LimitPerBuyer: new(int64(2)), OpensAt: &Hour{&testTime}, ClosesAt: &Hour{}, Paused: new(true)}, ""},
				{DeskLine{ID: testID(3), Do: DoSupply, Available: new(int64(0))}, ""}}},
		`{"v":2,"product":"tshirt","n":2,"prev":"","at":"2026-03-01T09:00:00Z","by":"a",` +
			`"available":0,"held":0,"sold":0,"supplied":0,"decided":0,"limit_per_buyer":2,"opens_at":"2026-03-01T09:00:00Z","closes_at":null,"paused":true,` +
			`"queue":{"epoch":"2026-03-01T08:00:00.123456789Z","seq":1},"change":"desk","desk":[` +
			`{"id":"6f726465-722d-3030-3030-303030303031","do":"supply","units":-3,"by":"ann","why":"a \"b\" \u003cc\u003e","refused":"not-enough"},` +
			`{"id":"6f726465-722d-3030-3030-303030303032","do":"terms","limit_per_buyer":2,"opens_at":"2026-03-01T09:00:00Z","closes_at":null,"paused":true},` +
			`{"id":"6f726465-722d-3030-3030-303030303033","do":"supply","available":0}]}`},
	{Head{Stock: Stock{Product: "tshirt"}, N: 1},
		&Link{N: 2, At: testTime, By: "a", Queue: Position{testEpoch, 1}, Change: OrdersTaken, Stock: Stock{Product: "tshirt", ClosesAt: &testTime}},
		`{"v":2,"product":"tshirt","n":2,"prev":"","at":"2026-03-01T09:00:00Z","by":"a",` +
			`"available":0,"held":0,"sold":0,"supplied":0,"decided":0,"limit_per_buyer":0,"opens_at":null,"closes_at":"2026-03-01T09:00:00Z","paused":false,` +
			`"queue":{"epoch":"2026-03-01T08:00:00.123456789Z","seq":1},"change":"orders","orders":[]}`},
}

func TestLinkLayout(t *testing.T) {
	for _, l := range layouts {
		if got := string(l.link.Encode()); got != l.bytes {
			t.Errorf("the link is\n%s\nwant\n%s", got, l.bytes)
		}
		head := l.after
		if got, err := head.Continue([]byte(l.bytes)); err != nil || !reflect.DeepEqual(got, l.link) {
			t.Errorf("%s is read as %+v, %v", l.bytes, got, err)
		}
		if got, err := ReadLink([]byte(l.bytes)); err != nil || !reflect.DeepEqual(got, l.link) {
			t.Errorf("%s by itself is read as %+v, %v", l.bytes, got, err)
		}
	}
	first, err := NewProduct("tshirt", 1, 0, testEpoch, testTime)
	if err != nil {
		t.Fatal(err)
	}
	first.Change = "holds"
	if _, err := ReadLink(first.Encode()); !errors.Is(err, ErrNoLink) {
		t.Errorf("a change that is not known: %v", err)
	}
	if _, err := ReadLink([]byte("garbage")); !errors.Is(err, ErrNoLink) {
		t.Errorf("garbage by itself: %v", err)
	}
	// sha256sum of what `nats kv get --raw` gives.
	if got, want := HashOf([]byte(layouts[0].bytes)), "fd200dcadf4f76d75bebaa5a2ccc1bd6fd684445bcb435d4891cbb5d092c044b"; got != want {
		t.Errorf("the hash is %s, want %s", got, want)
	}
}

// What a link is never changes (P8). Each case alters the second link of the layouts.
func TestWhatALinkIs(t *testing.T) {
	const orders, desk = 1, 2
	for _, c := range []struct {
		layout  int
		changes [][2]string
		want    error
	}{
		{orders, nil, nil},
		{desk, nil, nil},
		{0, nil, nil},
		// What is not named is ignored, and JSON is JSON.
		{orders, [][2]string{{`{"v":2`, ` {"x":[{"y":1e99}],"v":2`}, {`"id"`, "\"shoe\":null,\n\"id\""}, {`"seq":7712`, `"seq":7712,"x":""`}}, nil},
		{orders, [][2]string{{`tshirt`, `\u0074shirt`}, {`shop-1f2e`, "a\U0001f455\\\""}}, nil},
		{orders, [][2]string{{`}]}`, "}] }\n"}}, nil},
		{orders, [][2]string{{`"sold":6,"supplied":8`, `"supplied":8,"sold":6`}}, nil},
		{desk, [][2]string{{`"do":"supply","units"`, `"shoe":44,"do":"supply","units"`}, {`not-enough`, `another-reason`}}, nil},
		{desk, [][2]string{{`"by":"ann"`, `"by":null`}}, nil},
		// The sums.
		{orders, [][2]string{{`"held":0,"sold":6`, `"held":1,"sold":5`}}, nil},
		{orders, [][2]string{{`"sold":6`, `"sold":7`}}, ErrNoLink},
		{orders, [][2]string{{`"available":2,"held":0,"sold":6`, `"available":-1,"held":0,"sold":9`}}, ErrNoLink},
		{orders, [][2]string{{`"available":2,"held":0`, `"available":3,"held":-1`}}, ErrNoLink},
		{orders, [][2]string{{`"available":2,"held":0,"sold":6`, `"available":9,"held":0,"sold":-1`}}, ErrNoLink},
		{orders, [][2]string{{`"available":2,"held":0,"sold":6,"supplied":8`, `"available":9223372036854775807,"held":9223372036854775807,"sold":10,"supplied":8`}}, ErrNoLink},
		{orders, [][2]string{{`"limit_per_buyer":0`, `"limit_per_buyer":-1`}}, ErrNoLink},
		{orders, [][2]string{{`"decided":7`, `"decided":-1`}}, ErrNoLink},
		{orders, [][2]string{{`"available":2,`, `"available":2.0,`}}, ErrNoLink},
		{orders, [][2]string{{`"available":2,`, `"available":"2",`}}, ErrNoLink},
		{orders, [][2]string{{`"available":2,`, ``}}, ErrNoLink},
		{orders, [][2]string{{`"decided":7,`, ``}}, ErrNoLink},
		// Its place in the chain.
		{orders, [][2]string{{`tshirt`, `mug`}}, ErrNoLink},
		{orders, [][2]string{{`"product":"tshirt",`, ``}}, ErrNoLink},
		{orders, [][2]string{{`"n":1841`, `"n":1842`}}, ErrNoLink},
		{orders, [][2]string{{`"n":1841`, `"n":1840`}}, ErrNoLink},
		{orders, [][2]string{{`"n":1841,`, ``}}, ErrNoLink},
		{orders, [][2]string{{`"n":1841`, `"n":"1841"`}}, ErrNoLink},
		{orders, [][2]string{{`"prev":"ec`, `"prev":"ed`}}, ErrNoLink},
		{orders, [][2]string{{`"prev":"ec7ce1d3`, `"prev":"EC7CE1D3`}}, ErrNoLink},
		{orders, [][2]string{{`"prev"`, `"previous"`}}, ErrNoLink},
		{0, [][2]string{{`"prev":""`, `"prev":"0f"`}}, ErrNoLink},
		{0, [][2]string{{`"change":"created"`, `"change":"orders","orders":[]`}}, ErrNoLink},
		{orders, [][2]string{{`"change":"orders"`, `"change":"created"`}}, ErrNoLink},
		// Its place in the queue, of which 7700 is settled.
		{orders, [][2]string{{`7712`, `7700`}}, nil},
		{orders, [][2]string{{`7712`, `7699`}}, ErrNoLink},
		{orders, [][2]string{{`7712`, `1`}, {testEpoch, laterEpoch}}, nil},
		{orders, [][2]string{{`7712`, `-1`}}, ErrNoLink},
		{orders, [][2]string{{`,"seq":7712`, ``}}, ErrNoLink},
		{orders, [][2]string{{`"queue":{`, `"queues":{`}}, ErrNoLink},
		{orders, [][2]string{{`"epoch":"` + testEpoch + `"`, `"epoch":1`}}, ErrNoLink},
		// Times and terms.
		{orders, [][2]string{{`"at":"2026-11-28T12:00:00.123456Z"`, `"at":"2026-11-28"`}}, ErrNoLink},
		{orders, [][2]string{{`"at":"2026-11-28T12:00:00.123456Z",`, ``}}, ErrNoLink},
		{orders, [][2]string{{`"by":"shop-1f2e",`, ``}}, ErrNoLink},
		{orders, [][2]string{{`"opens_at":null`, `"opens_at":"0001-01-01T00:00:00Z"`}}, nil},
		{orders, [][2]string{{`"opens_at":null`, `"opens_at":"9999-12-31T23:59:59.999999999Z"`}}, nil},
		{orders, [][2]string{{`"opens_at":null`, `"opens_at":"0000-12-31T23:59:59Z"`}}, ErrNoLink},
		{orders, [][2]string{{`"opens_at":null`, `"opens_at":"10000-01-01T00:00:00Z"`}}, ErrNoLink},
		{orders, [][2]string{{`"closes_at":null`, `"closes_at":"2026-03-01T09:00:00+01:00"`}}, ErrNoLink},
		{orders, [][2]string{{`"closes_at":null`, `"closes_at":""`}}, ErrNoLink},
		{orders, [][2]string{{`"closes_at":null,`, ``}}, ErrNoLink},
		{orders, [][2]string{{`"paused":false`, `"paused":"false"`}}, ErrNoLink},
		{orders, [][2]string{{`"paused":false`, `"paused":null`}}, ErrNoLink},
		// Its lines.
		{orders, [][2]string{{`,"orders":[`, `,"order":[`}}, ErrNoLink},
		{orders, [][2]string{{`"place":7`, `"place":-1`}}, ErrNoLink},
		{orders, [][2]string{{`accepted`, `pending`}}, ErrNoLink},
		{orders, [][2]string{{`accepted`, `dead`}}, ErrNoLink},
		{orders, [][2]string{{`accepted`, `reserved`}}, ErrNoLink},
		{orders, [][2]string{{`"quantity":2`, `"quantity":0`}}, ErrNoLink},
		{orders, [][2]string{{`"quantity":2`, `"quantity":1001`}}, ErrNoLink},
		{orders, [][2]string{{`ann=40example=2Ecom`, `ann@example.com`}}, ErrNoLink},
		{orders, [][2]string{{`ann=40example=2Ecom`, `ann=40example=2ecom`}}, ErrNoLink},
		{orders, [][2]string{{`3031","buyer"`, `303","buyer"`}}, ErrNoLink},
		{orders, [][2]string{{`"id"`, `"uuid"`}}, ErrNoLink},
		{orders, [][2]string{{`"placed_at":"2026-03-01T09:00:00Z"`, `"placed_at":"now"`}}, ErrNoLink},
		{orders, [][2]string{{`"orders":[`, `"orders":[7,`}}, ErrNoLink},
		{desk, [][2]string{{`,"desk":[`, `,"desks":[`}}, ErrNoLink},
		{desk, [][2]string{{`"desk":[`, `"desk":null,"desks":[`}}, ErrNoLink},
		{desk, [][2]string{{`"units":-3`, `"units":0`}}, ErrNoLink},
		{desk, [][2]string{{`"id":"6f726465-722d-3030-3030-303030303031",`, ``}}, ErrNoLink},
		{desk, [][2]string{{`"refused":"not-enough"`, `"refused":""`}}, ErrNoLink},
		{desk, [][2]string{{`"refused":"not-enough"`, `"refused":null`}}, ErrNoLink},
		// One JSON object that says each thing once.
		{orders, [][2]string{{`{"v":2`, `{"v":2,"v":2`}}, ErrNoLink},
		{orders, [][2]string{{`"n":1841`, `"n":1841,"\u006e":1841`}}, ErrNoLink},
		{orders, [][2]string{{`"seq":7712`, `"seq":7712,"seq":7712`}}, ErrNoLink},
		{orders, [][2]string{{`"quantity":2`, `"quantity":2,"quantity":2`}}, ErrNoLink},
		{orders, [][2]string{{`}]}`, `}]}{}`}}, ErrNoLink},
		{orders, [][2]string{{`}]}`, `}]`}}, ErrNoLink},
		{orders, [][2]string{{`{"v":2`, `[{"v":2`}, {`}]}`, `}]}]`}}, ErrNoLink},
		// Another layout.
		{orders, [][2]string{{`"v":2`, `"v":3`}}, ErrNewer},
		{orders, [][2]string{{`"v":2`, `"v":1`}}, ErrNewer},
		{orders, [][2]string{{`"v":2`, `"v":3`}, {`"by"`, `"instance"`}, {`"available":2`, `"available":{}`}}, ErrNewer},
		{0, [][2]string{{`"v":2`, `"v":3`}}, ErrNewer},
		{orders, [][2]string{{`"v":2`, `"v":3`}, {`"n":1841`, `"n":1842`}}, ErrNoLink},
		{orders, [][2]string{{`"v":2`, `"v":3`}, {`"prev":"ec`, `"prev":"ed`}}, ErrNoLink},
		{orders, [][2]string{{`"v":2`, `"v":3`}, {`tshirt`, `mug`}}, ErrNoLink},
		{orders, [][2]string{{`"v":2`, `"v":"3"`}}, ErrNoLink},
		{orders, [][2]string{{`{"v":2,`, `{`}}, ErrNoLink},
		{orders, [][2]string{{`"change":"orders"`, `"change":"holds"`}}, ErrNewer},
		{orders, [][2]string{{`"change":"orders","orders":[`, `"change":"holds","holds":[`}}, ErrNewer},
		{orders, [][2]string{{`"change":"orders"`, `"change":"holds"`}, {`"prev":"ec`, `"prev":"ed`}}, ErrNoLink},
		{orders, [][2]string{{`"change":"orders"`, `"change":"holds"`}, {`"sold":6`, `"sold":7`}}, ErrNoLink},
		{orders, [][2]string{{`"change":"orders"`, `"change":"holds"`}, {`7712`, `7699`}}, ErrNoLink},
		{orders, [][2]string{{`"change":"orders"`, `"change":"holds"`}, {`"paused":false,`, ``}}, ErrNoLink},
		{orders, [][2]string{{`"change":"orders",`, ``}}, ErrNoLink},
	} {
		value := layouts[c.layout].bytes
		for _, change := range c.changes {
			changed := strings.Replace(value, change[0], change[1], 1)
			if changed == value {
				t.Fatalf("%s has no %s", value, change[0])
			}
			value = changed
		}
		before := layouts[c.layout].after
		if c.layout == orders {
			before.Queue = Position{testEpoch, 7700}
		}
		head := before
		link, err := head.Continue([]byte(value))
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || (link == nil) != (err != nil) {
			t.Errorf("%q: %v, want %v", c.changes, err, c.want)
		}
		if err != nil && !reflect.DeepEqual(head, before) {
			t.Errorf("%q moved the head to %+v", c.changes, head)
		}
	}
	for _, garbage := range []string{"", " ", "garbage", "null", "[]", "{}", "2", `"v"`, "{", `{"v":2}`, `{"v":3}`, "\x00", `{"v":2,}`, `{1:2}`} {
		head := layouts[orders].after
		if _, err := head.Continue([]byte(garbage)); !errors.Is(err, ErrNoLink) {
			t.Errorf("%q: %v", garbage, err)
		}
	}
}

// Whatever is stored, the quick reader and the general one agree on what the quick one
// takes, and a value either is the next link or leaves the head alone.
func FuzzLink(f *testing.F) {
	for _, l := range layouts {
		f.Add([]byte(l.bytes))
		f.Add([]byte(strings.Replace(l.bytes, `"opens_at":null`, `"opens_at":"2026-03-01T9:00:00,5Z"`, 1)))
		f.Add([]byte(strings.Replace(l.bytes, `"at":"2026`, `"at":"0000-01-01T00:00:00+01:00","`, 1)))
		f.Add([]byte(strings.Replace(l.bytes, `"by":"`, "\"by\":\"\xff\x7f\\u0000", 1)))
		f.Add([]byte(strings.Replace(l.bytes, `"by":"`, "\"by\":\"\xff", 1)))
		f.Add([]byte(strings.Replace(l.bytes, `"by":"`, `"by":"\u0041`, 1)))
		f.Add([]byte(strings.Replace(l.bytes, `"v":2`, `"v":3`, 1)))
		f.Add([]byte(strings.Replace(l.bytes, `"place":7`, `"place":0`, 1)))
		f.Add([]byte(strings.Replace(l.bytes, `"quantity":2`, `"quantity":02`, 1)))
		f.Add([]byte(strings.Replace(l.bytes, `"available":2`, `"available":00000000000002`, 1)))
		f.Add([]byte(strings.Replace(l.bytes, `7712`, `99999999999999`, 1)))
		f.Add([]byte(strings.Replace(l.bytes, `303031","buyer`, `3030AF","buyer`, 1)))
	}
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, value []byte) {
		var quick, general Link
		if readOwnLink(value, &quick) {
			if err := (&Head{}).readLink(value, &general); err != nil || !reflect.DeepEqual(quick, general) {
				t.Fatalf("%q is %+v to the quick reader, %+v, %v to the general one", value, quick, general, err)
			}
		}
		for _, l := range layouts {
			head := l.after
			link, err := head.Continue(value)
			if err != nil {
				if link != nil || !errors.Is(err, ErrNoLink) && !errors.Is(err, ErrNewer) || !reflect.DeepEqual(head, l.after) {
					t.Fatalf("%q is %+v, %v, and moved the head to %+v", value, link, err, head)
				}
				continue
			}
			if head.Hash != HashOf(value) || head.N != l.after.N+1 || !reflect.DeepEqual(head.Stock, link.Stock) {
				t.Fatalf("%q moved the head to %+v", value, head)
			}
			// What it says can be written again; these two are never carried on.
			link.By, link.Queue.Epoch = "by", "epoch"
			head = l.after
			if again, err := head.Continue(link.Encode()); err != nil || !reflect.DeepEqual(again, link) {
				t.Fatalf("%q is %+v, written again it is %+v, %v", value, link, again, err)
			}
		}
	})
}

// The largest group of the longest addresses must fit into a message, or its product
// would stop. The server's default is 1 MiB.
func TestTheLargestLinkFits(t *testing.T) {
	const limit = 1<<20 - 4<<10 // room for headers
	email, err := ParseEmail(strings.Repeat("*", maxLocal) + "@" + strings.Repeat("a.", maxDomain/2-1) + "com")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 1, 9, 0, 0, 123456000, time.UTC)
	head := Head{Stock: Stock{Product: ProductID(strings.Repeat("p", 63)), Supplied: MaxUnits, Sold: MaxUnits, OpensAt: &at, ClosesAt: &at, Decided: 1 << 60}, N: 1 << 60, Hash: HashOf(nil)}
	var orders, desk []byte
	for i := range MaxLines {
		o := Order{testID(i), email, MaxQuantity, at}
		orders = append(o.AppendLine(orders), '\n')
	}
	// Every byte of a text may take six when it is written, and a line without an id gets one.
	text := strings.Repeat("<", MaxBy) + `","why":"` + strings.Repeat("<", MaxWhy)
	for range MaxLines {
		desk = append(desk, `{"do":"supply","units":-1000000000000,"by":"`+text+"\"}\n"...)
	}
	short := bytes.Repeat([]byte(`{"do":"supply","units":-1}`+"\n"), MaxLines)
	for name, m := range map[string]*Message{
		"orders": {Data: orders}, "long desk lines": {Desk: true, Data: desk}, "short desk lines": {Desk: true, Data: short},
		"as many long desk lines as are taken": {Desk: true, Data: desk[:bytes.LastIndexByte(desk[:min(len(desk), maxDesk)], '\n')]},
	} {
		m.Product, m.Epoch, m.Seq = head.Product, testEpoch, 1<<60
		lines := m.Lines()
		link, _ := head.Decide(&naivePast{}, m, lines, strings.Repeat("b", 64), at)
		if n := len(link.Encode()); n > limit {
			t.Errorf("%s: %d bytes and %d lines become a link of %d bytes", name, len(m.Data), len(lines), n)
		}
		if name != "long desk lines" && (len(link.Orders)+len(link.Desk) != bytes.Count(m.Data, newline)+1-bytes.Count(m.Data[len(m.Data)-1:], newline)) {
			t.Errorf("%s: %d lines became %d", name, bytes.Count(m.Data, newline), len(link.Orders)+len(link.Desk))
		}
	}
}
