package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/netutil"

	"firstcome/internal/broker"
	"firstcome/internal/natsd"
	"firstcome/internal/sale"
	"firstcome/internal/web"
)

func serveCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run an instance, with an embedded NATS server or on a cluster",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file, os.Environ(), unasked, pictures)
			if err != nil {
				return usageError{err}
			}
			said := newUnblockedLog(cfg.Log, c.ErrOrStderr())
			defer said.close()
			log := newLogger(cfg.Log, said)
			return serve(c.Context(), cfg, log, serveOptions{ready: func(a addresses) {
				log.Info("ready", "http", a.http, "ops", a.ops, "nats", a.nats)
			}})
		},
	}
	textFlag(c.Flags(), &file, "config", "the configuration file")
	return c
}

func newLogger(c logConfig, to io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // validated; the zero level is info
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: withUnit}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(to, options))
	}
	return slog.New(slog.NewTextHandler(to, options))
}

// withUnit makes a duration text: JSON would have nanoseconds, and not say so.
func withUnit(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.String())
	}
	return a
}

type serveOptions struct {
	// demo allows any loopback origin, and moves the operator's port to a free one
	// if another demo has it.
	demo  bool
	ready func(addresses)
}

// addresses are where an instance really listens.
type addresses struct{ http, ops, nats string }

// stopTime bounds each stage of the stop, so that a broker that is away cannot
// hold an instance for ever.
const stopTime = 15 * time.Second

// instance is one running firstcome. This is the only place where the parts meet:
//
//	        ┌────────────── web (1) ──────────────┐
//	HTTP ──►│ intake, orders, products     hub    │◄── WebSockets
//	        └──┬──────────────┬─────────────▲─────┘
//	           ▼ Place        │ reads       │ Deliver
//	     broker.Intake (1)    ▼             │
//	           │          sale.Book (1) ◄───┼───── broker.Feed (1)
//	           ▼              ▲             │            ▲
//	  NATS: ORDERS ──► sale.Worker (1 per product) ──► KV stock, status.>
//
// Started from the bottom up; stopped from the top down: intake refuses (readyz
// says so first), groups in hand are flushed, each worker finishes its message,
// sockets close with 1001, NATS is drained, the embedded server stops.
type instance struct {
	cfg     config
	log     *slog.Logger
	metrics *metrics

	nats      *natsd.Server // nil on a cluster
	conn      *broker.Conn
	mark      *broker.QueueMark // nil without a server of its own
	book      *sale.Book
	announcer *broker.Announcer
	intake    *broker.Intake
	feed      *broker.Feed
	deciders  *deciders // nil if this instance only serves buyers
	web       *web.Server
	ops       *opsServer

	stuckAfter time.Duration // see stuckWatch
	watch      *stuckWatch   // start's, then refresh's

	running   sync.WaitGroup // every goroutine started here
	following context.Context
	unfollow  context.CancelFunc // ends the goroutines that keep book, sockets and mark up to date
	unhear    func() error
	toldFull  bool          // start's, then refresh's
	returned  chan struct{} // has room for one: broadcasts may have been missed
	appeared  chan struct{} // has room for one: a product has begun
}

// serve runs an instance until ctx ends or a part of it fails.
func serve(ctx context.Context, cfg config, log *slog.Logger, o serveOptions) error {
	signal.Ignore(syscall.SIGPIPE) // the reader of the log or of the output may go away, and the sale goes on
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200) // orders are short-lived; memory for a twentieth of the time is a good trade
	}
	return newInstance(cfg, log).run(ctx, o)
}

func newInstance(cfg config, log *slog.Logger) *instance {
	if cfg.Instance.Name == "" {
		cfg.Instance.Name = defaultName()
	}
	return &instance{cfg: cfg, log: log, metrics: newMetrics(), stuckAfter: stuckAfter, returned: make(chan struct{}, 1), appeared: make(chan struct{}, 1)}
}

func (in *instance) run(ctx context.Context, o serveOptions) error {
	whole, failed := context.WithCancelCause(ctx) // ended also by the first part that fails
	defer failed(nil)
	a, err := in.start(whole, o, failed)
	if err == nil {
		if o.ready != nil {
			o.ready(a)
		}
		<-whole.Done()
	}
	switch {
	case ctx.Err() != nil: // told to stop, if only before it was ready
		in.log.Info("stopping")
		err = nil
	case whole.Err() != nil:
		err = context.Cause(whole)
		in.log.Error("a part failed, stopping", "err", err)
	}
	return errors.Join(err, in.stop())
}

