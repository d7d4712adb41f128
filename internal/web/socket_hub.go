package web

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"firstcome/internal/sale"
)

const (
	maxSockets = 250_000 // of an instance, if so many connections fit
	lineBudget = 1000    // line frames a tick, for all sockets together
)

// timing is the pace of sockets; tests make it faster.
type timing struct {
	ping  time.Duration // between pings
	pong  time.Duration // for the answer to one
	line  time.Duration // between line frames to one socket
	sweep time.Duration // between looks for lost broadcasts
	close time.Duration // for the other side's close frame
	retry time.Duration // before the leader is asked again, up to half as much more
}

// hub holds every open socket: those of buyers by buyer, and the watchers. An instance has
// one hub. It has two goroutines (run and turnWheel), and two a buyer's socket or one a
// watcher, see there.
type hub struct {
	server  *Server
	book    *sale.Book
	catchUp func(time.Duration) error
	log     *slog.Logger
	now     func() time.Time
	timing  timing

	most       int // sockets
	perBuyer   int // sockets of one buyer, 0: no limit
	perAddress int // sockets from one address, 0: no limit

	slow    atomic.Uint64
	refused atomic.Uint64

	handlers  sync.WaitGroup // one a socket or watcher that was added; added to under mu
	mu        sync.RWMutex
	buyers    map[string][]*socket // by email token, oldest first
	replaced  map[*socket]struct{} // closing, as their buyers opened too many
	wheel     wheel
	addresses map[string]int // sockets; only with perAddress
	count     int            // of all, also of watchers
	stopping  bool
}

func newHub(s *Server) *hub {
	return &hub{
		server: s,
		book:   s.book, catchUp: s.catchUp, log: s.log, now: s.now,
		timing: timing{ping: 25 * time.Second, pong: 8 * time.Second, line: 250 * time.Millisecond, sweep: time.Second,
			close: time.Second, retry: time.Second},
		most:   maxSockets,
		buyers: map[string][]*socket{}, replaced: map[*socket]struct{}{}, addresses: map[string]int{},
	}
}

// sizes are how many sockets are open, and how many of them are watchers.
func (h *hub) sizes() (sockets, watchers int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.count, h.wheel.count
}

// refuse returns why no further socket from the address may be opened, nil if it may.
func (h *hub) refuse(address string) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	switch {
	case h.count >= h.most:
		h.refused.Add(1)
		return errManySockets
	case h.crowded(address):
		h.refused.Add(1)
		return errTheirSockets
	}
	return nil
}

func (h *hub) crowded(address string) bool {
	return h.perAddress > 0 && h.addresses[address] >= h.perAddress
}

// add registers a socket, which then gets what is delivered. If its buyer has too many,
// the oldest one is closed. If the socket itself must be closed at once, add returns why:
// the hub is stopping, or others from its address came since refuse.
func (h *hub) add(s *socket) (no closing) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if no = h.admit(s.address); no != 0 {
		return no
	}
	mine := append(h.buyers[s.token], s)
	if h.perBuyer > 0 && len(mine) > h.perBuyer {
		oldest := mine[0]
		mine = slices.Delete(mine, 0, 1)
		h.replaced[oldest] = struct{}{}
		oldest.leave(closeTooMany)
	}
	h.buyers[s.token] = mine
	return 0
}

// admit counts a socket from the address, unless it must be closed at once.
func (h *hub) admit(address string) (no closing) {
	switch {
	case h.stopping:
		no = closeStopping
	case h.crowded(address):
		no = closeTooMany
	}
	if no != 0 {
		h.refused.Add(1)
		return no
	}
	if h.perAddress > 0 {
		h.addresses[address]++
	}
	h.count++
	h.handlers.Add(1)
	return 0
}

// dismiss undoes admit, save for handlers.
func (h *hub) dismiss(address string) {
	h.count--
	if h.perAddress > 0 {
		if h.addresses[address]--; h.addresses[address] == 0 {
			delete(h.addresses, address)
		}
	}
}

// remove must be called once for each added socket, when its goroutines are done.
func (h *hub) remove(s *socket) {
	defer h.handlers.Done()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dismiss(s.address)
	if _, was := h.replaced[s]; was {
		delete(h.replaced, s)
		return
	}
	left := h.buyers[s.token]
	if i := slices.Index(left, s); i >= 0 {
		left = slices.Delete(left, i, i+1)
	}
	if len(left) == 0 {
		delete(h.buyers, s.token)
	} else {
		h.buyers[s.token] = left
	}
}

