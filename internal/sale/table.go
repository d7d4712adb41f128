package sale

// table is a hash index from a key that its owner keeps elsewhere to a number
// below 2³²−1. It holds 8 bytes a slot and no pointers, so that millions of orders
// neither cost a map's overhead nor are walked by the garbage collector. Half of
// the hash stands beside the number: neither a search that passes other keys nor
// growth has to look them up, which in a large book would miss the cache each time.
// It is cut into parts, each of which grows alone, so that no single insertion
// moves more than a small share of the whole.
type table struct {
	parts [tableParts]tablePart
}

const tableParts = 64

type tablePart struct {
	slots []slot // a power of two long
	used  int
}

type slot struct {
	number uint32 // + 1; 0: free
	hash   uint32 // its upper half
}

// find returns the number with that hash for which is says yes.
func (t *table) find(hash uint64, is func(uint32) bool) (uint32, bool) {
	p := &t.parts[hash%tableParts]
	if p.used == 0 {
		return 0, false
	}
	upper, mask := uint32(hash>>32), uint32(len(p.slots)-1)
	for at := upper & mask; ; at = (at + 1) & mask {
		switch s := p.slots[at]; {
		case s.number == 0:
			return 0, false
		case s.hash == upper && is(s.number-1):
			return s.number - 1, true
		}
	}
}

// add puts n under hash.
func (t *table) add(hash uint64, n uint32) {
	p := &t.parts[hash%tableParts]
	if 4*(p.used+1) > 3*len(p.slots) {
		old := p.slots
		p.slots = make([]slot, max(8, 2*len(old)))
		for _, s := range old {
			if s.number != 0 {
				p.put(s)
			}
		}
	}
	p.put(slot{number: n + 1, hash: uint32(hash >> 32)})
	p.used++
}

func (p *tablePart) put(s slot) {
	mask := uint32(len(p.slots) - 1)
	at := s.hash & mask
	for p.slots[at].number != 0 {
		at = (at + 1) & mask
	}
	p.slots[at] = s
}

// pile is a growing list in pieces, so that growth never copies what is there.
type pile[T any] struct {
	pieces [][]T
	n      int
}

const pieceLen = 1 << 12

func (p *pile[T]) at(i uint32) *T { return &p.pieces[i/pieceLen][i%pieceLen] }

func (p *pile[T]) push(v T) uint32 {
	if p.n%pieceLen == 0 {
		p.pieces = append(p.pieces, make([]T, pieceLen))
	}
	i := uint32(p.n)
	*p.at(i) = v
	p.n++
	return i
}
