package web

import (
	"errors"
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
	// A socket whose buyer's side does not take what is written may be maxBehind order
	// frames behind. Any other only waits for its turn on a busy machine: it is not
	// slow, and may be maxBurst behind.
	maxBehind   = 256
	maxBurst    = 16 * maxBehind
	stallTime   = 100 * time.Millisecond // of a write, then it waits for the other side
	maxIncoming = 1 << 10                // bytes of a frame from the buyer; nothing is asked of them
	recent      = 20                     // orders shown on attach, besides the undecided ones
)

// socket is one buyer's open WebSocket. Its handler's goroutine reads, and joins
// the one that writes before it returns, since contrib/websocket gives the Conn
// to somebody else then.
//
//	read  ◄── the buyer's pongs, until the connection ends
//	write ──► hello, what the book knows, then frames as they are delivered
type socket struct {
	hub   *hub
	ws    *websocket.Conn
	raw   *conn
	email sale.Email
	token string

	wake  chan struct{} // there is something to take; holds one
	gone  chan struct{} // closed when reading has ended
	waits atomic.Bool   // an order was shown as pending
	known atomic.Uint32 // the book's Changes when it was looked up last

	// Of the hub's goroutine.
	lines []line // as told last

	// Of the writing goroutine.
	shown shown
	again <-chan time.Time // when to ask the leader, who could not be asked; else nil. It ends with the socket.

	mu       sync.Mutex
	frames   []*frame
	pause    *time.Timer // ends the wait of pending frames for company
	behind   int         // frames taken over and not written yet
	newLines [][]byte
	stale    bool // the book is to be asked
	lost     bool // so is the leader, as the book may have missed something too
	leaving  bool
	cut      bool // it was too far behind
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
		if !s.greetOrigin(c) {
			return errOrigin
		}
		email, err := emailOf(c)
		if err != nil {
			return err
		}
		if !websocket.IsWebSocketUpgrade(c) {
			return errNoUpgrade
		}
		if s.hub.size() >= maxSockets {
			s.hub.refused.Add(1)
			return errManySocket
		}
		c.Locals("email", email)
		return upgrade(c)
	}
}

// serve is a socket's life. When it returns, fasthttp closes the connection.
func (h *hub) serve(ws *websocket.Conn) {
	raw, ok := underlying(ws)
	email, known := ws.Locals("email").(sale.Email)
	if !ok || !known {
		h.log.Error("a socket without a connection of ours or an email")
		return
	}
	raw.upgraded.Store(true)
	s := &socket{hub: h, ws: ws, raw: raw, email: email, token: email.Token(),
		wake: make(chan struct{}, 1), gone: make(chan struct{})}
	if !h.add(s) {
		_ = s.sayBye() // nothing depends on it
		return
	}
	defer h.remove(s)
	var writer sync.WaitGroup
	writer.Go(s.write)
	defer writer.Wait()
	defer close(s.gone)
	s.read()
}

// underlying is the connection below the one that fasthttp lends to a hijacker.
func underlying(ws *websocket.Conn) (*conn, bool) {
	lent, ok := ws.NetConn().(interface{ UnsafeConn() net.Conn })
	if !ok {
		return nil, false
	}
	c, ok := lent.UnsafeConn().(*conn)
	return c, ok
}

// read returns when the connection ends, or a ping was not answered in time.
func (s *socket) read() {
	alive := func() error { return s.ws.SetReadDeadline(time.Now().Add(s.hub.timing.ping + s.hub.timing.pong)) }
	s.ws.SetReadLimit(maxIncoming)
	s.ws.SetPongHandler(func(string) error { return alive() })
	err := alive()
	for err == nil {
		_, _, err = s.ws.NextReader() // it skips what was not read
	}
	if !websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived) {
		s.hub.log.Debug("a socket ended", slog.Any("err", err))
	}
}

// push queues a frame. Order frames are never dropped: a socket that is too far
// behind for one more is closed, and the buyer comes back for the book's view.
func (s *socket) push(f *frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.cut:
	case s.behind < maxBehind, s.behind < maxBurst && !s.raw.stalled():
		s.behind++
		s.frames = append(s.frames, f)
		if f.rev > 0 || s.behind > 1 {
			s.signal()
			break
		}
		// The outcome often follows within milliseconds, and both then cost one
		// write. The buyer was told pending by the 202 already.
		if s.pause == nil {
			s.pause = time.AfterFunc(s.hub.timing.pause, s.signal)
		} else {
			s.pause.Reset(s.hub.timing.pause)
		}
	default:
		s.cut = true
		s.hub.slow.Add(1)
		s.raw.abort()
	}
}

// markStale has the book looked up; with lost, after it has caught up.
func (s *socket) markStale(lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale, s.lost = true, s.lost || lost
	s.signal()
}

