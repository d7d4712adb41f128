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

const testEpoch = "2026-03-01T08:00:00.123456789Z"

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

func genProduct() *rapid.Generator[ProductID] {
	return rapid.Map(rapid.StringMatching(`[a-z0-9][a-z0-9_-]{0,62}`), func(s string) ProductID { return ProductID(s) })
}

func genID() *rapid.Generator[OrderID] {
	return rapid.Custom(func(t *rapid.T) (id OrderID) {
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		return id
	})
}
