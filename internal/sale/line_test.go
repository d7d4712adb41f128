package sale

import (
	"bytes"
	"crypto/sha1"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestLinesRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		orders := rapid.SliceOfN(genOwnOrder(), 1, 20).Draw(t, "orders")
		var data []byte
		for i := range orders {
			// Empty lines and a CR at the end count for nothing.
			data = append(data, rapid.SampledFrom([]string{"", "\n", "\r\n"}).Draw(t, "gap")...)
			data = orders[i].AppendLine(data)
			data = append(data, rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "end")...)
		}
		m := Message{Product: "tshirt", Epoch: testEpoch, Seq: 1, StoredAt: testTime, Data: data}
		lines := m.Lines()
		if len(lines) != len(orders) {
			t.Fatalf("%d orders became %d lines", len(orders), len(lines))
		}
		for i, l := range lines {
			if l.Err != nil || l.Order != orders[i] || l.N != i+1 {
				t.Fatalf("%+v became line %d: %+v, %v", orders[i], l.N, l.Order, l.Err)
			}
		}
	})
}

func TestLineTable(t *testing.T) {
	const id = "01890a5d-ac96-774b-bcce-b302099a8057"
	m := Message{Product: "tshirt", Epoch: testEpoch, Seq: 7, StoredAt: testTime}
	full := Order{Email: "a@b.c", Quantity: 1, PlacedAt: testTime, ID: lineID(testEpoch, 7, 1)}
	with := func(change func(*Order)) Order { o := full; change(&o); return o }
	given, err := ParseOrderID(id)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		line string
		want Order
	}{
		{`{"email":"a@b.c"}`, full},
		{` { "email" : "A@b.C" } `, full},
		{`{"email":"a@b.c","id":null,"quantity":null,"placed_at":null}`, full},
		{`{"email":"a@b.c","shoe_size":44,"nested":{"email":"x@y.z"}}`, full},
		{`{"email":"\u0061@b.c"}`, full},
		{`{"email":"a@b.c","Quantity":5}`, full},
		{`{"email":"a@b.c","quantity":1000}`, with(func(o *Order) { o.Quantity = 1000 })},
		{`{"email":"a@b.c","id":"` + id + `"}`, with(func(o *Order) { o.ID = given })},
		{`{"email":"a@b.c","id":"` + strings.ToUpper(id) + `"}`, with(func(o *Order) { o.ID = given })},
		{`{"email":"a@b.c","placed_at":"2026-03-01T11:00:00.0000009+02:00"}`, full},
	} {
		m.Data = []byte(test.line)
		if lines := m.Lines(); len(lines) != 1 || lines[0].Err != nil || lines[0].Order != test.want {
			t.Errorf("%s became %+v, want %+v", test.line, lines, test.want)
		}
	}
	for _, bad := range []string{
		``, "\r\n\n", ` `, `garbage`, `null`, `[]`, `"a@b.c"`, `{}`, `{"email":"a@b.c"`, `{"email":"a@b.c"} {}`, `{"email":null}`, `{"email":5}`,
		`{"email":"a@b"}`, `{"email":" a@b.c"}`, `{"EMAIL":"a@b.c"}`,
		`{"email":"a@b.c","quantity":0}`, `{"email":"a@b.c","quantity":-1}`, `{"email":"a@b.c","quantity":1.0}`, `{"email":"a@b.c","quantity":1e2}`,
		`{"email":"a@b.c","quantity":1001}`, `{"email":"a@b.c","quantity":1000000000000}`, `{"email":"a@b.c","quantity":"1"}`, `{"email":"a@b.c","quantity":[]}`,
		`{"email":"a@b.c","id":""}`, `{"email":"a@b.c","id":"` + id + `0"}`, `{"email":"a@b.c","id":5}`, `{"email":"a@b.c","id":"{01890a5d-ac96-774b-bcce-b302099a8057}"}`,
		`{"email":"a@b.c","placed_at":"now"}`, `{"email":"a@b.c","placed_at":1}`, `{"email":"a@b.c","placed_at":"2026-03-01"}`,
		`{"email":"a@b.c","placed_at":"2026-03-01T09:00:00"}`, `{"email":"a@b.c","placed_at":"0000-01-01T00:00:00+01:00"}`,
	} {
		m.Data = []byte(bad)
		lines := m.Lines()
		if len(lines) != 1 || lines[0].Err == nil || lines[0].N != 1 || lines[0].Order != (Order{}) {
			t.Errorf("%q became %+v", bad, lines)
		}
	}
}

