package audit

import (
	"fmt"

	"firstcome/internal/sale"
)

// Finding is one broken promise, found in what is stored.
type Finding struct {
	Promise string         // "P1" to "P8", see package sale
	Product sale.ProductID // "" if the finding concerns the queue as a whole
	Detail  string         // for an operator; it holds no buyer's address
}

// String is the finding on one line.
func (f Finding) String() string {
	if f.Product == "" {
		return f.Promise + " broken: " + f.Detail
	}
	return f.Promise + " broken for " + string(f.Product) + ": " + f.Detail
}

// maxFindings bounds what is said of one product: a history broken in a million places
// is told by its first ones, and by how many more there are.
const maxFindings = 100

type findings struct {
	product sale.ProductID
	list    []Finding
	more    int
}

// add never gets a text that a stored value made up: such a text may be an address.
func (f *findings) add(promise, format string, args ...any) {
	if len(f.list) == maxFindings {
		f.more++
		return
	}
	f.list = append(f.list, Finding{Promise: promise, Product: f.product, Detail: fmt.Sprintf(format, args...)})
}

func (f *findings) all() []Finding {
	if f.more == 0 {
		return f.list
	}
	last := f.list[len(f.list)-1]
	last.Detail = fmt.Sprintf("and %d findings more", f.more)
	return append(f.list, last)
}
