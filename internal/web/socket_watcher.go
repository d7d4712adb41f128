package web

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	prepared "github.com/fasthttp/websocket"
	"github.com/gofiber/contrib/websocket"
)

// watcher is an open WebSocket without a buyer: it is shown the products, and nothing
// else. Its handler's goroutine reads; another one exists only while it is written to.
type watcher struct {
	hub     *hub
	ws      *websocket.Conn
	raw     *conn
	address string // it counts for

	slot, at int // its place in the wheel

	pingedAt atomic.Int64 // of the first ping without an answer, ns after raw.since; 0: none

	mu       sync.Mutex
	products productQueue
	beat     *prepared.PreparedMessage // to be written with a ping
	leaving  closing                   // close after what is queued; zero: stay
	writing  bool                      // a goroutine writes
	over     bool                      // nothing is written any more
	writes   sync.WaitGroup            // that goroutine; added to under mu
	cutOff   *time.Timer               // after the close frame
}

// serveWatcher is a watcher's life.
func (h *hub) serveWatcher(w *watcher) {
	if no := h.addWatcher(w); no != 0 {
		_ = w.sendClose(no) // the connection is closed either way
		return
	}
	defer h.removeWatcher(w)
	w.greet()
	w.read()
	w.end()
}

// greet sends hello and the products, and what was queued meanwhile.
func (w *watcher) greet() {
	w.mu.Lock()
	w.writing = true
	w.writes.Add(1)
	w.mu.Unlock()
	first := w.hub.greeting("", &w.mu, &w.products)
	if err := w.batch(func() error { return sendAll(w.ws, first) }); err != nil {
		w.giveUp(err)
		w.writes.Done()
		return
	}
	w.write(nil)
}

// read returns when the connection ends. What the client says is ignored. The wheel ends a
// connection that does not answer its pings: a deadline would be a timer a watcher.
func (w *watcher) read() {
	w.ws.SetReadLimit(maxIncoming)
	w.ws.SetPongHandler(func(string) error { w.pingedAt.Store(0); return nil })
	err := w.ws.SetReadDeadline(time.Time{})
	for err == nil {
		_, _, err = w.ws.NextReader() // it discards the frame before
	}
	w.hub.ended(err)
}

// end waits until nothing is written any more: contrib/websocket then reuses the Conn.
func (w *watcher) end() {
	w.mu.Lock()
	w.over = true
	if w.cutOff != nil {
		w.cutOff.Stop()
	}
	w.mu.Unlock()
	w.raw.abort() // a write may wait for the other side
	w.writes.Wait()
}

// showProduct queues a product frame, and reports whether the watcher wants it.
func (w *watcher) showProduct(f *productFrame, c *crowd) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over || !w.products.put(f) {
		return false
	}
	w.start(c)
	return true
}

// ping has the watcher answer, and sends the beat along.
func (w *watcher) ping(beat *prepared.PreparedMessage, c *crowd) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pingedAt.CompareAndSwap(0, max(1, int64(time.Since(w.raw.since))))
	w.beat = beat
	w.start(c)
}

// overdue reports whether a ping has had no answer for that long.
func (w *watcher) overdue(pong time.Duration) bool {
	pinged := time.Duration(w.pingedAt.Load())
	return pinged > 0 && time.Since(w.raw.since)-pinged >= pong
}

// leave has the watcher closed after what is queued is written.
func (w *watcher) leave(why closing) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.leaving == 0 {
		w.leaving = why
	}
	w.start(nil)
}

// start has a goroutine write what is queued. The caller holds mu.
func (w *watcher) start(c *crowd) {
	if w.writing || w.over {
		return
	}
	w.writing = true
	w.writes.Add(1)
	c.join()
	go w.write(c)
}

// write writes what is queued, until there is nothing more.
func (w *watcher) write(c *crowd) {
	defer w.writes.Done()
	defer c.leave()
	for {
		w.mu.Lock()
		frames, beat, leave := w.products.take(), w.beat, w.leaving
		w.beat, w.leaving = nil, 0
		if w.over || len(frames) == 0 && beat == nil && leave == 0 {
			w.writing = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		err := w.batch(func() error { return w.send(frames, beat) })
		if err == nil && leave != 0 {
			err = w.bye(leave)
		}
		if err != nil {
			w.giveUp(err)
			return
		}
	}
}

func (w *watcher) send(frames []*productFrame, beat *prepared.PreparedMessage) error {
	for _, f := range frames {
		if err := w.ws.WritePreparedMessage(f.message); err != nil {
			return err
		}
	}
	if beat == nil {
		return nil
	}
	if err := w.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(flushTime)); err != nil {
		return err
	}
	return w.ws.WritePreparedMessage(beat)
}

// giveUp ends the watcher after a write that failed.
func (w *watcher) giveUp(err error) {
	w.mu.Lock()
	ending := w.over
	w.over, w.writing = true, false
	w.mu.Unlock()
	if !ending {
		w.hub.unwritten(err)
	}
	w.raw.abort() // reading ends, too
}

