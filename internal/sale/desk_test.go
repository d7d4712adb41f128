package sale

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDeskLineTable(t *testing.T) {
	const id = "01890a5d-ac96-774b-bcce-b302099a8057"
	given, err := ParseOrderID(id)
	if err != nil {
		t.Fatal(err)
	}
	m := Message{Product: "tshirt", Desk: true, Epoch: testEpoch, Seq: 7, StoredAt: testTime}
	derived := lineID(testEpoch, 7, 1)
	last := time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	why := strings.Repeat("é", MaxWhy/2)
	for line, want := range map[string]DeskLine{
		`{"id":"` + id + `","do":"supply","units":10,"by":"ann","why":"second delivery"}`: {ID: given, Do: DoSupply, Units: new(int64(10)), By: "ann", Why: "second delivery"},
		` { "do" : "supply" , "units" : -1000000000000 } `:                                {ID: derived, Do: DoSupply, Units: new(int64(-MaxUnits))},
		`{"do":"supply","units":1000000000000}`:                                           {ID: derived, Do: DoSupply, Units: new(int64(MaxUnits))},
		`{"do":"supply","available":0}`:                                                   {ID: derived, Do: DoSupply, Available: new(int64(0))},
		`{"do":"supply","available":1000000000000,"units":null}`:                          {ID: derived, Do: DoSupply, Available: new(int64(MaxUnits))},
		`{"do":"terms","limit_per_buyer":2,"opens_at":"2026-03-01T09:00:00Z","closes_at":null,"paused":true,"by":"ann","why":"x"}`: {ID: derived, Do: DoTerms,
			LimitPerBuyer: new(int64(2)), OpensAt: &Hour{&testTime}, ClosesAt: &Hour{}, Paused: new(true), By: "ann", Why: "x"},
		`{"id":null,"do":"terms","limit_per_buyer":0,"paused":null,"by":null,"why":null}`: {ID: derived, Do: DoTerms, LimitPerBuyer: new(int64(0))},
		`{"do":"terms","opens_at":null}`:                            {ID: derived, Do: DoTerms, OpensAt: &Hour{}},
		`{"do":"terms","paused":false}`:                             {ID: derived, Do: DoTerms, Paused: new(false)},
		`{"do":"terms","opens_at":"2026-03-01T09:00:00.0000009Z"}`:  {ID: derived, Do: DoTerms, OpensAt: &Hour{&testTime}},
		`{"do":"terms","closes_at":"9999-12-31T23:59:59.9999999Z"}`: {ID: derived, Do: DoTerms, ClosesAt: &Hour{&last}},
		// Hours that make no sense now may make sense when the line's turn comes.
		`{"do":"terms","opens_at":"2026-03-01T09:00:00Z","closes_at":"2026-03-01T09:00:00Z"}`: {ID: derived, Do: DoTerms, OpensAt: &Hour{&testTime}, ClosesAt: &Hour{&testTime}},
		`{"do":"\u0073upply","units":1,"why":"` + why + `"}`:                                  {ID: derived, Do: DoSupply, Units: new(int64(1)), Why: why},
		`{"do":"supply","units":1,"by":"` + strings.Repeat("b", MaxBy) + `"}`:                 {ID: derived, Do: DoSupply, Units: new(int64(1)), By: strings.Repeat("b", MaxBy)},
		`{"do":"supply","units":1,"why":"\u2028<\"\\&>"}`:                                     {ID: derived, Do: DoSupply, Units: new(int64(1)), Why: "\u2028<\"\\&>"},
	} {
		m.Data = []byte(line)
		if lines := m.Lines(); len(lines) != 1 || lines[0].Err != nil || !reflect.DeepEqual(*lines[0].Desk, want) || lines[0].Order != (Order{}) {
			t.Errorf("%s became %+v, want %+v", line, lines, want)
		}
	}
	own := Order{testID(1), "a@b.c", 1, testTime}
	for _, bad := range []string{
		``, "\r\n", ` `, `garbage`, `null`, `[]`, `{}`, `{"do":"supply","units":1`, `{"do":"supply","units":1} {}`,
		string(own.AppendLine(nil)), `{"email":"a@b.c"}`, // orders
		`{"do":"supply"}`, `{"do":"terms"}`, `{"units":1}`, `{"do":null,"units":1}`, `{"do":"","units":1}`, `{"do":"refund","units":1}`, `{"do":"Supply","units":1}`, `{"do":1,"units":1}`,
		`{"do":"supply","units":1,"available":1}`, `{"do":"supply","units":null,"available":null}`,
		`{"do":"supply","units":0}`, `{"do":"supply","units":-0}`, `{"do":"supply","units":1000000000001}`, `{"do":"supply","units":-1000000000001}`,
		`{"do":"supply","units":99999999999999999999}`, `{"do":"supply","units":1.0}`, `{"do":"supply","units":1e1}`, `{"do":"supply","units":"1"}`, `{"do":"supply","units":+1}`,
		`{"do":"supply","available":-1}`, `{"do":"supply","available":1000000000001}`, `{"do":"supply","available":[]}`,
		`{"do":"supply","units":1,"paused":true}`, `{"do":"supply","units":1,"closes_at":null}`, `{"do":"terms","paused":true,"units":1}`, `{"do":"terms","paused":true,"available":1}`,
		`{"do":"supply","units":1,"note":"x"}`, `{"do":"supply","units":1,"note":null}`, `{"do":"terms","paused":true,"close_at":null}`, `{"do":"supply","Units":1}`, `{"do":"supply","units":1,"unit":null,"x":1}`,
		`{"do":"supply","units":1,"units":1}`, `{"do":"supply","units":1,"do":"supply"}`, `{"do":"supply","units":null,"units":1}`,
		`{"do":"terms","limit_per_buyer":-1}`, `{"do":"terms","limit_per_buyer":1000000000001}`, `{"do":"terms","limit_per_buyer":"2"}`, `{"do":"terms","limit_per_buyer":null}`,
		`{"do":"terms","paused":"true"}`, `{"do":"terms","paused":1}`, `{"do":"terms","paused":null}`,
		`{"do":"terms","opens_at":"10000-01-01T00:00:00Z"}`, `{"do":"terms","opens_at":"0000-12-31T23:59:59Z"}`, `{"do":"terms","opens_at":"2026-03-01T09:00:00+01:00"}`,
		`{"do":"terms","opens_at":"9999-12-31T23:59:59-05:00"}`, `{"do":"terms","opens_at":"2026-03-01T09:00:00"}`, `{"do":"terms","opens_at":"2026-03-01"}`,
		`{"do":"terms","opens_at":"now"}`, `{"do":"terms","opens_at":""}`, `{"do":"terms","opens_at":1772355600}`,
		`{"do":"supply","units":1,"why":"` + why + `e"}`, `{"do":"supply","units":1,"by":"` + strings.Repeat("b", MaxBy+1) + `"}`,
		`{"do":"supply","units":1,"why":"\u0000"}`, `{"do":"supply","units":1,"by":"a\nb"}`, `{"do":"supply","units":1,"why":"\u007f"}`, `{"do":"supply","units":1,"why":"\u0085"}`,
		`{"do":"supply","units":1,"by":7}`, `{"do":"supply","units":1,"id":""}`, `{"do":"supply","units":1,"id":"` + id + `0"}`, `{"do":"supply","units":1,"id":7}`,
	} {
		m.Data = []byte(bad)
		if lines := m.Lines(); len(lines) != 1 || lines[0].Err == nil || lines[0].Desk != nil || lines[0].N != 1 {
			t.Errorf("%q became %+v", bad, lines)
		}
	}
	// And a desk line is no order.
	m.Desk, m.Data = false, []byte(`{"id":"`+id+`","do":"supply","units":10}`)
	if lines := m.Lines(); len(lines) != 1 || lines[0].Err == nil {
		t.Errorf("a desk line among orders became %+v", lines)
	}
}