// deliver pushes a status to the sockets of one buyer. It waits for none of them.
func (h *hub) deliver(token string, status []byte) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	sockets := h.buyers[token]
	if len(sockets) == 0 {
		return
	}
	id, rev, ok := readStatus(status)
	if !ok {
		h.log.Debug("a broadcast status cannot be read", slog.Int("bytes", len(status)))
		return
	}
	f := &orderFrame{id: id, rev: rev}
	if rev == 0 {
		known, _ := h.book.Status(id, sockets[0].email)
		status = withTurn(make([]byte, 0, len(status)+32), status, known.Turn)
	}
	f.text = appendOrderFrame(make([]byte, 0, len(status)+32), status)
	for _, s := range sockets {
		s.push(f)
	}
}

// refresh marks every socket as stale, after broadcasts may have been lost.
func (h *hub) refresh() {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, sockets := range h.buyers {
		for _, s := range sockets {
			s.markStale(true)
		}
	}
}

// stop closes every socket, and returns when all are gone. When ctx ends, it cuts off
// what is left.
func (h *hub) stop(ctx context.Context) error {
	h.mu.Lock()
	h.stopping = true
	for _, sockets := range h.buyers {
		for _, s := range sockets {
			s.leave(closeStopping)
		}
	}
	for w := range h.wheel.all {
		w.leave(closeStopping)
	}
	h.mu.Unlock()
	done := make(chan struct{})
	go func() { // ends with the last socket; stop always waits for it
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
	for s := range h.replaced {
		s.raw.abort()
	}
	for w := range h.wheel.all {
		w.raw.abort()
	}
	h.mu.RUnlock()
	<-done
	return context.Cause(ctx)
}

// run pushes line frames to waiting buyers a few times a second, and looks for lost
// broadcasts, until ctx ends.
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
			sockets = h.collect(sockets[:0], func(*socket) bool { return true })
			for _, s := range sockets {
				s.checkMissed()
			}
		case <-lines.C:
			sockets = h.collect(sockets[:0], func(s *socket) bool { return s.waiting.Load() })
			budget := lineBudget
			for _, s := range sockets {
				if budget -= h.pushLines(s); budget <= 0 {
					break
				}
			}
		}
		clear(sockets)
	}
}

// pushProduct queues the frame on every socket and watcher that wants it, and returns on
// how many. It stops when the frame is stale.
func (h *hub) pushProduct(f *productFrame, stale func() bool) (n int) {
	sockets := h.collect(nil, func(*socket) bool { return true })
	for some := range slices.Chunk(sockets, crowdSize) {
		for _, s := range some {
			if s.showProduct(f) {
				n++
			}
		}
		if stale() {
			return n
		}
	}
	for some := range slices.Chunk(h.watchers(), crowdSize) {
		c := newCrowd()
		for _, w := range some {
			if w.showProduct(f, c) {
				n++
			}
		}
		c.await()
		if stale() {
			return n
		}
	}
	return n
}

// collect appends the sockets that match. They come in map order, which differs each
// time, so that the budget does not always leave out the same sockets.
func (h *hub) collect(list []*socket, match func(*socket) bool) []*socket {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, sockets := range h.buyers {
		for _, s := range sockets {
			if match(s) {
				list = append(list, s)
			}
		}
	}
	return list
}

// pushLines pushes the line frames that have changed since the last ones, and returns
// how many. It skips a socket that has not sent the last ones yet: only the newest
// line frame of a product matters.
func (h *hub) pushLines(s *socket) int {
	waits := h.book.Waits(s.email)
	if len(waits) == 0 || !s.linesSent() {
		return 0
	}
	var text [][]byte
	lines := make([]lineFrame, 0, len(waits))
	for _, w := range waits {
		product, ok := h.book.Product(w.Product)
		if !ok {
			continue
		}
		f := lineFrame{Wait: w, available: product.Available}
		if perOrder, known := h.book.PerOrder(w.Product, h.now()); known {
			f.eta = eta(w.Ahead, perOrder)
		}
		lines = append(lines, f)
		if !slices.Contains(s.lines, f) {
			text = append(text, f.append(nil))
		}
	}
	s.lines = lines
	if len(text) > 0 {
		s.replaceLines(text)
	}
	return len(text)
}
