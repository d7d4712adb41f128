package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/natscontext"
)

// InboxPrefix is where answers to firstcome's requests arrive, so that the
// permissions of the application's user can name it.
const InboxPrefix = "_INBOX_firstcome"

// Options say how to reach NATS. The zero value of a field leaves it out.
type Options struct {
	URLs          string // comma-separated
	Name          string // of the connection, as the server lists it
	Credentials   string // a .creds file
	User          string
	Password      string
	Token         string
	CA, Cert, Key string                     // PEM files for TLS
	InProcess     nats.InProcessConnProvider // the embedded server; URLs is ignored
	Context       string                     // of the nats CLI: servers, user, TLS and inbox prefix are its own
	Timing        Timing                     // zero: DefaultTiming
	Log           *slog.Logger
}

// Timing is the pace of the queue's consumers. All instances of a sale need the same;
// only tests have another than the default.
type Timing struct {
	AckWait time.Duration // from a delivery to its repetition, without a report of progress
	Pin     time.Duration // that a product stays with an instance that does not pull
	Pull    time.Duration // that a pull waits at the server; shorter than Pin, since only a pull renews it
}

// DefaultTiming is that of the documents.
var DefaultTiming = Timing{AckWait: 5 * time.Second, Pin: 5 * time.Second, Pull: 3 * time.Second}

// Conn is the way to NATS: one connection on which orders and decisions travel,
// and one for what is broadcast, so that a flood of statuses does not delay an
// acknowledgement behind it.
type Conn struct {
	orders    *nats.Conn
	broadcast *nats.Conn
	js        jetstream.JetStream // on orders
	feed      jetstream.JetStream // on broadcast
	embedded  bool                // in this process: there is no other server
	timing    Timing
	log       *slog.Logger
	denied    context.Context // ended by the first subject that is denied
	deny      context.CancelCauseFunc

	mu       sync.Mutex
	onReturn []func()
	lost     map[string]time.Time // connections that are lost, by role, and since when
}

// What each connection is called in the log and by the server.
const ordersRole, broadcastRole = "orders", "broadcast"

// apiTimeout bounds requests that come without a deadline of their own.
const apiTimeout = 5 * time.Second

// Connect dials, and fails if no server answers. After that it reconnects for
// ever, and nothing that is published while disconnected is sent later: the
// caller is told at once, and decides (P3).
func Connect(o Options) (*Conn, error) {
	c := &Conn{log: o.Log, embedded: o.InProcess != nil, timing: o.Timing, lost: map[string]time.Time{}}
	if c.timing == (Timing{}) {
		c.timing = DefaultTiming
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.denied, c.deny = context.WithCancelCause(context.Background())
	var err error
	if c.orders, err = c.dial(o, ordersRole); err != nil {
		return nil, err
	}
	if c.broadcast, err = c.dial(o, broadcastRole, nats.NoEcho()); err != nil {
		c.orders.Close()
		return nil, err
	}
	if c.js, err = jetstream.New(c.orders, jetstream.WithDefaultTimeout(apiTimeout),
		jetstream.WithPublishAsyncTimeout(storeTimeout)); err == nil { // without it, lost answers are waited for for ever
		c.feed, err = jetstream.New(c.broadcast, jetstream.WithDefaultTimeout(apiTimeout))
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("JetStream: %w", err)
	}
	return c, nil
}

func (c *Conn) dial(o Options, role string, more ...nats.Option) (*nats.Conn, error) {
	log := c.log.With("connection", role)
	options := []nats.Option{
		nats.Name(strings.TrimSpace(o.Name + " " + role)),
		nats.Timeout(2 * time.Second),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // a password that is being changed must not end an instance
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, 250*time.Millisecond),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(2 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(5 * time.Second),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			c.noteLost(role)
			if err != nil {
				log.Warn("lost NATS", "err", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			log.Info("back at NATS", "server", nc.ConnectedServerName())
			c.noteBack(role)
			c.returned()
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			c.asyncError(role, log, sub, err)
		}),
	}
	options = append(options, more...)
	if o.Context != "" {
		read := false // the options are tried last before anybody is asked
		options = append(options, func(*nats.Options) error { read = true; return nil })
		nc, _, err := natscontext.Connect(o.Context, options...)
		if err != nil && !read {
			return nil, fmt.Errorf("%w: context %q: %w", ErrSettings, o.Context, err)
		}
		return nc, connectError(err)
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	options = append(options, o.identity()...)
	servers := o.URLs
	if o.InProcess != nil {
		servers = ""
		options = append(options, nats.InProcessServer(o.InProcess))
	}
	nc, err := nats.Connect(servers, options...)
	if err = connectError(err); err != nil && servers != "" {
		err = fmt.Errorf("%w (%s)", err, BareURLs(servers))
	}
	return nc, err
}

// BareURLs are the servers of a comma-separated list without the user and password
// in them, for everybody to see. What is no URL is left out.
func BareURLs(list string) string {
	var bare []string
	for server := range strings.SplitSeq(list, ",") {
		server = strings.TrimSpace(server)
		if !strings.Contains(server, "://") {
			server = "nats://" + server // as nats.go takes it
		}
		if u, err := url.Parse(server); err == nil && u.Host != "" {
			u.User = nil
			bare = append(bare, u.String())
		}
	}
	return strings.Join(bare, ",")
}

// identity is what a connection shows of itself, and which servers it trusts.
func (o *Options) identity() []nats.Option {
	options := []nats.Option{nats.CustomInboxPrefix(InboxPrefix)}
	switch {
	case o.Credentials != "":
		options = append(options, nats.UserCredentials(o.Credentials))
	case o.Token != "":
		options = append(options, nats.Token(o.Token))
	case o.User != "":
		options = append(options, nats.UserInfo(o.User, o.Password))
	}
	if o.CA != "" {
		options = append(options, nats.RootCAs(o.CA))
	}
	if o.Cert != "" {
		options = append(options, nats.ClientCert(o.Cert, o.Key))
	}
	if o.CA != "" || o.Cert != "" {
		options = append(options, nats.Secure(&tls.Config{MinVersion: tls.VersionTLS12}))
	}
	return options
}

// asyncError says what the server complains about; without it, a missing
// permission would look like a timeout.
func (c *Conn) asyncError(role string, log *slog.Logger, sub *nats.Subscription, err error) {
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	if errors.Is(err, nats.ErrSlowConsumer) {
		if role == ordersRole { // heartbeats of a pull, while its worker is held up
			log.Debug("a pull was not read", "subject", subject)
			return
		}
		log.Warn("messages were dropped, sockets are brought up to date from the book", "subject", subject)
		c.returned()
		return
	}
	if errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+statusPrefix) {
		err = fmt.Errorf("%w: %s<buyer>.<order>", nats.ErrPermissionViolation, statusPrefix) // an address is in no log
	}
	log.Error("NATS refuses", "subject", subject, "err", err)
	if errors.Is(err, nats.ErrPermissionViolation) {
		c.deny(err)
	}
}

// OnReturn has f called, on a goroutine of the connection's, whenever broadcasts
// may have been missed. It must not block.
func (c *Conn) OnReturn(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onReturn = append(c.onReturn, f)
}

func (c *Conn) returned() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.onReturn {
		f()
	}
}

