package web

import (
	"bytes"
	"context"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"firstcome/internal/sale"
)

const (
	maxSockets = 250_000
	lineBudget = 1000 // line frames in one round, for all sockets together
)

// timing is the pace of sockets; tests make it faster.
type timing struct {
	ping  time.Duration // between pings
	pong  time.Duration // for the answer to one
	line  time.Duration // between line frames to one socket
	sweep time.Duration // between looks for what no broadcast told
	pause time.Duration // that a pending frame may wait for another
	close time.Duration // for the other side's goodbye
	retry time.Duration // before the leader is asked again, and up to half as much more
}

// hub knows every open socket by its buyer. There is one per instance, with one
// goroutine of its own (run) and two per socket, see socket.
type hub struct {
	book    *sale.Book
	catchUp func(time.Duration) error
	log     *slog.Logger
	now     func() time.Time
	timing  timing

	slow    atomic.Uint64
	refused atomic.Uint64

	handlers sync.WaitGroup // one per socket in buyers; added to under mu
	mu       sync.RWMutex
	buyers   map[string][]*socket // by email token
	count    int
	stopping bool
}

func newHub(s *Server) *hub {
	return &hub{
		book: s.book, catchUp: s.catchUp, log: s.log, now: s.now,
		timing: timing{ping: 25 * time.Second, pong: 8 * time.Second, line: 250 * time.Millisecond, sweep: time.Second,
			pause: 10 * time.Millisecond, close: time.Second, retry: time.Second},
		buyers: map[string][]*socket{},
	}
}

func (h *hub) size() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.count
}

// add registers a socket: from now on it is given what is delivered. It refuses
// when the hub is stopping.
func (h *hub) add(s *socket) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopping {
		h.refused.Add(1)
		return false
	}
	h.buyers[s.token] = append(h.buyers[s.token], s)
	h.count++
	h.handlers.Add(1)
	return true
}

// remove is called once per socket that was added, when its goroutines are done.
func (h *hub) remove(s *socket) {
	defer h.handlers.Done()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count--
	left := h.buyers[s.token]
	for i := range left {
		if left[i] == s {
			left[i] = left[len(left)-1]
			left[len(left)-1] = nil
			left = left[:len(left)-1]
			break
		}
	}
	if len(left) == 0 {
		delete(h.buyers, s.token)
	} else {
		h.buyers[s.token] = left
	}
}

// deliver queues a status for the sockets of one buyer. It waits for none of them.
func (h *hub) deliver(token string, status []byte) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	sockets := h.buyers[token]
	if len(sockets) == 0 {
		return
	}
	id, rev, ok := readStatus(status)
	if !ok {
		h.log.Debug("a status that is none was broadcast", slog.Int("bytes", len(status)))
		return
	}
	f := &frame{id: id, rev: rev, text: appendOrderFrame(make([]byte, 0, len(status)+32), status)}
	for _, s := range sockets {
		s.push(f)
	}
}

// refresh marks every socket as behind.
func (h *hub) refresh() {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, sockets := range h.buyers {
		for _, s := range sockets {
			s.markStale(true)
		}
	}
}

// stop says goodbye to every socket, and returns when all are gone. When ctx is
// over they are cut off.
func (h *hub) stop(ctx context.Context) error {
	h.mu.Lock()
	h.stopping = true
	for _, sockets := range h.buyers {
		for _, s := range sockets {
			s.leave()
		}
	}
	h.mu.Unlock()
	done := make(chan struct{})
	go func() { // ends with the last socket; below nobody goes before it
		h.handlers.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	h.mu.RLock()
	for _, sockets := range h.buyers {
		for _, s := range sockets {
			s.raw.abort()
		}
	}
	h.mu.RUnlock()
	<-done
	return context.Cause(ctx)
}

// run tells waiting buyers, a few times a second, how far their lines have come,
// and looks for what no broadcast told, until ctx ends.
func (h *hub) run(ctx context.Context) {
	lines, sweep := time.NewTicker(h.timing.line), time.NewTicker(h.timing.sweep)
	defer lines.Stop()
	defer sweep.Stop()
	var sockets []*socket
	for {
		select {
		case <-ctx.Done():
			return
		case <-sweep.C:
			sockets = h.those(sockets[:0], func(*socket) bool { return true })
			for _, s := range sockets {
				s.checkMissed()
			}
		case <-lines.C:
			sockets = h.those(sockets[:0], func(s *socket) bool { return s.waits.Load() })
			budget := lineBudget
			for _, s := range sockets {
				if budget -= h.tellLines(s); budget <= 0 {
					break
				}
			}
		}
		clear(sockets)
	}
}

// those appends the sockets of which is says yes, quickly, in an order that differs
// each time (a map's), so that nobody is always beyond a budget.
func (h *hub) those(list []*socket, is func(*socket) bool) []*socket {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, sockets := range h.buyers {
		for _, s := range sockets {
			if is(s) {
				list = append(list, s)
			}
		}
	}
	return list
}

// tellLines gives a socket the lines that have changed, and returns how many. A
// socket that has not sent the last ones yet is left alone: of lines only the
// newest matters.
func (h *hub) tellLines(s *socket) int {
	waits := h.book.Waits(s.email)
	if len(waits) == 0 || !s.linesSent() {
		return 0
	}
	var text [][]byte
	lines := make([]line, 0, len(waits))
	for _, w := range waits {
		product, ok := h.book.Product(w.Product)
		if !ok {
			continue
		}
		l := line{w, product.Available}
		lines = append(lines, l)
		if !l.in(s.lines) {
			text = append(text, l.appendFrame(nil))
		}
	}
	s.lines = lines
	if len(text) > 0 {
		s.setLines(text)
	}
	return len(text)
}

// line is what a line frame says.
type line struct {
	sale.Wait
	available int64
}

func (l line) in(told []line) bool {
	for i := range told {
		if told[i] == l {
			return true
		}
	}
	return false
}

func (l line) appendFrame(b []byte) []byte {
	b = append(b, `{"type":"line","product":"`...)
	b = append(b, l.Product...)
	b = append(b, `","ahead":`...)
	b = strconv.AppendUint(b, l.Ahead, 10)
	b = append(b, `,"decided":`...)
	b = strconv.AppendUint(b, l.Decided, 10)
	b = append(b, `,"available":`...)
	b = strconv.AppendInt(b, l.available, 10)
	return append(b, '}')
}

// frame is an order's status on its way to sockets, shared by all that get it.
type frame struct {
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

// readStatus finds id and rev in what sale.Status.AppendJSON wrote. No field
// before rev can hold a quote, so nothing can pretend to be it.
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
