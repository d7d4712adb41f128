package web

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/contrib/websocket"
	"github.com/gofiber/fiber/v2"

	"firstcome/internal/sale"
)

const (
	// A socket with a stalled write may be maxBehind order frames behind. Without one,
	// the buyer's side is not slow, the machine is busy: it may be maxBurst behind.
	maxBehind   = 256
	maxBurst    = 16 * maxBehind
	stallTime   = 100 * time.Millisecond // a longer write is stalled
	maxIncoming = 1 << 10                // bytes of a frame from the buyer, which is ignored
	recent      = 20                     // orders sent at first, besides the undecided ones
)

// socket is one buyer's open WebSocket. Its handler's goroutine reads, and waits for
// the goroutine that writes before it returns: contrib/websocket then reuses the Conn.
//
//	read  ◄── pongs, until the connection ends
//	write ──► hello, the orders in the book, then frames as they are pushed
type socket struct {
	hub   *hub
	ws    *websocket.Conn
	raw   *conn
	email sale.Email
	token string

	address string // it counts for

	wake    chan struct{} // there is something to write; holds one
	gone    chan struct{} // closed when reading has ended
	waiting atomic.Bool   // an order was sent as pending, and its outcome was not sent
	known   atomic.Uint32 // the book's Changes when it was last looked up

	// Of the hub's goroutine.
	lines []lineFrame // pushed last

	// Of the writing goroutine.
	seen  seen
	again <-chan time.Time // when to ask the leader again; nil: it has answered

	mu       sync.Mutex
	products productQueue
	frames   []*orderFrame
	behind   int      // frames pushed and not written yet
	newLines [][]byte // line frames pushed and not written yet
	stale    bool     // the book must be looked up
	lost     bool     // after it has caught up with the leader
	leaving  closing  // close after what is queued; zero: stay
	cut      bool     // cut off, too far behind
}

// attach makes the handler of GET /ws.
func (s *Server) attach() fiber.Handler {
	upgrade := websocket.New(s.hub.serve, websocket.Config{
		ReadBufferSize:  256,
		WriteBufferSize: 512,
		WriteBufferPool: &sync.Pool{}, // 10,000 idle sockets need no 10,000 buffers
		RecoverHandler: func(*websocket.Conn) {
			if p := recover(); p != nil {
				s.log.Error("a socket panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			}
		},
	})
	return func(c *fiber.Ctx) error {
		if !s.admitOrigin(c) {
			return s.foreign(c)
		}
		buyer := c.Context().QueryArgs().Has("email")
		var email sale.Email
		if buyer {
			var err error
			if email, err = emailOf(c); err != nil {
				return err
			}
		}
		only, err := s.productsOf(c)
		if err != nil {
			return err
		}
		if !websocket.IsWebSocketUpgrade(c) {
			return errNoUpgrade
		}
		address := s.address(c)
		if err := s.hub.refuse(address); err != nil {
			c.Context().SetConnectionClose() // it would take the place of another one
			return err
		}
		if buyer {
			c.Locals("email", email)
		}
		c.Locals("address", address)
		c.Locals("only", only)
		return upgrade(c)
	}
}

const maxNarrowed = 20 // products that a socket may ask for by name

// productsOf reads the products that the query narrows a socket to, nil if it does not.
func (s *Server) productsOf(c *fiber.Ctx) ([]sale.ProductID, error) {
	values := c.Context().QueryArgs().PeekMulti("product")
	if len(values) > maxNarrowed {
		return nil, errField.because(fmt.Sprintf("The query parameter product is given more than %d times.", maxNarrowed))
	}
	var only []sale.ProductID
	for _, value := range values {
		id, err := sale.ParseProductID(string(value))
		if err != nil {
			return nil, errField.because("The query parameter product is " + err.Error() + ".")
		}
		if _, sold := s.book.Product(id); !sold {
			return nil, errNoProduct
		}
		if !slices.Contains(only, id) {
			only = append(only, id)
		}
	}
	return only, nil
}

// serve is a socket's life. When it returns, fasthttp closes the connection.
func (h *hub) serve(ws *websocket.Conn) {
	raw, ok := underlying(ws)
	email, buyer := ws.Locals("email").(sale.Email)
	address, placed := ws.Locals("address").(string)
	only, narrowed := ws.Locals("only").([]sale.ProductID)
	if !ok || !placed || !narrowed {
		h.log.Error("a socket has no connection of the listener, no address or no products")
		return
	}
	raw.upgraded.Store(true)
	if !buyer {
		h.serveWatcher(&watcher{hub: h, ws: ws, raw: raw, address: address, products: productQueue{only: only}})
		return
	}
	s := &socket{hub: h, ws: ws, raw: raw, email: email, token: email.Token(), address: address, products: productQueue{only: only},
		wake: make(chan struct{}, 1), gone: make(chan struct{})}
	if no := h.add(s); no != 0 {
		_ = s.sendClose(no) // the connection is closed either way
		return
	}
	defer h.remove(s)
	var writer sync.WaitGroup
	writer.Go(s.write)
	defer writer.Wait()
	defer close(s.gone)
	s.read()
}

// underlying is the connection below the one that fasthttp gives to a hijacker.
func underlying(ws *websocket.Conn) (*conn, bool) {
	lent, ok := ws.NetConn().(interface{ UnsafeConn() net.Conn })
	if !ok {
		return nil, false
	}
	c, ok := lent.UnsafeConn().(*conn)
	return c, ok
}

// read returns when the connection ends, or a ping is not answered in time.
func (s *socket) read() {
	alive := func() error { return s.ws.SetReadDeadline(time.Now().Add(s.hub.timing.ping + s.hub.timing.pong)) }
	s.ws.SetReadLimit(maxIncoming)
	s.ws.SetPongHandler(func(string) error { return alive() })
	err := alive()
	for err == nil {
		_, _, err = s.ws.NextReader() // it discards the frame before
	}
	s.hub.ended(err)
}

// ended logs why a socket ended, unless its client closed it.
func (h *hub) ended(err error) {
	if !websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived) {
		h.log.Debug("a socket ended", slog.Any("err", err))
	}
}

// push queues an order frame. No order frame is dropped: a socket that is too far
// behind is cut off, and the buyer's next socket starts from the book (P6).
func (s *socket) push(f *orderFrame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.cut:
	case s.behind < maxBehind, s.behind < maxBurst && !s.raw.stalled():
		s.behind++
		s.frames = append(s.frames, f)
		s.signal()
	default:
		s.cut = true
		s.hub.slow.Add(1)
		s.raw.abort()
	}
}

