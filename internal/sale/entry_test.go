package sale

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func genHead() *rapid.Generator[Head] {
	units := rapid.Int64Range(0, MaxUnits)
	return rapid.Custom(func(t *rapid.T) Head {
		return Head{
			Epoch: testEpoch, Seq: rapid.Uint64Range(1, 1<<62).Draw(t, "seq"), N: rapid.Uint64Range(1, 1<<40).Draw(t, "n"),
			Prev:     rapid.SampledFrom([]string{"", strings.Repeat("0f", 32)}).Draw(t, "prev"),
			Supplied: units.Draw(t, "supplied"), Available: units.Draw(t, "available"),
			Decided: rapid.Uint64Range(0, 1<<40).Draw(t, "decided"), DecidedAt: genInstant().Draw(t, "decided at"),
		}
	})
}

func genEntry() *rapid.Generator[*Entry] {
	return rapid.Custom(func(t *rapid.T) *Entry {
		e := &Entry{Product: genProduct().Draw(t, "product"), Head: genHead().Draw(t, "head")}
		for _, o := range rapid.SliceOfN(genOwnOrder(), 0, 10).Draw(t, "orders") {
			outcome := rapid.SampledFrom([]Outcome{Accepted, SoldOut, LimitReached, Duplicate}).Draw(t, "outcome")
			place := rapid.Uint64Range(1, 1<<40).Draw(t, "place")
			if outcome == Duplicate {
				place = 0
			}
			e.Orders = append(e.Orders, EntryOrder{o, place, outcome})
		}
		return e
	})
}

func TestEntryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genEntry().Draw(t, "entry")
		data := e.Encode()
		if bytes.IndexByte(data, '@') >= 0 {
			t.Fatalf("the ledger shows an address: %s", data)
		}
		got, err := DecodeEntry(data)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if !sameEntry(got, e) {
			t.Fatalf("decoded %+v, encoded %+v", got, e)
		}
		if !bytes.Equal(got.Encode(), data) {
			t.Fatalf("encoded again:\n%s\n%s", got.Encode(), data)
		}
		// Other writers' spacing and order of fields mean the same.
		var generic map[string]any
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		if err := dec.Decode(&generic); err != nil {
			t.Fatal(err)
		}
		other, err := json.MarshalIndent(generic, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if got, err = DecodeEntry(other); err != nil || !sameEntry(got, e) {
			t.Fatalf("%s read again: %+v, %v", other, got, err)
		}
	})
}

func sameEntry(a, b *Entry) bool {
	return a.Product == b.Product && a.Head == b.Head && len(a.Orders) == len(b.Orders) &&
		(len(a.Orders) == 0 || reflect.DeepEqual(a.Orders, b.Orders))
}

func TestOwnEntriesTakeTheQuickWay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := genEntry().Draw(t, "entry")
		e.Seq %= MaxUnits
		var got Entry
		if !readOwnEntry(e.Encode(), &got) {
			t.Fatalf("the quick reader does not take %s", e.Encode())
		}
	})
}

func FuzzDecodeEntry(f *testing.F) {
	e := &Entry{Product: "tshirt", Head: Head{Epoch: testEpoch, Seq: 2, N: 1, Supplied: 5, Available: 4, Decided: 1, DecidedAt: testTime},
		Orders: []EntryOrder{{Order{testID(1), "a@b.c", 1, testTime}, 1, Accepted}, {Order{testID(1), "a@b.c", 1, testTime}, 0, Duplicate}}}
	f.Add(e.Encode())
	for _, s := range []string{`{}`, `null`, `{"product":"tshirt","n":1,"orders":[{}]}`, `{"product":"tshirt","n":1,"orders":null}`, `[`,
		strings.Replace(string(e.Encode()), "accepted", "pending", 1), strings.Replace(string(e.Encode()), "Z", "+01:00", 1),
		strings.Replace(string(e.Encode()), testEpoch, "\xff\x01", 1), strings.Replace(string(e.Encode()), `"n":1`, `"n":-1`, 1)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := DecodeEntry(data)
		if err != nil {
			return
		}
		again, err := DecodeEntry(got.Encode())
		if err != nil || !sameEntry(again, got) {
			t.Fatalf("%q is %+v, encoded and read again %+v, %v", data, got, again, err)
		}
		// The quick reader and the general one agree on whatever the quick one takes.
		var quick, general Entry
		if readOwnEntry(data, &quick) {
			err := json.Unmarshal(data, &general)
			general.DecidedAt = Instant(general.DecidedAt)
			if err != nil || !sameEntry(&quick, &general) {
				t.Fatalf("%q is %+v to the quick reader, %+v, %v to the general one", data, quick, general, err)
			}
		}
	})
}

