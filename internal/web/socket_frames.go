package web

import (
	"bytes"
	"strconv"

	"firstcome/internal/sale"
)

// lineFrame says how far a buyer's wait for a product has come.
type lineFrame struct {
	sale.Wait
	available int64 // units
}

func (f *lineFrame) append(b []byte) []byte {
	b = append(b, `{"type":"line","product":"`...)
	b = append(b, f.Product...)
	b = append(b, `","ahead":`...)
	b = strconv.AppendUint(b, f.Ahead, 10)
	b = append(b, `,"decided":`...)
	b = strconv.AppendUint(b, f.Decided, 10)
	b = append(b, `,"available":`...)
	b = strconv.AppendInt(b, f.available, 10)
	return append(b, '}')
}

// orderFrame is an order's status, shared by all sockets that get it.
type orderFrame struct {
	id   sale.OrderID
	rev  int
	text []byte
}

func appendOrderFrame(dst, status []byte) []byte {
	dst = append(dst, `{"type":"order","order":`...)
	dst = append(dst, status...)
	return append(dst, '}')
}

var (
	statusStart = []byte(`{"id":"`)
	statusRev   = []byte(`"rev":`)
)

// readStatus finds id and rev in what sale.Status.AppendJSON wrote. No field before rev
// can hold a quote, so only the real rev matches.
func readStatus(b []byte) (id sale.OrderID, rev int, ok bool) {
	if !bytes.HasPrefix(b, statusStart) || len(b) < len(statusStart)+36 || b[len(b)-1] != '}' {
		return id, 0, false
	}
	id, err := sale.ParseOrderID(b[len(statusStart) : len(statusStart)+36])
	at := bytes.Index(b, statusRev)
	if err != nil || at < 0 {
		return id, 0, false
	}
	i := at + len(statusRev)
	start := i
	for ; i < len(b) && '0' <= b[i] && b[i] <= '9' && i < start+9; i++ {
		rev = 10*rev + int(b[i]-'0')
	}
	return id, rev, i > start
}