// start starts the parts from the bottom up, and waits for those that are not there
// yet until ctx ends. A part that fails later tells failed.
func (in *instance) start(ctx context.Context, o serveOptions, failed context.CancelCauseFunc) (a addresses, err error) {
	opsListener, err := net.Listen("tcp", in.cfg.Ops.Listen)
	if err != nil && o.demo {
		opsListener, err = net.Listen("tcp", "127.0.0.1:0")
	}
	if err != nil {
		return a, fmt.Errorf("ops.listen: %w", err)
	}
	in.ops = newOpsServer(in.cfg.Ops, in.metrics.registry)
	in.running.Go(func() { failed(in.ops.serve(netutil.LimitListener(opsListener, opsConnections()))) })
	a.ops = opsListener.Addr().String()
	warnOpen(in.cfg, in.log)

	if err := vacant("http.listen", in.cfg.HTTP.Listen); err != nil {
		return a, err
	}
	if err := in.connect(ctx, failed); err != nil {
		return a, err
	}
	if a.nats = broker.BareURLs(in.cfg.NATS.URL); in.nats != nil {
		a.nats = in.nats.ClientURL()
	}
	if err := in.conn.Permitted(ctx, in.build); err != nil {
		return a, err
	}
	warnProducts(in.cfg, in.book, in.log)
	in.warnFull()
	if in.web, err = newWeb(in.cfg, o.demo, in.intake, in.feed, in.book, in.log); err != nil {
		return a, err
	}
	in.watch = in.newStuckWatch()
	if err := untilThere(ctx, in.log, "the queue", in.watch.begin); err != nil {
		return a, err
	}
	in.running.Go(func() { in.refresh(in.following) })
	in.conn.OnReturn(func() { wake(in.returned) })
	in.announcer.To(in.web.Deliver)
	if in.unhear, err = in.conn.Subscribe(in.web.Deliver); err != nil {
		return a, err
	}
	httpListener, err := net.Listen("tcp", in.cfg.HTTP.Listen) // not before: every connection is answered
	if err != nil {
		return a, fmt.Errorf("http.listen: %w", err)
	}
	in.running.Go(func() { failed(in.web.Serve(httpListener)) })
	a.http = httpListener.Addr().String()
	in.metrics.watch(gauges{conn: in.conn, book: in.book, web: in.web})
	in.ops.open(readiness{conn: in.conn, feed: in.feed, book: in.book, intake: in.intake, maxMessages: in.cfg.Queue.MaxMessages})
	return a, nil
}

// connect starts the embedded server, or waits for the cluster to be there, and sees to
// it that everything exists there.
func (in *instance) connect(ctx context.Context, failed context.CancelCauseFunc) (err error) {
	options := in.cfg.NATS.options(in.log)
	if in.cfg.NATS.URL == "" {
		if in.nats, err = embed(ctx, in.cfg.NATS.Embedded, in.log); err != nil {
			return err
		}
		in.running.Go(func() {
			select {
			case <-in.nats.Done():
				failed(errors.New("the embedded NATS server ended"))
			case err := <-in.nats.Broken():
				failed(fmt.Errorf("the embedded NATS server cannot write to its store any more: %w", err))
			}
		})
		options.InProcess = in.nats
	}
	return untilThere(ctx, in.log, "NATS", func(ctx context.Context) error {
		if in.conn == nil {
			if in.conn, err = broker.Connect(options); err != nil {
				return err
			}
		}
		return in.conn.Permitted(ctx, func(ctx context.Context) error {
			if err := in.conn.Check(ctx); err != nil {
				return err
			}
			if in.cfg.NATS.Provision {
				return provision(ctx, in.conn, in.cfg.layout())
			}
			return broker.Verify(ctx, in.conn, in.cfg.layout())
		})
	})
}