// The stock value carries its last entry whole, so that a repetition writes the
// same bytes after the value went through the store.
func TestEntryIsMadeAgainFromTheStoredValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lines := genLines(genOwnOrder(), 20).Draw(t, "lines")
		stock, err := NewStock("tshirt", rapid.Int64Range(0, 500).Draw(t, "supplied"), 0)
		if err != nil {
			t.Fatal(err)
		}
		next, outcomes := Decide(stock, nobody{}, lines)
		next.Last = &Last{Head: genHead().Draw(t, "head"), Outcomes: outcomes, Orders: entryOrders(lines, outcomes, next.Decided)}
		next.Last.Decided = next.Decided
		entry := next.Entry()

		stored, err := DecodeStock(next.Encode())
		if err != nil {
			t.Fatal(err)
		}
		if again := stored.Entry(); !bytes.Equal(again.Encode(), entry.Encode()) {
			t.Fatalf("made again:\n%s\n%s", again.Encode(), entry.Encode())
		}
		place, statuses := uint64(0), entry.Statuses()
		for _, o := range entry.Orders {
			if !o.Outcome.Final() {
				continue
			}
			place++
			s := statuses[place-1]
			if o.Place != place || s.Place != place || s.Outcome != o.Outcome || s.Order != o.Order || s.DecidedAt != entry.DecidedAt {
				t.Fatalf("the order at place %d is %+v, its status %+v", place, o, s)
			}
		}
		if place != next.Decided || int(place) != len(statuses) {
			t.Fatalf("%d places, %d statuses, %d decided", place, len(statuses), next.Decided)
		}
	})
}

// The largest group of the longest addresses must fit into a message, or a ledger
// entry could never be written. The server's default is 1 MiB.
func TestTheLargestGroupFits(t *testing.T) {
	local := strings.Repeat("*", maxLocal)
	domain := strings.Repeat("a.", maxDomain/2-1) + "com"
	email, err := ParseEmail(local + "@" + domain)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 1, 9, 0, 0, 123456000, time.UTC)
	lines := make([]Line, MaxLines)
	outcomes := make([]Outcome, MaxLines)
	for i := range lines {
		lines[i] = Line{N: i + 1, Order: Order{testID(i), email, MaxQuantity, at}}
		outcomes[i] = LimitReached
	}
	head := Head{Epoch: testEpoch, Seq: 1 << 60, N: 1 << 60, Prev: hashEntry(nil), Supplied: MaxUnits, Available: MaxUnits, Decided: 1 << 60, DecidedAt: at}
	last := &Last{Head: head, Outcomes: outcomes, Orders: entryOrders(lines, outcomes, head.Decided)}
	stock := Stock{Product: ProductID(strings.Repeat("p", 63)), Available: MaxUnits, Supplied: MaxUnits, Last: last, LedgerHead: hashEntry(nil)}
	const limit = 1<<20 - 4<<10 // room for headers
	if n := len(stock.Entry().Encode()); n > limit {
		t.Errorf("the entry takes %d bytes", n)
	}
	if n := len(stock.Encode()); n > limit {
		t.Errorf("the stock value takes %d bytes", n)
	}
}
