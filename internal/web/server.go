// Package web is the buyers' side of the sale: it takes orders over HTTP, answers what
// became of them, and sends each change to the buyer's sockets as soon as it is known.
// It can put orders into the queue and read the book; it cannot touch the stock.
//
//	POST /buy ──► guard ──► readFields ──► replay? ──► limits ──► door ──► Queue
//	GET  /orders, /products  ◄── the book
//	GET  /ws  ◄── hub ◄── Deliver (every broadcast status), Refresh (after an outage)
//	               └───── board (every change of a product)
//
// Answers come from the book, in memory. Only for an order that the book does not hold
// does the Feed ask the leader before the answer is "no" (P6).
package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"
	"github.com/valyala/fasthttp"

	"firstcome/internal/sale"
)

// Queue takes orders.
type Queue interface {
	// Place returns nil once the order is stored durably (P3). Its error wraps
	// sale.ErrQueueFull or sale.ErrUnavailable; after the latter the order may have
	// been stored all the same. The queue broadcasts the pending status itself. Place
	// returns within a few seconds even if ctx has no end: a deadline would cost each
	// order a timer.
	Place(ctx context.Context, product sale.ProductID, order sale.Order) error
}

// Feed keeps the book up with the leader.
type Feed interface {
	// CatchUp returns nil once the book has reached what the leader had at the time of
	// the call: an order that the book does not hold then did not exist. Concurrent
	// calls share one request. It fails if that takes longer than ctx.
	CatchUp(ctx context.Context) error
}

// Config is what a Server needs. Queue, Feed and Book are required.
type Config struct {
	Queue Queue
	Feed  Feed
	Book  *sale.Book

	Listings             []Listing     // in the order in which products are shown
	AllowedOrigins       []string      // exact, as CheckOrigin wants them
	AllowLoopbackOrigins bool          // any port and scheme of this machine, for demos
	TrustedProxies       []string      // as CheckProxy wants them
	Hosts                []string      // as CheckHost wants them
	PerAddress           float64       // orders a second from one address, 0: no limit
	PerBuyer             float64       // orders a second of one buyer, 0: no limit
	SocketsPerAddress    int           // 0: no limit
	SocketsPerBuyer      int           // 0: no limit
	MaxMessages          int64         // the queue's bound, see orderRoom; 0: unknown
	MaxConnections       int           // open at once, see ConnectionRoom; 0: no bound
	MaxHeaderBytes       int           // of request line and headers, then 431; 0: 8192
	IdleTimeout          time.Duration // between requests of a connection; 0: 130 s

	Log *slog.Logger     // nil: slog.Default
	Now func() time.Time // nil: time.Now
}

// Stats are figures for the operator.
type Stats struct {
	Sockets        int    // open now
	Watchers       int    // of these, those of no buyer
	SlowSockets    uint64 // closed since the start because they fell behind
	RefusedSockets uint64 // not opened since the start: too many, or shutting down

	RefusedConnections uint64 // closed at once since the start: as many as fit were open
}

const maxBody = 4 << 10 // bytes, then 413 (RFC 9110)

// What Config has as zero.
const (
	usualHead = 8 << 10
	// usualIdle is longer than the pools of common proxies keep connections (nginx 60 s,
	// Traefik 90 s, Caddy 120 s): a request that meets the server's close fails.
	usualIdle = 130 * time.Second
)

const (
	readTime  = 10 * time.Second // for a whole request
	writeTime = 10 * time.Second // for a whole answer
	placeTime = 5 * time.Second  // for the queue's acknowledgement

	reachTime = 1500 * time.Millisecond // for the book to catch up, if the answer depends on it
	mayTime   = 500 * time.Millisecond  // if a slightly older answer is good enough

	// drainTime is how long a stopping server goes on answering, and closes each
	// connection after its answer. Closing an idle connection at once could lose a
	// request that is on its way.
	drainTime = time.Second
	// firstByteTime is how long after that a new connection may take to its first byte.
	firstByteTime = 300 * time.Millisecond
)

func init() {
	// One read of the system's randomness then serves 16 order ids. It must be called
	// before the first id is made.
	uuid.EnableRandPool()
}

// Server is the HTTP side of one instance.
type Server struct {
	queue Queue
	feed  Feed
	book  *sale.Book
	log   *slog.Logger
	now   func() time.Time

	app           *fiber.App
	hub           *hub
	board         *board
	listings      listings
	pages         pages
	origins       origins
	strangers     seldom // refused origins that are logged
	proxies       proxies
	unreadHop     sync.Once // logged
	hosts         Hosts
	misnamed      seldom   // refused hosts that are logged
	loopbackPort  string   // see misdirected; set before the first request
	tooLong       *problem // errHeaders with the bound
	perAddress    *limiter // nil: off
	perBuyer      *limiter // nil: off
	maxQueued     int64    // messages, see orderRoom
	maxConns      int
	flights       flights
	refusing      atomic.Bool
	drainTime     time.Duration
	firstByteTime time.Duration

	mu       sync.Mutex
	listener *listener     // nil before Serve
	served   chan struct{} // closed when Serve is done
	stopped  bool
	stopping sync.Once
	stopErr  error
}