func FuzzDeskLines(f *testing.F) {
	for _, s := range []string{
		`{"id":"01890a5d-ac96-774b-bcce-b302099a8057","do":"supply","units":10,"by":"ann","why":"second delivery"}`,
		`{"do":"terms","limit_per_buyer":2,"opens_at":"2026-03-01T09:00:00Z","closes_at":null,"paused":true}` + "\r\n\ngarbage\n" + `{"do":"supply","available":0}`,
		`{"` + strings.Repeat("n", 1000) + `":1}`, `{"a\nb":1}`,
		`{"do":"supply","units":1,"units":2}`, `{"do":"terms","opens_at":"0001-01-01T00:00:00.0000001Z"}`, "{\"do\":\"supply\",\"units\":1,\"why\":\"\xff\"}", "", "null",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m := Message{Product: "tshirt", Desk: true, Epoch: testEpoch, Seq: 1, StoredAt: testTime, Data: data}
		lines := m.Lines()
		if len(lines) == 0 || len(lines) > MaxLines {
			t.Fatalf("%d lines", len(lines))
		}
		for i, l := range lines {
			if l.N != i+1 || (l.Desk == nil) != (l.Err != nil) || l.Order != (Order{}) || !fitsHeader(l.Err) {
				t.Fatalf("line %d is %+v", i+1, l)
			}
			if l.Desk == nil {
				continue
			}
			if again, err := m.readDeskLine(l.N, l.Desk.AppendLine(nil)); err != nil || !reflect.DeepEqual(again, l.Desk) {
				t.Fatalf("%+v read again is %+v, %v", l.Desk, again, err)
			}
		}
		// What the desk may say, a link can hold: nothing it decides stops the product.
		head := Head{Stock: newStock(5, 0), N: 1, Hash: HashOf(nil), Queue: Position{Epoch: testEpoch}}
		link, _ := head.Decide(&naivePast{}, &m, lines, "a", testTime)
		if read, err := head.Continue(link.Encode()); err != nil || len(read.Desk) != len(link.Desk) {
			t.Fatalf("%s is read as %+v, %v", link.Encode(), read, err)
		}
	})
}