// build makes what stands between NATS and the web, and waits for the book.
func (in *instance) build(ctx context.Context) error {
	in.following, in.unfollow = context.WithCancel(context.WithoutCancel(ctx))
	in.book = sale.NewBook(in.cfg.Book.MaxOrders)
	in.book.OnForeign(broker.LogForeign(in.log))
	in.book.OnApply(func(_ sale.ProductID, head sale.Head) {
		if head.N == 1 {
			wake(in.appeared)
		}
	})
	in.announcer = broker.NewAnnouncer(in.conn)
	err := untilThere(ctx, in.log, "the streams", in.open)
	if err != nil {
		return err
	}
	in.intake = broker.NewIntake(in.conn, in.book, in.announcer, in.mark, in.cfg.grouping())
	in.running.Go(func() { in.conn.LeaveIsolated(in.following) })
	if err := untilThere(ctx, in.log, "the book", in.feed.CatchUp); err != nil {
		return err
	}
	if in.cfg.Worker.Enabled {
		in.deciders = newDeciders(decidersConfig{name: in.cfg.Instance.Name, processing: in.cfg.Worker.ProcessingTime,
			conn: in.conn, mark: in.mark, book: in.book, announcer: in.announcer, observer: in.metrics, log: in.log})
	}
	return nil
}

// open binds to the streams. What is open from an attempt before stays so.
func (in *instance) open(ctx context.Context) (err error) {
	if in.nats != nil && in.mark == nil {
		epoch, err := broker.QueueEpoch(ctx, in.conn)
		if err != nil {
			return err
		}
		if in.mark, err = broker.OpenQueueMark(markFile(in.nats.StoreDir()), epoch); err != nil {
			return err
		}
		in.running.Go(func() { in.mark.Run(in.following, in.log) })
	}
	if in.feed != nil {
		return nil
	}
	if in.feed, err = broker.OpenFeed(ctx, in.conn, in.book); err == nil {
		in.feed.Mark(in.mark)
	}
	return err
}

// markFile is where an embedded server's queue is witnessed.
func markFile(storeDir string) string { return filepath.Join(storeDir, "queue.mark") }

// keepUp is how often the book is compared with the leaders, whatever its feed
// brings: one whose broker fell silent is deaf for a while and does not know it.
const keepUp = 2 * time.Second

// refresh brings the book up to date every now and then and whenever broadcasts may have
// been missed, and then the sockets too. An attempt is bounded, and one that fails is made
// again at the next tick: products are watched meanwhile. Products that appear are decided
// from then on.
func (in *instance) refresh(ctx context.Context) {
	tick := time.NewTicker(keepUp)
	defer tick.Stop()
	for missed := false; ; {
		in.deciders.decide(in.book.Products())
		select {
		case <-ctx.Done():
			return
		case <-in.appeared:
			continue
		case <-in.returned:
			missed = true
		case <-tick.C:
		}
		switch err := in.feed.CatchUp(ctx); {
		case err == nil && missed:
			missed = false
			in.web.Refresh()
		case err != nil && ctx.Err() == nil:
			in.log.Debug("the book may be behind", "err", err)
		}
		in.watch.look(ctx)
		in.warnFull()
	}
}

// wake fills a channel that has room for one; if it is full, its reader will look anyway.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// warnFull tells once that the book is full, which it stays: nothing is forgotten.
func (in *instance) warnFull() {
	if in.toldFull || !in.book.Full() {
		return
	}
	in.toldFull = true
	in.log.Warn("the book is full: new orders are refused until book.max_orders is raised", "max_orders", in.cfg.Book.MaxOrders)
}

// stop ends what was started, from the top down. It may be called at any stage.
func (in *instance) stop() error {
	var errs []error
	stage := func(f func(ctx context.Context) error) {
		ctx, cancel := context.WithTimeout(context.Background(), stopTime)
		defer cancel()
		errs = append(errs, f(ctx))
	}
	if in.ops != nil {
		in.ops.refuse()
	}
	if in.web != nil {
		in.web.Refuse()
	}
	if in.intake != nil {
		stage(in.intake.Close)
	}
	in.deciders.stop()
	if in.conn != nil {
		stage(in.conn.Flush) // what the workers announced reaches the hub
	}
	if in.web != nil {
		stage(in.web.Stop)
	}
	if in.unfollow != nil {
		in.unfollow()
	}
	if in.feed != nil {
		in.feed.Close()
	}
	if in.unhear != nil {
		errs = append(errs, in.unhear())
	}
	if in.conn != nil {
		stage(in.conn.Drain)
	}
	if in.nats != nil {
		stage(in.nats.Stop)
	}
	if in.ops != nil {
		stage(in.ops.stop)
	}
	in.running.Wait()
	return errors.Join(errs...)
}