// showProduct queues a product frame, and reports whether the socket wants it.
func (s *socket) showProduct(f *productFrame) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.products.put(f) {
		return false
	}
	s.signal()
	return true
}

// markStale has the book looked up; if lost, after it has caught up with the leader.
func (s *socket) markStale(lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale, s.lost = true, s.lost || lost
	s.signal()
}

// checkMissed has the book looked up if the buyer's orders have changed since the last
// lookup. A broadcast comes at most once, and is lost with the sender's connection; the
// book misses nothing, on any instance (P6).
func (s *socket) checkMissed() {
	if s.hub.book.Changes(s.email) != s.known.Load() {
		s.markStale(false)
	}
}

// replaceLines queues line frames, in place of the ones not written yet.
func (s *socket) replaceLines(text [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newLines = text
	s.signal()
}

func (s *socket) linesSent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newLines == nil
}

// closing is the code of a close frame that this side sends first.
type closing int

const (
	closeStopping closing = websocket.CloseGoingAway
	closeTooMany  closing = 4429
)

func (c closing) reason() string {
	if c == closeTooMany {
		return "too many sockets"
	}
	return "shutting down"
}

// leave has the socket closed after what is queued is written. The first reason stands.
func (s *socket) leave(why closing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.leaving == 0 {
		s.leaving = why
	}
	s.signal()
}

func (s *socket) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
}

// write writes all messages of the socket, until it is gone.
func (s *socket) write() {
	ping := time.NewTicker(s.hub.timing.ping)
	defer ping.Stop()
	err := s.greet()
	for err == nil {
		select {
		case <-s.gone:
			return
		case <-s.again:
			s.again = nil
			s.markStale(true)
		case <-ping.C:
			err = s.batch(func() error {
				if err := s.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(flushTime)); err != nil {
					return err
				}
				return s.send(appendBeat(nil, s.hub.now()))
			})
		case <-s.wake:
			var leave closing
			if leave, err = s.turn(); leave != 0 && err == nil {
				s.bye(leave)
				return
			}
		}
	}
	s.hub.unwritten(err)
	s.raw.abort() // reading ends, too
}

// unwritten tells of a write that failed.
func (h *hub) unwritten(err error) {
	if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
		h.slow.Add(1)
	}
	h.log.Debug("a socket could not be written to", slog.Any("err", err))
}

// greet sends hello, the products and the orders in the book. The socket is registered by now, so
// what the book does not hold yet will be delivered (P6).
func (s *socket) greet() error {
	first := s.hub.greeting(s.email, &s.mu, &s.products)
	if err := s.batch(func() error { return sendAll(s.ws, first) }); err != nil {
		return err
	}
	s.known.Store(s.hub.book.Changes(s.email)) // else sendNews would take all of the orders for new
	return s.lookUp(true)
}