// New makes a server. It fails if something needed is missing, or an origin or a
// proxy cannot be read.
func New(cfg Config) (*Server, error) {
	if cfg.Queue == nil || cfg.Feed == nil || cfg.Book == nil {
		return nil, errors.New("web: Queue, Feed and Book are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.MaxHeaderBytes == 0 {
		cfg.MaxHeaderBytes = usualHead
	}
	if cfg.IdleTimeout == 0 {
		cfg.IdleTimeout = usualIdle
	}
	s := &Server{
		queue: cfg.Queue, feed: cfg.Feed, book: cfg.Book, log: cfg.Log, now: cfg.Now,
		perAddress: newLimiter(cfg.PerAddress), perBuyer: newLimiter(cfg.PerBuyer), maxQueued: orderRoom(cfg.MaxMessages),
		maxConns: cfg.MaxConnections, hosts: NewHosts("http.hosts", cfg.Hosts...),
		tooLong: errHeaders.because(fmt.Sprintf("The request line and headers are larger than %d bytes.", cfg.MaxHeaderBytes)),
		served:  make(chan struct{}), drainTime: drainTime, firstByteTime: firstByteTime,
	}
	var err error
	if s.origins, err = newOrigins(cfg.AllowedOrigins, cfg.AllowLoopbackOrigins); err != nil {
		return nil, fmt.Errorf("web: allowed origins: %w", err)
	}
	if s.proxies, err = newProxies(cfg.TrustedProxies); err != nil {
		return nil, fmt.Errorf("web: trusted proxies: %w", err)
	}
	if s.listings, err = newListings(cfg.Listings); err != nil {
		return nil, fmt.Errorf("web: %w", err)
	}
	if s.pages, err = newPages(loadPage()); err != nil {
		return nil, fmt.Errorf("web: the page: %w", err)
	}
	s.hub = newHub(s)
	s.hub.most, s.hub.perBuyer, s.hub.perAddress = socketRoom(cfg.MaxConnections), cfg.SocketsPerBuyer, cfg.SocketsPerAddress
	s.board = newBoard(s)
	s.app = s.routes(cfg.MaxHeaderBytes, cfg.IdleTimeout)
	return s, nil
}

func (s *Server) routes(maxHead int, idleTime time.Duration) *fiber.App {
	app := fiber.New(fiber.Config{
		DisableStartupMessage:        true,
		CaseSensitive:                true,
		StrictRouting:                true,
		BodyLimit:                    maxBody,
		ReadBufferSize:               maxHead,
		ReadTimeout:                  readTime,
		WriteTimeout:                 writeTime,
		IdleTimeout:                  idleTime,
		DisablePreParseMultipartForm: true,
		DisableDefaultContentType:    true,
		ErrorHandler:                 s.unreadable,
		// Immutable is off for speed: readFields and emailOf copy what outlives a
		// handler.
	})
	server := app.Server()
	server.CloseOnShutdown = true
	handle := server.Handler
	server.Handler = func(ctx *fasthttp.RequestCtx) {
		if !knownMethod(ctx.Method()) {
			// Fiber answers an unknown method itself, in plain text. No route has
			// TRACE, so as TRACE the request gets a 404 or 405 problem.
			ctx.Request.Header.SetMethod(fiber.MethodTrace)
		}
		cleanPath(&ctx.Request)
		handle(ctx)
	}

	server.ExpectHandler = func(ctx *fasthttp.RequestCtx) int {
		if ctx.Request.Header.ContentLength() <= maxBody {
			return fiber.StatusContinue
		}
		c := app.AcquireCtx(ctx)
		defer app.ReleaseCtx(c)
		_ = s.unreadable(c, fiber.ErrRequestEntityTooLarge) // it always answers
		return c.Response().StatusCode()
	}

	app.Use(s.guard)
	get := func(path string, handler fiber.Handler) {
		app.Get(path, handler) // and HEAD
		app.Options(path, s.preflight("GET, HEAD, OPTIONS"))
	}
	app.Post("/buy", s.buy)
	app.Options("/buy", s.preflight("POST, OPTIONS"))
	get("/orders", s.listOrders)
	get("/orders/:id", s.showOrder)
	get("/products", s.listProducts)
	get("/products/:id", s.showProduct)
	get("/products/:id/image", s.showImage)
	get("/ws", s.attach())
	files := loadPage()
	get("/", s.showIndex)
	get("/client.js", files.serveClient)
	get("/page/*", files.servePlain)
	get("/page-:version/*", files.serveVersioned)
	return app
}

// cleanPath takes slashes out of the request's path that are too many: a proxy that
// adds one cannot be helped by a redirect, as it adds one to the next request, too.
func cleanPath(r *fasthttp.Request) {
	uri := r.Header.RequestURI()
	path, query := uri, []byte(nil)
	if i := bytes.IndexByte(uri, '?'); i >= 0 {
		path, query = uri[:i], uri[i:]
	}
	last := len(path) - 1
	if last < 1 || path[0] != '/' || path[last] != '/' && !bytes.Contains(path, []byte("//")) {
		return
	}
	clean := make([]byte, 0, len(uri))
	for i, c := range path {
		if c != '/' || i < last && path[i+1] != '/' {
			clean = append(clean, c)
		}
	}
	if len(clean) == 0 {
		clean = append(clean, '/')
	}
	r.SetRequestURIBytes(append(clean, query...))
}

func knownMethod(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH":
		return true
	}
	return false
}

