package web

import (
	"bytes"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/gofiber/contrib/websocket"

	"firstcome/internal/sale"
)

// greeting are the first frames of a socket: hello, with the email only of a buyer, and
// the products. What mu guards is read first: frames that are queued already, and all
// that were made before, say nothing newer.
func (h *hub) greeting(email sale.Email, mu *sync.Mutex, products *productQueue) [][]byte {
	mu.Lock()
	products.greeted, products.frames = time.Now(), nil
	mu.Unlock()
	hello := []byte(`{"type":"hello"`)
	if email != "" {
		hello = append(append(append(hello, `,"email":"`...), email...), '"')
	}
	now := h.now()
	first := [][]byte{append(appendTime(append(hello, `,"server_time":`...), now), '}')}
	for _, p := range h.server.products() {
		if products.wants(p.Product) {
			first = append(first, h.server.appendProductFrame(nil, &p, p.State(now), now, true))
		}
	}
	return first
}

func sendAll(ws *websocket.Conn, texts [][]byte) error {
	for _, text := range texts {
		if err := ws.WriteMessage(websocket.TextMessage, text); err != nil {
			return err
		}
	}
	return nil
}

// appendBeat appends the frame that comes with each ping: scripts see no pings.
func appendBeat(b []byte, now time.Time) []byte {
	return append(appendTime(append(b, `{"type":"beat","server_time":`...), now), '}')
}

// lineFrame says how far a buyer's wait for a product has come.
type lineFrame struct {
	sale.Wait
	available int64 // units
	eta       int64 // seconds, 0: unknown
}

// eta is in how many seconds the order behind those ahead is decided, at that pace.
func eta(ahead uint64, perOrder time.Duration) int64 {
	const most = 1e9
	return int64(min(most, max(1, math.Ceil(float64(ahead+1)*perOrder.Seconds()))))
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
	if f.eta > 0 {
		b = append(b, `,"eta_s":`...)
		b = strconv.AppendInt(b, f.eta, 10)
	}
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

// withTurn appends a pending status with the number of orders ahead, which statuses over
// NATS do not carry.
func withTurn(dst, status []byte, turn uint64) []byte {
	at := bytes.Index(status, statusRev)
	if turn == 0 || at < 0 {
		return append(dst, status...)
	}
	dst = append(append(dst, status[:at]...), `"ahead":`...)
	dst = append(strconv.AppendUint(dst, turn-1, 10), ',')
	return append(dst, status[at:]...)
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