// lookUp sends what is new in the book. If lost, the book gets mayTime to catch up with
// the leader first. If it fails, the socket tries again and again, since nothing else
// may ever happen to it (P6). The pauses differ, so that after an outage not all
// sockets ask at once.
func (s *socket) lookUp(lost bool) error {
	if lost {
		s.again = nil
		if err := s.hub.catchUp(mayTime); err != nil {
			s.hub.log.Debug("the book may be behind", slog.Any("err", err))
			pause := s.hub.timing.retry
			s.again = time.After(pause + rand.N(pause/2))
			s.mu.Lock()
			s.lost = true
			s.mu.Unlock()
		}
	}
	return s.batch(func() error { return s.sendNews(lost) })
}

// turn writes all that is queued, in as few writes as possible, and then looks up the
// book if the socket is stale: what is queued does not wait for the leader.
func (s *socket) turn() (leave closing, err error) {
	s.mu.Lock()
	products, frames, lines, stale, leave := s.products.take(), s.frames, s.newLines, s.stale, s.leaving
	lost := stale && s.lost && leave == 0
	s.frames, s.newLines, s.stale = nil, nil, false
	if lost {
		s.lost = false // lookUp sets it again if the leader does not answer
	}
	s.mu.Unlock()
	err = s.batch(func() error {
		for _, f := range products {
			if err := s.ws.WritePreparedMessage(f.message); err != nil {
				return err
			}
		}
		for _, f := range frames {
			if err := s.sendOrder(f); err != nil {
				return err
			}
		}
		for i := 0; i < len(lines) && s.waiting.Load(); i++ { // an outcome makes them obsolete
			if err := s.send(lines[i]); err != nil {
				return err
			}
		}
		return nil
	})
	s.mu.Lock()
	s.behind -= len(frames)
	s.mu.Unlock()
	if stale && err == nil {
		err = s.lookUp(lost)
	}
	return leave, err
}

// sendNews sends what the book knows and the buyer has not seen: outcomes of orders that
// were sent as pending, and the newest orders, at least as many as have changed since
// the last lookup. If lost, it sends all undecided orders, too.
func (s *socket) sendNews(lost bool) error {
	changes := s.hub.book.Changes(s.email)
	newest := max(recent, min(int(changes-s.known.Swap(changes)), maxSeenPending))
	for id := range s.seen.pending {
		if status, known := s.hub.book.Status(id, s.email); known && status.Outcome != sale.Pending {
			if err := s.sendStatus(&status); err != nil {
				return err
			}
		}
	}
	var statuses []sale.Status // oldest first
	if lost {
		statuses = s.hub.book.Recent(s.email, newest)
	} else {
		statuses = s.hub.book.Newest(s.email, newest)
		slices.Reverse(statuses)
	}
	for i := range statuses {
		if err := s.sendStatus(&statuses[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *socket) sendStatus(status *sale.Status) error {
	if !s.news(status.ID, status.Rev()) {
		return nil
	}
	return s.send(appendOrderFrame(nil, status.AppendJSON(nil)))
}

func (s *socket) sendOrder(f *orderFrame) error {
	if !s.news(f.id, f.rev) {
		return nil
	}
	return s.send(f.text)
}

// news reports whether to send the order at rev: the buyer has not seen it, or a later
// rev of it, on this socket.
func (s *socket) news(id sale.OrderID, rev int) bool {
	news := s.seen.news(id, rev, s.decided)
	s.waiting.Store(len(s.seen.pending) > 0)
	return news
}

func (s *socket) decided(id sale.OrderID) bool {
	status, known := s.hub.book.Status(id, s.email)
	return known && status.Outcome != sale.Pending
}

func (s *socket) send(text []byte) error { return s.ws.WriteMessage(websocket.TextMessage, text) }

// batch runs write, and sends its messages together.
func (s *socket) batch(write func() error) error {
	s.raw.hold()
	err := write()
	if e := s.raw.release(); err == nil {
		err = e
	}
	return err
}

// bye sends the close frame and gives the buyer's side a moment to answer, which ends
// read; then it cuts the connection off.
func (s *socket) bye(why closing) {
	if s.sendClose(why) == nil {
		select {
		case <-s.gone:
			return
		case <-time.After(s.hub.timing.close):
		}
	}
	s.raw.abort()
}

func (s *socket) sendClose(why closing) error {
	text := websocket.FormatCloseMessage(int(why), why.reason())
	return s.ws.WriteControl(websocket.CloseMessage, text, time.Now().Add(s.hub.timing.close))
}