// The oldest server with everything that the names and settings here need.
const wantMajor, wantMinor = 2, 12

// Check asks whether JetStream answers and the server is new enough.
func (c *Conn) Check(ctx context.Context) error {
	version := c.orders.ConnectedServerVersion()
	if version == "" {
		return errors.New("the connection to NATS is lost")
	}
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("%w: its version is %q", ErrTooOld, version)
	}
	if major < wantMajor || major == wantMajor && minor < wantMinor {
		return fmt.Errorf("%w: it is %s, and %d.%d or later is needed", ErrTooOld, version, wantMajor, wantMinor)
	}
	if max := c.orders.MaxPayload(); max < minPayload {
		return fmt.Errorf("%w: its max_payload is %d bytes, and at least %d are needed", ErrTooOld, max, minPayload)
	}
	_, err := ask(ctx, c.js.AccountInfo) // nobody answers while a cluster has no leader
	if errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
		return fmt.Errorf("%w: JetStream is not enabled, on the server or for this account", ErrTooOld)
	}
	if err != nil {
		return fmt.Errorf("JetStream: %w", err)
	}
	return nil
}

// AckWait is the time from a delivery to its repetition.
func (c *Conn) AckWait() time.Duration { return c.timing.AckWait }

// Beat is how often a message in hand must be reported as in progress.
func (c *Conn) Beat() time.Duration { return c.timing.AckWait / 3 }

// noteLost notes since when a connection is lost.
func (c *Conn) noteLost(role string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, lost := c.lost[role]; !lost {
		c.lost[role] = time.Now()
	}
}

func (c *Conn) noteBack(role string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.lost, role)
}

// Away is how long there has been no connection to any server, 0 while there is one.
func (c *Conn) Away() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.lost) < 2 {
		return 0
	}
	return min(time.Since(c.lost[ordersRole]), time.Since(c.lost[broadcastRole]))
}

// Alone tells whether the server is in this process, and in no cluster.
func (c *Conn) Alone() bool { return c.embedded && c.orders.ConnectedClusterName() == "" }

// Connected tells whether both connections stand.
func (c *Conn) Connected() bool { return c.orders.IsConnected() && c.broadcast.IsConnected() }

// Flush returns when the server has taken all that was published so far, and all
// that it sent before that has arrived.
func (c *Conn) Flush(ctx context.Context) error {
	var errs []error
	for _, nc := range []*nats.Conn{c.orders, c.broadcast} {
		if nc.IsConnected() {
			if err := nc.FlushWithContext(ctx); err != nil {
				errs = append(errs, fmt.Errorf("flush NATS: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// Drain flushes and closes; what cannot be sent by the deadline of ctx is
// dropped. Safe to call twice.
func (c *Conn) Drain(ctx context.Context) error {
	err := c.Flush(ctx)
	c.Close()
	return err
}

// Close drops the connections. Safe to call twice.
func (c *Conn) Close() {
	c.orders.Close()
	c.broadcast.Close()
}
