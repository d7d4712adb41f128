package sale

// table is a hash index from a key that its owner keeps elsewhere to a number
// below 2³²−1. It holds 4 bytes a slot and no pointers, so that millions of
// orders neither cost a map's overhead nor are walked by the garbage collector.
// It is cut into parts, each of which grows alone, so that no single insertion
// moves more than a small share of the whole.
type table struct {
	parts [tableParts]tablePart
}

const tableParts = 64

type tablePart struct {
	slots []uint32 // 0: free, else the number + 1; a power of two long
	used  int
}

// find returns the number with that hash for which is says yes.
func (t *table) find(hash uint64, is func(uint32) bool) (uint32, bool) {
	p := &t.parts[hash%tableParts]
	if p.used == 0 {
		return 0, false
	}
	mask := uint64(len(p.slots) - 1)
	for at := hash / tableParts & mask; ; at = (at + 1) & mask {
		switch v := p.slots[at]; {
		case v == 0:
			return 0, false
		case is(v - 1):
			return v - 1, true
		}
	}
}

// add puts n under hash; hashOf gives the hash of any number added before.
func (t *table) add(hash uint64, n uint32, hashOf func(uint32) uint64) {
	p := &t.parts[hash%tableParts]
	if 4*(p.used+1) > 3*len(p.slots) {
		old := p.slots
		p.slots = make([]uint32, max(8, 2*len(old)))
		for _, v := range old {
			if v != 0 {
				p.put(hashOf(v-1), v)
			}
		}
	}
	p.put(hash, n+1)
	p.used++
}

func (p *tablePart) put(hash uint64, v uint32) {
	mask := uint64(len(p.slots) - 1)
	at := hash / tableParts & mask
	for p.slots[at] != 0 {
		at = (at + 1) & mask
	}
	p.slots[at] = v
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