func TestMessageOfTooManyLines(t *testing.T) {
	line := []byte(`{"email":"a@b.c"}` + "\n")
	m := Message{Epoch: testEpoch, Seq: 1, Data: bytes.Repeat(line, MaxLines)}
	if lines := m.Lines(); len(lines) != MaxLines || lines[MaxLines-1].Err != nil || lines[MaxLines-1].N != MaxLines {
		t.Errorf("%d lines became %d", MaxLines, len(lines))
	}
	m.Data = append(m.Data, line...)
	lines := m.Lines()
	if len(lines) != 1 || lines[0].Err == nil || !bytes.Equal(lines[0].Raw, m.Data) {
		t.Errorf("%d lines became %d", MaxLines+1, len(lines))
	}
}

// Every reader reads every message, and poison comes again: what it costs is
// bounded by the lines that a message may have, not by those that it has.
func TestLinesAllocateByTheirBound(t *testing.T) {
	own := Order{ID: testID(1), Email: "a@b.c", Quantity: 1, PlacedAt: testTime}
	for name, data := range map[string][]byte{
		"no line at all": bytes.Repeat([]byte("\n"), 1<<20),
		"too many lines": bytes.Repeat([]byte("{\n"), 1<<19),
		"a full group":   bytes.Repeat(append(own.AppendLine(nil), '\n'), MaxLines),
	} {
		m := Message{Product: "tshirt", Epoch: testEpoch, Seq: 1, StoredAt: testTime, Data: data}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		lines := m.Lines()
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 2<<20 {
			t.Errorf("%s: %d bytes became %d lines and took %d bytes", name, len(data), len(lines), got)
		}
	}
}

func TestDeadLineLeavesTheOthers(t *testing.T) {
	m := Message{Epoch: testEpoch, Seq: 3, StoredAt: testTime, Data: []byte("{\"email\":\"a@b.c\"}\r\n\r\ngarbage\n{\"email\":\"d@e.f\"}")}
	lines := m.Lines()
	if len(lines) != 3 || lines[0].Err != nil || lines[1].Err == nil || lines[2].Err != nil {
		t.Fatalf("%+v", lines)
	}
	if string(lines[1].Raw) != "garbage" || lines[1].N != 2 || lines[1].Order != (Order{}) {
		t.Errorf("the dead line is %+v", lines[1])
	}
	// Hand-published lines without an id are told apart by their place (P4).
	if lines[0].Order.ID == lines[2].Order.ID || lines[2].Order.ID != lineID(testEpoch, 3, 3) {
		t.Errorf("ids %s and %s", lines[0].Order.ID, lines[2].Order.ID)
	}
}

// fitsHeader tells whether a dead letter can carry the reason: one that it cannot would
// stop the line for good (P5).
func fitsHeader(reason error) bool {
	return reason == nil || len(reason.Error()) <= 300 && !strings.ContainsAny(reason.Error(), "\r\n\x00")
}