func TestSteer(t *testing.T) {
	at := func(hour int) *Hour { h := testTime.Add(time.Duration(hour) * time.Hour); return &Hour{&h} }
	units := func(id int, n int64) *DeskLine { return &DeskLine{ID: testID(id), Do: DoSupply, Units: &n} }
	left := func(id int, n int64) *DeskLine { return &DeskLine{ID: testID(id), Do: DoSupply, Available: &n} }
	hours := func(id int, opens, closes *Hour) *DeskLine {
		return &DeskLine{ID: testID(id), Do: DoTerms, OpensAt: opens, ClosesAt: closes}
	}
	stock := Stock{Product: "tshirt", Available: 3, Sold: 2, Supplied: 5, Decided: 2}
	full := Stock{Product: "tshirt", Available: MaxUnits - 2, Sold: 2, Supplied: MaxUnits}
	terms := &DeskLine{ID: testID(1), Do: DoTerms, LimitPerBuyer: new(int64(4)), OpensAt: at(1), ClosesAt: at(2), Paused: new(true)}
	for _, c := range []struct {
		name  string
		stock Stock
		lines []*DeskLine
		want  string // refusals, and available/supplied limit opens closes paused
	}{
		{"more", stock, []*DeskLine{units(1, 7)}, "[] 10/12 0 - - false"},
		{"back", stock, []*DeskLine{units(1, -3)}, "[] 0/2 0 - - false"},
		{"more back than there is", stock, []*DeskLine{units(1, -4)}, "[not-enough] 3/5 0 - - false"},
		{"back what was never there", stock, []*DeskLine{units(1, -MaxUnits)}, "[not-enough] 3/5 0 - - false"},
		{"to a number", stock, []*DeskLine{left(1, 9)}, "[] 9/11 0 - - false"},
		{"to fewer", stock, []*DeskLine{left(1, 0)}, "[] 0/2 0 - - false"},
		{"to what there is", stock, []*DeskLine{left(1, 3)}, "[] 3/5 0 - - false"},
		{"all that can be", stock, []*DeskLine{units(1, MaxUnits-5)}, "[] 999999999998/1000000000000 0 - - false"},
		{"one more than can be", stock, []*DeskLine{units(1, MaxUnits-4)}, "[out-of-range] 3/5 0 - - false"},
		{"to one more than can be", stock, []*DeskLine{left(1, MaxUnits-1)}, "[out-of-range] 3/5 0 - - false"},
		{"more than is full", full, []*DeskLine{units(1, 1), units(2, -1), units(3, 1)}, "[out-of-range  ] 999999999998/1000000000000 0 - - false"},
		{"each sees the one before", stock, []*DeskLine{units(1, -4), units(2, 1), units(3, -4), left(4, 2), units(5, -3)}, "[not-enough    not-enough] 2/4 0 - - false"},
		{"the same again", stock, []*DeskLine{units(1, 2), units(1, 2), units(2, -9), units(2, 1)}, "[ duplicate not-enough duplicate] 5/7 0 - - false"},
		{"what the history has", stock, []*DeskLine{units(77, 2)}, "[duplicate] 3/5 0 - - false"},
		{"all terms", stock, []*DeskLine{terms}, "[] 3/5 4 1h 2h true"},
		{"and back", stock, []*DeskLine{terms, {ID: testID(2), Do: DoTerms, LimitPerBuyer: new(int64(0)), OpensAt: &Hour{}, ClosesAt: &Hour{}, Paused: new(false)}}, "[ ] 3/5 0 - - false"},
		{"only what is named", stock, []*DeskLine{terms, {ID: testID(2), Do: DoTerms, LimitPerBuyer: new(int64(1))}}, "[ ] 3/5 1 1h 2h true"},
		{"closes before it opens", stock, []*DeskLine{hours(1, at(2), at(1))}, "[closes-before-opens] 3/5 0 - - false"},
		{"closes as it opens", stock, []*DeskLine{hours(1, at(2), at(2))}, "[closes-before-opens] 3/5 0 - - false"},
		{"closes before it opened already", stock, []*DeskLine{hours(1, at(2), nil), hours(2, nil, at(1)), hours(3, at(0), at(1))}, "[ closes-before-opens ] 3/5 0 0s 1h false"},
		{"opens after it closes already", stock, []*DeskLine{hours(1, nil, at(2)), hours(2, at(3), nil), hours(3, at(3), &Hour{})}, "[ closes-before-opens ] 3/5 0 3h - false"},
		{"a refusal refuses all of the line", stock, []*DeskLine{{ID: testID(1), Do: DoTerms, OpensAt: at(2), ClosesAt: at(1), Paused: new(true), LimitPerBuyer: new(int64(1))}}, "[closes-before-opens] 3/5 0 - - false"},
	} {
		lines := make([]Line, len(c.lines))
		for i := range lines {
			lines[i].Desk = c.lines[i]
		}
		next, decided := steer(c.stock, &naivePast{product: "tshirt", lines: []OrderID{testID(77)}}, lines)
		var refusals []Refusal
		for _, d := range decided {
			refusals = append(refusals, d.Refused)
		}
		hour := func(t *time.Time) string {
			if t == nil {
				return "-"
			}
			return strings.TrimSuffix(strings.TrimSuffix(t.Sub(testTime).String(), "0s"), "0m") + strings.Repeat("0s", btoi(t.Equal(testTime)))
		}
		got := fmt.Sprintf("%v %d/%d %d %s %s %v", refusals, next.Available, next.Supplied, next.LimitPerBuyer, hour(next.OpensAt), hour(next.ClosesAt), next.Paused)
		if got != c.want || next.Sold != c.stock.Sold || next.Decided != c.stock.Decided || !next.addsUp() {
			t.Errorf("%s: %s, want %s; the stock is %+v", c.name, got, c.want, next)
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Several lines in a message are what they would be in as many messages, and a refused
// one changes nothing.
func TestSteerIsOneLineAfterAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stock := newStock(rapid.Int64Range(0, 12).Draw(t, "available"), 0)
		stock.Sold = rapid.Int64Range(0, 5).Draw(t, "sold")
		stock.Supplied += stock.Sold
		lines := genDeskLines(genDeskLine(5), 8).Draw(t, "lines")
		next, decided := steer(stock, &naivePast{product: "tshirt"}, lines)
		past, one := &naivePast{product: "tshirt"}, stock
		n := 0
		for i := range lines {
			if lines[i].Err != nil {
				continue
			}
			before := one
			var alone []DecidedLine
			one, alone = steer(one, past, lines[i:i+1])
			if len(alone) != 1 || !reflect.DeepEqual(alone[0], decided[n]) || !reflect.DeepEqual(alone[0].DeskLine, *lines[i].Desk) {
				t.Fatalf("line %d is %+v, alone %+v", i+1, decided[n], alone)
			}
			if alone[0].Refused != "" && !reflect.DeepEqual(one, before) || !one.addsUp() || one.Sold != stock.Sold {
				t.Fatalf("%+v becomes %+v by %+v", before, one, alone[0])
			}
			past.lines = append(past.lines, alone[0].ID)
			n++
		}
		if n != len(decided) || !reflect.DeepEqual(one, next) {
			t.Fatalf("the stock is %+v, line after line it is %+v", next, one)
		}
	})
}
