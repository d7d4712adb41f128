package web

import (
	"context"
	"slices"
	"time"

	"github.com/fasthttp/websocket"

	"firstcome/internal/sale"
)

// frameBudget is how many product frames a second are sent for figures alone, all
// sockets together. Changes of state, hours or limit are always sent.
const frameBudget = 10_000

// productFrame is a product as it was at an instant, encoded once for all sockets.
type productFrame struct {
	product sale.ProductID
	face    face
	urgent  bool      // of a change of state, hours or limit
	madeAt  time.Time // not before the product was read
	message *websocket.PreparedMessage
}

// productQueue holds the product frames that one socket has not written yet: at most one
// a product, the urgent ones first. Its owner locks it.
type productQueue struct {
	only    []sale.ProductID // which the client asked for; nil: all
	greeted time.Time        // when the products of the first frames were read; zero: not yet
	frames  []*productFrame
}

func (q *productQueue) wants(id sale.ProductID) bool {
	return q.only == nil || slices.Contains(q.only, id)
}

// put queues the frame, in place of an older one of the product. It reports whether the
// frame is for this socket.
func (q *productQueue) put(f *productFrame) bool {
	if !q.wants(f.product) || f.madeAt.Before(q.greeted) {
		return false
	}
	urgent := f.urgent
	q.frames = slices.DeleteFunc(q.frames, func(old *productFrame) bool {
		if old.product != f.product {
			return false
		}
		urgent = urgent || old.urgent
		return true
	})
	at := len(q.frames)
	if first := slices.IndexFunc(q.frames, func(old *productFrame) bool { return !old.urgent }); urgent && first >= 0 {
		at = first
	}
	q.frames = slices.Insert(q.frames, at, f)
	return true
}

func (q *productQueue) take() []*productFrame {
	frames := q.frames
	q.frames = nil
	return frames
}

// board shows every product to all sockets, and again whenever it changes (P9).
//
//	book, clock ──► run ──► changes of state, hours, limit: at once
//	                    └─► figures: after a while, the newest ones
type board struct {
	server *Server
	hub    *hub
	every  time.Duration // between the figures of a product

	// Of begin and run.
	changed chan struct{} // by the book
	unwatch func()
	latest  map[sale.ProductID]*productFrame
	figures time.Time // not before then, see frameBudget
}

// face is what a product frame says.
type face struct {
	terms
	figures
}

type terms struct {
	state         sale.State
	opens, closes time.Time // zero: none
	limit         int64
}

type figures struct {
	available, sold, supplied int64
	waiting                   uint64
}

func faceOf(p *sale.Product, state sale.State) face {
	f := face{terms{state: state, limit: p.LimitPerBuyer}, figures{p.Available, p.Sold, p.Supplied, p.Waiting}}
	if p.OpensAt != nil {
		f.opens = p.OpensAt.UTC()
	}
	if p.ClosesAt != nil {
		f.closes = p.ClosesAt.UTC()
	}
	return f
}

func newBoard(s *Server) *board {
	return &board{server: s, hub: s.hub, every: time.Second, changed: make(chan struct{}, 1), latest: map[sale.ProductID]*productFrame{}}
}

// recheck is how often a product is looked at without a change in the book: the clock
// may be set.
const recheck = time.Second

// begin has the board know all products. Before it there must be no sockets: their first
// frames would be followed by the same ones.
func (b *board) begin() {
	b.unwatch = b.server.book.Watch(b.changed)
	b.turn()
}

// run shows what changes until ctx ends, after begin.
func (b *board) run(ctx context.Context) {
	defer b.unwatch()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.changed:
		case <-timer.C:
		}
		timer.Reset(max(b.turn(), time.Millisecond))
	}
}

// turn shows what is due, and returns in how long to look again.
func (b *board) turn() time.Duration {
	next := b.showTerms()
	for _, id := range b.lagging() {
		wait := max(time.Until(b.latest[id].madeAt.Add(b.every)), time.Until(b.figures))
		if wait > 0 {
			next = min(next, wait)
			continue
		}
		b.showFigures(id)
		next = min(next, b.every)
	}
	return next
}

// showTerms shows every product that is new, or whose state, hours or limit have
// changed. It returns in how long the clock may change a state.
func (b *board) showTerms() time.Duration {
	next := recheck
	for _, p := range b.server.book.Products() {
		now := b.server.now()
		f := faceOf(&p, p.State(now))
		for _, hour := range []time.Time{f.opens, f.closes} {
			if wait := hour.Sub(now); wait > 0 {
				next = min(next, wait)
			}
		}
		if old := b.latest[p.Product]; old == nil || old.face.terms != f.terms {
			b.show(&p, f, now, true)
		}
	}
	return next
}

// lagging are the products whose figures have changed, those first with the oldest
// frames.
func (b *board) lagging() []sale.ProductID {
	var ids []sale.ProductID
	for _, p := range b.server.book.Products() {
		old := b.latest[p.Product]
		if old != nil && old.face.figures != faceOf(&p, "").figures {
			ids = append(ids, p.Product)
		}
	}
	slices.SortStableFunc(ids, func(x, y sale.ProductID) int { return b.latest[x].madeAt.Compare(b.latest[y].madeAt) })
	return ids
}

func (b *board) showFigures(id sale.ProductID) {
	p, ok := b.server.book.Product(id)
	if !ok {
		return
	}
	now := b.server.now()
	f := faceOf(&p, p.State(now))
	began := time.Now()
	n := b.show(&p, f, now, f.terms != b.latest[id].face.terms)
	b.figures = began.Add(time.Duration(n) * time.Second / frameBudget)
}

// show sends the product to all sockets that want it, and returns to how many. A change
// of terms does not wait for the figures of another product.
func (b *board) show(p *sale.Product, f face, now time.Time, urgent bool) int {
	old := b.latest[p.Product]
	text := b.server.appendProductFrame(nil, p, f.state, now, old == nil)
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, text)
	if err != nil { // it is not written to any network
		b.hub.log.Error("a product frame cannot be prepared", "product", p.Product, "err", err)
		return 0
	}
	frame := &productFrame{product: p.Product, face: f, urgent: urgent, madeAt: time.Now(), message: message}
	b.latest[p.Product] = frame
	return b.hub.pushProduct(frame, func() (stale bool) {
		if urgent {
			return false
		}
		select {
		case <-b.changed:
			b.showTerms()
			select {
			case b.changed <- struct{}{}: // its figures are still to be looked at
			default:
			}
		default:
		}
		return b.latest[p.Product] != frame
	})
}

func (s *Server) appendProductFrame(b []byte, p *sale.Product, state sale.State, now time.Time, texts bool) []byte {
	b = append(b, `{"type":"product","product":`...)
	b = s.appendProduct(b, p, state, texts)
	b = append(b, `,"server_time":`...)
	return append(appendTime(b, now), '}')
}
