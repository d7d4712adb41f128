package sale

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"pgregory.net/rapid"
)

// Generators. Ids and buyers come from small pools, so that they meet again.

var testTime = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)

const (
	testEpoch  = "2026-03-01T08:00:00.123456789Z"
	laterEpoch = "2026-03-02T08:00:00Z"
)

func testID(n int) (id OrderID) {
	copy(id[:], fmt.Sprintf("order-%010d", n))
	return id
}

func testBuyer(n int) Email { return Email(fmt.Sprintf("buyer%d@example.com", n)) }

func genInstant() *rapid.Generator[time.Time] {
	return rapid.Custom(func(t *rapid.T) time.Time {
		return testTime.Add(time.Duration(rapid.Int64Range(-1e9, 1e9).Draw(t, "µs")) * time.Microsecond)
	})
}

// genOrder draws from ids and buyers numbered below the bounds.
func genOrder(ids, buyers, maxQuantity int) *rapid.Generator[Order] {
	return rapid.Custom(func(t *rapid.T) Order {
		return Order{
			ID:       testID(rapid.IntRange(0, ids-1).Draw(t, "id")),
			Email:    testBuyer(rapid.IntRange(0, buyers-1).Draw(t, "buyer")),
			Quantity: rapid.IntRange(1, maxQuantity).Draw(t, "quantity"),
			PlacedAt: genInstant().Draw(t, "placed at"),
		}
	})
}

// genLines is a message of at least one line, some of them dead.
func genLines(order *rapid.Generator[Order], maxLines int) *rapid.Generator[[]Line] {
	return rapid.Custom(func(t *rapid.T) []Line {
		lines := make([]Line, rapid.IntRange(1, maxLines).Draw(t, "lines"))
		for i := range lines {
			if rapid.IntRange(0, 9).Draw(t, "dead") == 0 {
				lines[i] = Line{N: i + 1, Raw: []byte("garbage"), Err: errors.New("not a JSON object")}
				continue
			}
			lines[i] = Line{N: i + 1, Order: order.Draw(t, "order")}
			lines[i].Raw = lines[i].Order.AppendLine(nil)
		}
		return lines
	})
}

const atextChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-/=?^_`{|}~"

// genAddress is any address of the documented grammar.
func genAddress() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		atom := rapid.StringOfN(rapid.RuneFrom([]rune(atextChars)), 1, 12, -1)
		local := strings.Join(rapid.SliceOfN(atom, 1, 4).Draw(t, "local"), ".")
		label := rapid.StringMatching(`[a-zA-Z0-9]([a-zA-Z0-9-]{0,12}[a-zA-Z0-9])?`)
		labels := rapid.SliceOfN(label, 1, 5).Draw(t, "labels")
		last := rapid.StringMatching(`[a-zA-Z]([a-zA-Z0-9-]{0,12}[a-zA-Z0-9])?`).Draw(t, "last label")
		return local + "@" + strings.Join(append(labels, last), ".")
	})
}

func genEmail() *rapid.Generator[Email] {
	return rapid.Map(genAddress(), func(s string) Email {
		e, err := ParseEmail(s)
		if err != nil {
			panic(fmt.Sprintf("%q is of the grammar: %v", s, err))
		}
		return e
	})
}

func genID() *rapid.Generator[OrderID] {
	return rapid.Custom(func(t *rapid.T) (id OrderID) {
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		return id
	})
}

func genOwnOrder() *rapid.Generator[Order] {
	return rapid.Custom(func(t *rapid.T) Order {
		return Order{ID: genID().Draw(t, "id"), Email: genEmail().Draw(t, "email"),
			Quantity: rapid.IntRange(1, MaxQuantity).Draw(t, "quantity"), PlacedAt: genInstant().Draw(t, "placed at")}
	})
}

// genDeskLine draws a line that can be read, with ids numbered below the bound.
func genDeskLine(ids int) *rapid.Generator[*DeskLine] {
	text := rapid.StringOfN(rapid.RuneFrom([]rune("aZ0 <&>\"\\\u2028é=@")), 0, 16, -1)
	return rapid.Custom(func(t *rapid.T) *DeskLine {
		l := &DeskLine{ID: testID(1000 + rapid.IntRange(0, ids-1).Draw(t, "id")), By: text.Draw(t, "by"), Why: text.Draw(t, "why")}
		if rapid.Bool().Draw(t, "supply") {
			l.Do = DoSupply
			if rapid.Bool().Draw(t, "units") {
				units := rapid.OneOf(rapid.Int64Range(-9, -1), rapid.Int64Range(1, 9), rapid.Just(int64(MaxUnits)), rapid.Just(int64(-MaxUnits))).Draw(t, "more")
				l.Units = &units
			} else {
				left := rapid.OneOf(rapid.Int64Range(0, 9), rapid.Just(int64(MaxUnits))).Draw(t, "left")
				l.Available = &left
			}
			return l
		}
		l.Do = DoTerms
		named := rapid.IntRange(1, 15).Draw(t, "named")
		if named&1 != 0 {
			limit := rapid.Int64Range(0, 4).Draw(t, "limit")
			l.LimitPerBuyer = &limit
		}
		if named&2 != 0 {
			l.OpensAt = &Hour{genHour().Draw(t, "opens at")}
		}
		if named&4 != 0 {
			l.ClosesAt = &Hour{genHour().Draw(t, "closes at")}
		}
		if named&8 != 0 {
			paused := rapid.Bool().Draw(t, "paused")
			l.Paused = &paused
		}
		return l
	})
}

// genHour draws one of few, or none.
func genHour() *rapid.Generator[*time.Time] {
	return rapid.Custom(func(t *rapid.T) *time.Time {
		at := testTime.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "hour")) * time.Hour)
		if at == testTime {
			return nil
		}
		return &at
	})
}

// genDeskLines is a message of the desk, some of whose lines are dead.
func genDeskLines(line *rapid.Generator[*DeskLine], maxLines int) *rapid.Generator[[]Line] {
	return rapid.Custom(func(t *rapid.T) []Line {
		lines := make([]Line, rapid.IntRange(1, maxLines).Draw(t, "lines"))
		for i := range lines {
			lines[i] = Line{N: i + 1, Raw: []byte("garbage"), Err: errors.New("not a JSON object")}
			if rapid.IntRange(0, 9).Draw(t, "dead") > 0 {
				l := line.Draw(t, "line")
				lines[i] = Line{N: i + 1, Desk: l, Raw: l.AppendLine(nil)}
			}
		}
		return lines
	})
}

// newStock is a product's stock before anything was decided.
func newStock(supplied, limit int64) Stock {
	return Stock{Product: "tshirt", Available: supplied, Supplied: supplied, LimitPerBuyer: limit}
}