// checkMissed has the book looked up if the buyer's orders have changed since it
// was. A broadcast is heard at most once, and the one who broadcasts may lose it
// with his own connection; the book hears of everything, everywhere (P6).
func (s *socket) checkMissed() {
	if s.hub.book.Changes(s.email) != s.known.Load() {
		s.markStale(false)
	}
}

// setLines replaces line frames that were not sent yet.
func (s *socket) setLines(text [][]byte) {
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

// leave has what is queued written, and then goodbye said.
func (s *socket) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
	s.signal()
}

func (s *socket) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
}

// write is the only one that writes messages, until the socket has gone.
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
			err = s.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(flushTime))
		case <-s.wake:
			var leave bool
			if leave, err = s.turn(); leave && err == nil {
				s.bye()
				return
			}
		}
	}
	if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
		s.hub.slow.Add(1)
	}
	s.hub.log.Debug("a socket could not be written to", slog.Any("err", err))
	s.raw.abort() // reading ends, too
}

// greet says hello and tells what the book knows. The socket is registered by
// now, so whatever the book does not know yet will be delivered (P6).
func (s *socket) greet() error {
	hello := append([]byte(`{"type":"hello","email":"`), s.email...)
	hello = append(hello, `","server_time":"`...)
	hello = sale.Instant(s.hub.now()).AppendFormat(hello, time.RFC3339Nano)
	if err := s.batch(func() error { return s.send(append(hello, `"}`...)) }); err != nil {
		return err
	}
	s.known.Store(s.hub.book.Changes(s.email)) // more is new, and no orders of old
	return s.lookUp(true)
}

// lookUp shows what the book knows; with lost, after it has caught up with the
// leader, if that takes only a moment. While it does not, the leader is asked again
// every now and then, as nothing else may ever happen to this socket (P6). The
// pauses differ, so that an outage's end does not find all sockets in one instant.
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
	return s.batch(func() error { return s.catchUp(lost) })
}

// turn writes everything that is queued, in as few writes as it fits, and then
// brings a stale socket up to date: what is at hand does not wait for the leader.
func (s *socket) turn() (leave bool, err error) {
	s.mu.Lock()
	frames, lines, stale, leave := s.frames, s.newLines, s.stale, s.leaving
	lost := stale && s.lost && !leave
	s.frames, s.newLines, s.stale = nil, nil, false
	if lost {
		s.lost = false // unless the leader cannot be asked
	}
	if s.pause != nil {
		s.pause.Stop()
	}
	s.mu.Unlock()
	err = s.batch(func() error {
		for _, f := range frames {
			if err := s.show(f); err != nil {
				return err
			}
		}
		for i := 0; i < len(lines) && s.waits.Load(); i++ { // else they are told already
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

// catchUp shows what the book knows and the buyer was not shown yet: orders that
// were shown as pending, all that are pending if something may have been lost, and
// the newest ones, at least as many as have changed since the last look.
func (s *socket) catchUp(lost bool) error {
	changes := s.hub.book.Changes(s.email)
	newest := max(recent, min(int(changes-s.known.Swap(changes)), maxShownPending))
	for id := range s.shown.pending {
		if status, known := s.hub.book.Status(id, s.email); known && status.Outcome != sale.Pending {
			if err := s.showStatus(&status); err != nil {
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
		if err := s.showStatus(&statuses[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *socket) showStatus(status *sale.Status) error {
	if !s.news(status.ID, status.Rev()) {
		return nil
	}
	return s.send(appendOrderFrame(nil, status.AppendJSON(nil)))
}

func (s *socket) show(f *frame) error {
	if !s.news(f.id, f.rev) {
		return nil
	}
	return s.send(f.text)
}

// news tells whether the buyer is to be shown this, not having seen as much or
// more of that order.
func (s *socket) news(id sale.OrderID, rev int) bool {
	news := s.shown.news(id, rev, s.decided)
	s.waits.Store(len(s.shown.pending) > 0)
	return news
}

func (s *socket) decided(id sale.OrderID) bool {
	status, known := s.hub.book.Status(id, s.email)
	return known && status.Outcome != sale.Pending
}

func (s *socket) send(text []byte) error { return s.ws.WriteMessage(websocket.TextMessage, text) }

// batch runs write and sends its messages together.
func (s *socket) batch(write func() error) error {
	s.raw.hold()
	err := write()
	if e := s.raw.release(); err == nil {
		err = e
	}
	return err
}

// bye closes with 1001 and gives the buyer's side a moment to answer, which ends
// the reading; then it cuts the connection off.
func (s *socket) bye() {
	if s.sayBye() == nil {
		select {
		case <-s.gone:
			return
		case <-time.After(s.hub.timing.close):
		}
	}
	s.raw.abort()
}

func (s *socket) sayBye() error {
	text := websocket.FormatCloseMessage(websocket.CloseGoingAway, "shutting down")
	return s.ws.WriteControl(websocket.CloseMessage, text, time.Now().Add(s.hub.timing.close))
}
