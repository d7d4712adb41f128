package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
)

// lockFile is created in the store directory and never removed: removing a
// lock file lets two processes each hold a lock on a different file of the
// same name.
const lockFile = "firstcome.lock"

// readyPoll is how often a starting server looks whether its context has ended
// while a listener is not open yet.
const readyPoll = 100 * time.Millisecond

// ErrConfigFile is wrapped by Start for a ConfigFile that cannot be read.
var ErrConfigFile = errors.New("nats configuration")

// Config says where the server listens and what it keeps.
type Config struct {
	// Listen is host:port for clients; port 0 takes a free one.
	Listen string
	// StoreDir holds the streams. It is created if missing and belongs to one
	// process at a time.
	StoreDir string
	// SyncInterval is the time between two fsyncs; zero fsyncs every write.
	// With an interval, up to that much acknowledged work is lost when the
	// machine loses power (P3 then holds for a killed process only).
	SyncInterval time.Duration
	// MaxConnections is how many clients may be connected: they share the file
	// descriptors with the store. Zero leaves it to the server.
	MaxConnections int
	// ConfigFile, if not empty, is a nats-server configuration file, for
	// cluster routes, TLS, accounts and limits. What it sets wins: Listen
	// (host and port each), StoreDir, SyncInterval and MaxConnections apply where it is
	// silent, and there is no limit to what is stored but the disk and its
	// max_file_store. Its log file and signal settings have no effect here.
	ConfigFile string
	// Logger gets the server's own log, with the attributes that the caller
	// gave it; nil means slog.Default().
	Logger *slog.Logger
}

// Server is a running NATS server. Its methods may be called from any
// goroutine.
type Server struct {
	nats *server.Server
	lock *flock.Flock
	dir  string

	stop   sync.Once
	done   chan struct{} // closed by watch, after which unlockErr is final
	broken chan error    // has room for one, see Broken

	unlockErr error
}

// Start locks the store directory, starts the server and returns when clients
// can connect and JetStream has recovered its streams. Recovery takes as long
// as the store is large and cannot be interrupted: a ctx that ends meanwhile
// makes Start fail after it. In a cluster, ready means this node; whether
// enough others are there for a quorum only a JetStream request can tell.
//
// After an error nothing is left running and the store directory is unlocked.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	logger := cfg.Logger
	if logger == nil {
		logger = slog.Default()
	}
	opts, err := options(cfg)
	if err != nil {
		return nil, err
	}
	lock, err := lockStore(opts.StoreDir)
	if err != nil {
		return nil, err
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("nats server: %w", err), lock.Unlock())
	}
	log := newServerLog(logger)
	srv.SetLogger(log, opts.Debug, opts.Trace)

	s := &Server{nats: srv, lock: lock, dir: opts.StoreDir, done: make(chan struct{}), broken: make(chan error, 1)}
	go s.watch()
	if err := s.run(ctx, log); err != nil {
		// Cleaning up is not bounded by ctx, which may be what ended the start.
		return nil, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	return s, nil
}

// run starts the server and returns once it is ready, has given up, or ctx
// ends. The server reports its own start errors only through its log.
func (s *Server) run(ctx context.Context, log *serverLog) error {
	// Not beside a select on ctx: a Shutdown amid Start is undone by the rest
	// of Start, and recovery does not look at it anyway.
	s.nats.Start()
	for {
		select {
		case err := <-log.fatal:
			return fmt.Errorf("start nats server: %w", err)
		default:
		}
		if ctx.Err() != nil {
			return fmt.Errorf("start nats server: %w", context.Cause(ctx))
		}
		if s.nats.ReadyForConnections(readyPoll) {
			break
		}
	}
	if !s.nats.JetStreamEnabled() {
		return errors.New("start nats server: JetStream is not running")
	}
	log.started.Store(true)
	go s.watchStore(log)
	return nil
}

// watch owns the end of the server, whatever caused it.
func (s *Server) watch() {
	s.nats.WaitForShutdown()
	if err := s.lock.Unlock(); err != nil {
		s.unlockErr = fmt.Errorf("unlock store directory: %w", err)
	}
	close(s.done)
}

func (s *Server) shutdown() { s.stop.Do(func() { go s.nats.Shutdown() }) }

// Stop closes every connection, flushes the store, releases the store
// directory and waits for all of it, at most until ctx ends. The shutdown goes
// on when ctx ends first; a second call waits for the same shutdown.
func (s *Server) Stop(ctx context.Context) error {
	s.shutdown()
	select {
	case <-s.done:
		return s.unlockErr
	case <-ctx.Done():
		return fmt.Errorf("stop nats server: %w", context.Cause(ctx))
	}
}

// StoreDir is the directory that holds the streams, and belongs to this process.
func (s *Server) StoreDir() string { return s.dir }

// Done is closed when the server has stopped and its store is unlocked.
func (s *Server) Done() <-chan struct{} { return s.done }

// InProcessConn connects a client without a network. It makes Server a
// nats.InProcessConnProvider. A configuration file with users asks these
// clients for a password as well.
func (s *Server) InProcessConn() (net.Conn, error) {
	conn, err := s.nats.InProcessConn()
	if err != nil {
		return nil, fmt.Errorf("in-process connection: %w", err)
	}
	return conn, nil
}

// ClientURL is the address that clients on this machine can connect to, with
// the port that was really opened. It carries no credentials.
func (s *Server) ClientURL() string {
	raw := s.nats.ClientURL()
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	// Listening everywhere is not an address to connect to.
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.IsUnspecified() {
		host := "127.0.0.1"
		if ip.Is6() {
			host = "::1"
		}
		u.Host = net.JoinHostPort(host, u.Port())
	}
	return u.String()
}

// lockStore creates the directory if it is missing and takes its lock. NATS
// itself has none, and two servers on one store destroy it.
func lockStore(dir string) (*flock.Flock, error) {
	// Orders hold email addresses: nobody else on the machine may read them.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create store directory: %w", err)
	}
	lock := flock.New(filepath.Join(dir, lockFile))
	held, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock store directory %q: %w", dir, err)
	}
	if !held {
		return nil, fmt.Errorf("store directory %q is in use by another process", dir)
	}
	return lock, nil
}