// Serve answers requests until Stop, and then returns nil. It closes ln.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	if s.stopped || s.listener != nil {
		again := s.listener != nil && !s.stopped
		s.mu.Unlock()
		err := ln.Close()
		if again {
			return errors.New("web: Serve was called twice")
		}
		return err
	}
	s.listener = newListener(ln, s.maxConns, s.log)
	s.loopbackPort = loopbackPort(ln)
	s.mu.Unlock()
	defer close(s.served)

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.hub.run(ctx) })
	running.Go(func() { s.hub.turnWheel(ctx) })
	s.board.begin()
	running.Go(func() { s.board.run(ctx) })
	defer running.Wait()
	defer cancel()
	if err := s.app.Listener(s.listener); err != nil {
		return fmt.Errorf("web: serving %s: %w", ln.Addr(), err)
	}
	return nil
}

// Refuse answers new orders with 503 from now on, and all else as before. It is the
// first step of a shutdown.
func (s *Server) Refuse() { s.refusing.Store(true) }

// Stop refuses new orders, goes on answering for a second if connections are open,
// waits for the requests under way, closes every socket with 1001, and returns when
// Serve and all its goroutines are done. If ctx ends first, it cuts off what is left,
// and returns ctx's error. It may be called before Serve, and more than once.
func (s *Server) Stop(ctx context.Context) error {
	s.stopping.Do(func() { s.stopErr = s.stop(ctx) })
	return s.stopErr
}

func (s *Server) stop(ctx context.Context) error {
	s.Refuse()
	s.mu.Lock()
	s.stopped = true
	l := s.listener
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	s.drain(ctx, l)
	err := l.Close()
	select {
	case <-s.served: // no connection is being accepted any more; closeUnused would miss it
	case <-ctx.Done():
	}
	l.closeUnused(ctx, s.firstByteTime)
	if e := s.app.ShutdownWithContext(ctx); e != nil {
		err = fmt.Errorf("web: waiting for requests: %w", e)
	}
	bye := ctx
	if ctx.Err() != nil { // a request hung; the sockets still get their goodbye
		var cancel context.CancelFunc
		bye, cancel = context.WithTimeout(context.WithoutCancel(ctx), s.hub.timing.close)
		defer cancel()
	}
	if e := s.hub.stop(bye); e != nil {
		err = errors.Join(err, fmt.Errorf("web: waiting for sockets: %w", e))
	}
	l.closeAll()
	<-s.served
	return err
}

// drain waits until all open connections are sockets, for drainTime at most.
func (s *Server) drain(ctx context.Context, l *listener) {
	ctx, cancel := context.WithTimeout(ctx, s.drainTime)
	defer cancel()
	poll(ctx, func() bool { return l.plain() == 0 })
}

// poll returns when done is true, or ctx has ended.
func poll(ctx context.Context, done func() bool) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// Deliver gives a broadcast status to the sockets of the buyer with that token
// (sale.Email.Token). status is as sale.Status.AppendJSON writes it, and is copied.
// Deliver waits for no socket.
func (s *Server) Deliver(emailToken string, status []byte) { s.hub.deliver(emailToken, status) }

// Refresh has every socket brought up to date from the book, after broadcasts may have
// been lost. It does not wait for them.
func (s *Server) Refresh() { s.hub.refresh() }

// Sockets is how many sockets are open.
func (s *Server) Sockets() int { sockets, _ := s.hub.sizes(); return sockets }

// Stats are the figures now.
func (s *Server) Stats() Stats {
	sockets, watchers := s.hub.sizes()
	stats := Stats{Sockets: sockets, Watchers: watchers, SlowSockets: s.hub.slow.Load(), RefusedSockets: s.hub.refused.Load()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		stats.RefusedConnections = s.listener.refused.Load()
	}
	return stats
}

// catchUp gives the book d to catch up with the leader.
func (s *Server) catchUp(d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return s.feed.CatchUp(ctx)
}