func FuzzLines(f *testing.F) {
	own := Order{ID: testID(1), Email: "a@b.c", Quantity: 2, PlacedAt: testTime}
	for _, s := range []string{
		string(own.AppendLine(nil)), `{"email":"a@b.c"}`, "{\"email\":\"a@b.c\"}\r\n\r\ngarbage\n{\"email\":\"d@e.f\"}", "", "null", "[1]",
		`{"id":"01890A5D-ac96-774b-bcce-b302099a8057","email":"A@b.c","quantity":01,"placed_at":"2026-03-01T11:00:00.0000009+02:00"}`,
		`{"id":"01890a5d-ac96-774b-bcce-b302099a8057","email":"a@b.c","quantity":1,"placed_at":"2026-03-01T9:00:00,5Z"}`,
		`{"email":"a@b.c","email":"d@e.f","quantity":1e0,"placed_at":null}`,
		`{"` + strings.Repeat("n", 1000) + `":1,"` + strings.Repeat("n", 1000) + `":2}`, `{"a\nb":1,"a\nb":1}`, `{"email":"` + strings.Repeat("n\n", 1000) + `"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := Message{Product: "tshirt", Epoch: testEpoch, Seq: 1, StoredAt: testTime, Data: data}
		lines := m.Lines()
		if len(lines) == 0 || len(lines) > MaxLines {
			t.Fatalf("%d lines", len(lines))
		}
		for i, l := range lines {
			if l.N != i+1 || !fitsHeader(l.Err) {
				t.Fatalf("line %d has number %d, %v", i+1, l.N, l.Err)
			}
			// The quick reader and the general one agree on whatever the quick one takes.
			var quick Order
			if general, err := m.readLine(l.N, l.Raw); readOwnLine(l.Raw, &quick) && (err != nil || general != quick) {
				t.Fatalf("%q is %+v to the quick reader, %+v, %v to the general one", l.Raw, quick, general, err)
			}
			if l.Err != nil {
				if l.Order != (Order{}) {
					t.Fatalf("%q is refused as %+v, %v", l.Raw, l.Order, l.Err)
				}
				continue
			}
			if again, err := m.readLine(l.N, l.Order.AppendLine(nil)); err != nil || again != l.Order {
				t.Fatalf("%+v read again is %+v, %v", l.Order, again, err)
			}
		}
	})
}

func TestOrderIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := genID().Draw(t, "id")
		for _, s := range []string{id.String(), strings.ToUpper(id.String())} {
			if back, err := ParseOrderID(s); err != nil || back != id {
				t.Fatalf("%s read again is %s, %v", s, back, err)
			}
		}
	})
	// RFC 9562 5.5, with the DNS namespace of its 6.6 and the example of its A.4.
	dns := OrderID{0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}
	version5 := func(space OrderID, name string) (id OrderID) {
		sum := sha1.Sum(append(space[:], name...))
		copy(id[:], sum[:])
		id[6], id[8] = id[6]&0x0f|0x50, id[8]&0x3f|0x80
		return id
	}
	if got := version5(dns, "www.example.com").String(); got != "2ed6657d-e927-568b-95e1-2665a8aea6a2" {
		t.Fatalf("the test's own derivation gives %s", got)
	}
	if got := version5(dns, "firstcome"); got != Namespace {
		t.Errorf("the namespace is %s, documented is %s", Namespace, got)
	}
	if got, want := KeyedID("a@b.c", "tshirt", "k"), version5(Namespace, "a@b.c\ntshirt\nk"); got != want {
		t.Errorf("a keyed id is %s, want %s", got, want)
	}
	if got, want := lineID(testEpoch, 12, 3), version5(Namespace, testEpoch+"\n12\n3"); got != want {
		t.Errorf("a line's id is %s, want %s", got, want)
	}
	distinct := map[OrderID]string{}
	for _, keyed := range [][3]string{{"a@b.c", "p", "k"}, {"a@b.cp", "", "k"}, {"a@b.c", "p", "k2"}, {"a@b.c", "p2", "k"}, {"d@b.c", "p", "k"}} {
		id := KeyedID(Email(keyed[0]), ProductID(keyed[1]), keyed[2])
		if was, again := distinct[id]; again {
			t.Errorf("%v and %s have one id", keyed, was)
		}
		distinct[id] = fmt.Sprint(keyed)
	}
}
