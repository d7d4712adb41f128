package audit

import (
	"encoding/json"
	"fmt"

	"firstcome/internal/sale"
)

// foreign is what was passed over: the values that are not the next link.
type foreign struct {
	count uint64
	first sale.Seq
	lost  stray // the first one with a number above 1
	last  stray // the newest one with a number above the newest link's
}

// stray is a value that has the look of one of the product's links, by its v, product
// and number.
type stray struct {
	seq        sale.Seq
	n          uint64
	prev, hash string
}

// passOver takes a value that is not the next link. Alone it is a note. Two of them that
// hang together are links that have lost the ones before them.
func (r *Replay) passOver(seq sale.Seq, value []byte) {
	f := &r.foreign
	if f.count++; f.count == 1 {
		f.first = seq
	}
	if r.cut {
		return
	}
	s := r.stray(seq, value)
	if s.n > 1 && f.lost.n == 0 {
		f.lost = s
	}
	if s.n <= r.head.N {
		return
	}
	if f.last.n > r.head.N && s.n == f.last.n+1 && s.prev == f.last.hash {
		r.cutAt(f.last)
		return
	}
	f.last = s
}

// stray reads a value that is not the next link. Its number is 0 if it has not the look
// of one at all.
func (r *Replay) stray(seq sale.Seq, value []byte) stray {
	var link struct {
		V       int            `json:"v"`
		Product sale.ProductID `json:"product"`
		N       uint64         `json:"n"`
		Prev    string         `json:"prev"`
	}
	if json.Unmarshal(value, &link) != nil || link.V != 2 || link.Product != r.product {
		return stray{}
	}
	return stray{seq: seq, n: link.N, prev: link.Prev, hash: sale.HashOf(value)}
}

func (r *Replay) cutAt(s stray) {
	r.cut = true
	if r.head.N == 0 {
		r.add("P8", "the history is cut: it begins with link %d at revision %d", s.n, s.seq)
		return
	}
	r.add("P8", "the history is cut: link %d at revision %d does not continue link %d, and the next one continues it", s.n, s.seq, r.head.N)
}

// finishForeign looks at what was passed over once there is no more.
func (r *Replay) finishForeign() {
	f := &r.foreign
	if r.head.N == 0 && f.lost.n > 0 && !r.cut {
		r.cutAt(f.lost)
	}
	switch {
	case f.count == 1:
		r.note("revision %d is no link and was passed over", f.first)
	case f.count > 1:
		r.note("%d revisions are no links and were passed over, the first is %d", f.count, f.first)
	}
}

func (r *Replay) note(format string, args ...any) {
	r.summary.Notes = append(r.summary.Notes, fmt.Sprintf(format, args...))
}