// bye sends the close frame, and gives the other side a moment to answer.
func (w *watcher) bye(why closing) error {
	if err := w.sendClose(why); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.over = true // nothing follows a close frame
		w.cutOff = time.AfterFunc(w.hub.timing.close, w.raw.abort)
	}
	return nil
}

func (w *watcher) sendClose(why closing) error {
	text := websocket.FormatCloseMessage(int(why), why.reason())
	return w.ws.WriteControl(websocket.CloseMessage, text, time.Now().Add(w.hub.timing.close))
}

// batch runs write, and sends its messages together.
func (w *watcher) batch(write func() error) error {
	w.raw.hold()
	err := write()
	if e := w.raw.release(); err == nil {
		err = e
	}
	return err
}

// wheel holds all watchers. It turns once in the time between two pings, so that one
// ticker pings all of them, some at a time.
type wheel struct {
	slots [wheelSlots][]*watcher
	next  int // slot for the next watcher
	count int
}

const wheelSlots = 25

func (w *wheel) all(yield func(*watcher) bool) {
	for _, slot := range w.slots {
		for _, one := range slot {
			if !yield(one) {
				return
			}
		}
	}
}

func (w *wheel) add(one *watcher) {
	one.slot, one.at = w.next, len(w.slots[w.next])
	w.slots[w.next] = append(w.slots[w.next], one)
	w.next = (w.next + 1) % wheelSlots
	w.count++
}

func (w *wheel) remove(one *watcher) {
	slot := w.slots[one.slot]
	last := len(slot) - 1
	slot[one.at] = slot[last]
	slot[one.at].at = one.at
	slot[last] = nil
	w.slots[one.slot] = slot[:last]
	w.count--
}

func (h *hub) addWatcher(w *watcher) closing {
	h.mu.Lock()
	defer h.mu.Unlock()
	if no := h.admit(w.address); no != 0 {
		return no
	}
	h.wheel.add(w)
	return 0
}

// removeWatcher must be called once for each added watcher, when its goroutines are done.
func (h *hub) removeWatcher(w *watcher) {
	defer h.handlers.Done()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dismiss(w.address)
	h.wheel.remove(w)
}

func (h *hub) watchers() []*watcher {
	h.mu.RLock()
	defer h.mu.RUnlock()
	list := make([]*watcher, 0, h.wheel.count)
	for w := range h.wheel.all {
		list = append(list, w)
	}
	return list
}

func (h *hub) watchersAt(slot int) []*watcher {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return append([]*watcher(nil), h.wheel.slots[slot]...)
}

// turnWheel pings one slot of watchers after the other, until ctx ends, and cuts off those
// that have not answered.
func (h *hub) turnWheel(ctx context.Context) {
	step := max(h.timing.ping/wheelSlots, time.Millisecond)
	tick := time.NewTicker(step)
	defer tick.Stop()
	answer := min(int(h.timing.pong/step)+1, wheelSlots-1) // slots
	for slot := 0; ; slot = (slot + 1) % wheelSlots {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, w := range h.watchersAt((slot + wheelSlots - answer) % wheelSlots) {
			if w.overdue(h.timing.pong) {
				w.raw.abort()
			}
		}
		h.ping(h.watchersAt(slot))
	}
}

func (h *hub) ping(watchers []*watcher) {
	if len(watchers) == 0 {
		return
	}
	beat, err := prepared.NewPreparedMessage(websocket.TextMessage, appendBeat(nil, h.now()))
	if err != nil { // it is not written to any network
		h.log.Error("a beat cannot be prepared", "err", err)
		return
	}
	for len(watchers) > 0 {
		some := watchers[:min(crowdSize, len(watchers))]
		watchers = watchers[len(some):]
		c := newCrowd()
		for _, w := range some {
			if w.overdue(h.timing.pong) {
				w.raw.abort()
				continue
			}
			w.ping(beat, c)
		}
		c.await()
	}
}

// crowd is a number of watchers that are written to at the same time. Ten thousand
// goroutines that become ready at once would hold up every request; after each crowd the
// others have their turn. A crowd is waited for only crowdTime, so that a slow watcher
// holds up nobody for longer.
type crowd struct {
	left atomic.Int32
	done chan struct{}
}

const (
	crowdSize = 128
	crowdTime = 5 * time.Millisecond
)

func newCrowd() *crowd {
	c := &crowd{done: make(chan struct{})}
	c.left.Store(1) // await's own
	return c
}

func (c *crowd) join() {
	if c != nil {
		c.left.Add(1)
	}
}

func (c *crowd) leave() {
	if c != nil && c.left.Add(-1) == 0 {
		close(c.done)
	}
}

func (c *crowd) await() {
	c.leave()
	t := time.NewTimer(crowdTime)
	defer t.Stop()
	select {
	case <-c.done:
	case <-t.C:
	}
}
