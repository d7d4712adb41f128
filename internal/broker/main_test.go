package broker_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"firstcome/internal/broker"
	"firstcome/internal/natsd"
	"firstcome/internal/sale"
)

// patience bounds every wait in these tests; none of them takes that long.
const patience = 60 * time.Second

// quick is the pace of the tests that wait for redeliveries, and of all others that do
// not ask for another. On two busy cores a step is late by half a second now and then,
// so it is no quicker: a queue calls its server silent after two thirds of a pull.
var quick = broker.Timing{AckWait: time.Second, Pin: 1500 * time.Millisecond, Pull: 1200 * time.Millisecond}

// What the tests run on: one server, and a cluster of three that replicates to
// all, both with an fsync for every write. Each is started when a test first asks
// for it, and a test has an account of its own on it: streams of the same names
// that see nothing of each other.
var (
	one   = &site{name: "one", nodes: 1}
	three = &site{name: "three", nodes: 3}
)

// accounts is how many tests can use a site at the same time.
const accounts = 24

type site struct {
	name  string
	nodes int

	once    sync.Once
	err     error
	dir     string
	servers []*natsd.Server
	free    chan string // accounts that nobody uses
}

func TestMain(m *testing.M) {
	flag.Parse()
	// These tests wait more than they compute, if no more for long.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(sites{m})
}

// sites stops the servers between the last test and the search for goroutines.
type sites struct{ m *testing.M }

func (s sites) Run() (code int) {
	code = s.m.Run()
	for _, s := range []*site{one, three} {
		if err := s.stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

func (s *site) start() error {
	s.once.Do(func() {
		// Another test's process may take a port between its being given back and used.
		for range 5 {
			if s.err = s.startServers(); s.err == nil || !strings.Contains(s.err.Error(), "address already in use") {
				break
			}
			s.err = errors.Join(s.err, s.stop())
			s.servers = nil
		}
		if s.err == nil {
			s.err = s.awaitLeader()
		}
	})
	return s.err
}

func (s *site) startServers() (err error) {
	if s.dir, err = os.MkdirTemp("", "firstcome-broker-"); err != nil {
		return err
	}
	s.free = make(chan string, accounts)
	var users strings.Builder
	for i := range accounts {
		name := fmt.Sprintf("account%d", i)
		fmt.Fprintf(&users, "\t%s { jetstream: enabled, users: [{ user: %[1]s, password: %[1]s }] }\n", name)
		s.free <- name
	}
	// Every node must know all routes before any of them starts, hence the ports
	// taken and given back.
	var routes []string
	var taken []net.Listener
	for range s.nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		taken = append(taken, l)
		routes = append(routes, l.Addr().String())
	}
	for _, l := range taken {
		if err := l.Close(); err != nil {
			return err
		}
	}
	for i, listen := range routes {
		conf := "accounts {\n" + users.String() + "}\n"
		if s.nodes > 1 {
			conf += fmt.Sprintf("server_name: n%d\ncluster { name: firstcome, listen: %q, routes: [\"nats://%s\"] }\n",
				i, listen, strings.Join(routes, `", "nats://`))
		}
		file := filepath.Join(s.dir, fmt.Sprintf("%d.conf", i))
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			return err
		}
		server, err := natsd.Start(context.Background(), natsd.Config{Listen: "127.0.0.1:0", ConfigFile: file,
			StoreDir: filepath.Join(s.dir, fmt.Sprint(i)), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		s.servers = append(s.servers, server)
	}
	return nil
}

// awaitLeader asks for a stream with all replicas until it is made: before the
// nodes have met, nobody answers.
func (s *site) awaitLeader() error {
	user := <-s.free
	defer func() { s.free <- user }()
	nc, err := nats.Connect("", nats.InProcessServer(s.servers[0]), nats.UserInfo(user, user))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	until := time.Now().Add(patience)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "READY", Replicas: s.nodes})
		if err == nil {
			err = js.DeleteStream(ctx, "READY")
		}
		cancel()
		if err == nil || time.Now().After(until) {
			return err
		}
	}
}

func (s *site) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, server := range s.servers {
		if err := server.Stop(ctx); err != nil {
			return err
		}
	}
	if s.dir == "" {
		return nil
	}
	return os.RemoveAll(s.dir)
}

// world is one account: what an installation of firstcome has for itself.
type world struct {
	site   *site
	user   string
	timing broker.Timing
	conns  atomic.Int32
}

// on gives the test a world on the site, empty, and runs it beside others.
func on(t *testing.T, s *site) *world {
	t.Helper()
	t.Parallel()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	w := &world{site: s, user: <-s.free, timing: quick}
	t.Cleanup(func() {
		if err := clearAccount(within(t), w.admin(t)); err != nil {
			t.Error(err)
		}
		s.free <- w.user
	})
	return w
}

// clearAccount leaves an account as it was found.
func clearAccount(ctx context.Context, js jetstream.JetStream) error {
	names := js.StreamNames(ctx)
	errs := []error{}
	for name := range names.Name() {
		errs = append(errs, js.DeleteStream(ctx, name))
	}
	return errors.Join(append(errs, names.Err())...)
}

// slowly gives the world the pace of the documents: what comes within soon was then
// handed over, and not waited out.
func (w *world) slowly() *world {
	w.timing = broker.DefaultTiming
	return w
}

// onBoth runs the test on one server and on the cluster.
func onBoth(t *testing.T, test func(t *testing.T, w *world)) {
	t.Parallel()
	for _, s := range []*site{one, three} {
		t.Run(s.name, func(t *testing.T) { test(t, on(t, s)) })
	}
}

// node is one of the servers, another one each time.
func (w *world) node() *natsd.Server {
	return w.site.servers[int(w.conns.Add(1))%w.site.nodes]
}

// options are those of an instance; the test may put something between.
func (w *world) options(t testing.TB, through nats.InProcessConnProvider) broker.Options {
	if through == nil {
		through = w.node()
	}
	return broker.Options{Name: t.Name(), InProcess: through, User: w.user, Password: w.user, Timing: w.timing}
}

// connect is another instance's connection.
func (w *world) connect(t testing.TB) *broker.Conn {
	t.Helper()
	return dial(t, w.options(t, nil))
}

func dial(t testing.TB, o broker.Options) *broker.Conn {
	t.Helper()
	c, err := broker.Connect(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// admin is somebody with the nats CLI.
func (w *world) admin(t testing.TB) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect("", nats.InProcessServer(w.node()), nats.UserInfo(w.user, w.user))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// layout sells the products, each with this supply.
func (w *world) layout(supply int64, products ...sale.ProductID) broker.Layout {
	l := broker.Layout{Replicas: w.site.nodes, MaxMessages: 100_000}
	for _, p := range products {
		l.Products = append(l.Products, broker.Product{ID: p, Supply: supply})
	}
	return l
}

// sell provisions the products through a connection of its own, which it returns.
func (w *world) sell(t testing.TB, supply int64, products ...sale.ProductID) *broker.Conn {
	t.Helper()
	c := w.connect(t)
	if err := broker.Provision(within(t), c, w.layout(supply, products...)); err != nil {
		t.Fatal(err)
	}
	return c
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// receive waits for what another goroutine must send.
func receive[T any](t testing.TB, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-within(t).Done():
		t.Fatalf("nothing came in %v", patience)
	}
	return v
}

// eventually asks again and again, for what no event tells of.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for ctx := within(t); !is(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}
