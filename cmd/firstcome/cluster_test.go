package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func configFile(path ...string) string {
	return filepath.Join(append([]string{"..", "..", "configs"}, path...)...)
}

// site is three nats-server processes that run configs/nats/server.conf.
type site struct {
	t     testing.TB
	urls  string // of all, comma-separated
	nodes [3]*process
}

// users of accounts.conf; in a test a user's password is his name with this behind.
const password = "-secret"

func newSite(t *testing.T, conf string, environ ...string) *site {
	t.Helper()
	path, err := brokerBinary()
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(rand.Uint64(), 0))
	environ = append(os.Environ(), environ...)
	for _, user := range []string{"route", "system", "admin", "owner", "app", "inspector"} {
		environ = append(environ, "NATS_"+strings.ToUpper(user)+"_PASSWORD="+user+password)
	}
	var clients, routes [3]string
	for i := range clients {
		clients[i] = fmt.Sprintf("127.0.0.1:%d", freePort(t, random))
		routes[i] = fmt.Sprintf("127.0.0.1:%d", freePort(t, random))
		environ = append(environ, fmt.Sprintf("NATS_ROUTE_%d=nats://route:route%s@%s", i+1, password, routes[i]))
	}
	s := &site{t: t, urls: "nats://" + strings.Join(clients[:], ",nats://")}
	for i := range s.nodes {
		cmd := exec.Command(path, "-c", conf)
		cmd.Env = append(environ[:len(environ):len(environ)], fmt.Sprintf("NATS_NAME=nats-%d", i+1), "NATS_LISTEN="+clients[i],
			"NATS_CLUSTER_LISTEN="+routes[i], "NATS_MONITOR=127.0.0.1:-1", "NATS_STORE="+t.TempDir())
		s.nodes[i] = begin(t, cmd)
	}
	for _, node := range s.nodes {
		node.await(`metadata leader`)
	}
	return s
}

// as is firstcome with what an operator puts into a user's environment.
func (s *site) as(user string, args ...string) *exec.Cmd {
	return with(command(s.t, args...), "FIRSTCOME_NATS_URL="+s.urls, "FIRSTCOME_NATS_USER="+user, "FIRSTCOME_NATS_PASSWORD="+user+password,
		"FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_OPS_LISTEN=127.0.0.1:0", "FIRSTCOME_LOG_FORMAT=text")
}

// with adds to a command's environment.
func with(cmd *exec.Cmd, environ ...string) *exec.Cmd {
	cmd.Env = append(cmd.Env, environ...)
	return cmd
}

// finish runs a command to its end.
func finish(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	p := begin(t, cmd)
	return result{code: p.exit(), stdout: p.said.String()}
}

// connect is a user's own connection, as with the nats CLI.
func (s *site) connect(user string, options ...nats.Option) *nats.Conn {
	s.t.Helper()
	nc, err := nats.Connect(s.urls, append(options, nats.UserInfo(user, user+password), nats.Timeout(patience))...)
	if err != nil {
		s.t.Fatal(err)
	}
	closed := nc.StatusChanged(nats.CLOSED)
	s.t.Cleanup(func() {
		nc.Close()
		<-closed
	})
	return nc
}

// The files in configs/nats and configs/cluster.yaml, as they are, are a whole
// production: the admin provisions, the app sells with its own rights, one instance
// decides and one only serves, and the inspector looks.
func TestProductionFiles(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it starts a cluster")
	}
	s := newSite(t, configFile("nats", "server.conf"))
	serve := []string{"serve", "--config", configFile("cluster.yaml")}
	provision := []string{"provision", "--config", configFile("cluster.yaml")}

	finish(t, s.as("app", provision...)).want(t, 1, "refuses", "Permissions Violation for Publish")
	early := begin(t, s.as("app", serve...))
	early.await(`waiting for NATS.*stream not found`)
	finish(t, s.as("admin", provision...)).want(t, 0, "ready: tshirt")
	first, second := serving(early), serving(begin(t, with(s.as("app", serve...), "FIRSTCOME_WORKER_ENABLED=false")))

	buyer := second.follow("ann@example.com")
	for range 4 {
		o := first.buy("ann@example.com", 1).order(t)
		if told := buyer.outcome(o.ID); told.Status != "accepted" {
			t.Errorf("told %+v", told)
		}
		second.look(o)
	}
	admin := s.connect("admin")
	if err := admin.Publish("orders.tshirt", []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	if o := second.buy("bob@example.com", 1).order(t); first.look(o).ID != o.ID {
		t.Errorf("order %s is another one", o.ID)
	}
	first.sold(5)
	if metrics := second.get("http://" + second.ops + "/metrics"); strings.Contains(string(metrics.body), "firstcome_orders_total{") {
		t.Error("an instance without a worker decided")
	}
	finish(t, s.as("app", "audit")).want(t, 0, "ok: ")
	finish(t, s.as("admin", "stock", "add", "tshirt", "3")).want(t, 0, "supplied: 5 → 8")
	finish(t, s.as("app", "stock", "add", "tshirt", "2")).want(t, 0, "supplied: 8 → 10")
	finish(t, s.as("app", "buy", "--email", "cli@example.com")).want(t, 0, `"status":"accepted"`)
	finish(t, s.as("wrong", "stock", "ls")).want(t, 1, "Authorization Violation")
	finish(t, s.as("inspector", serve...)).want(t, 1, "refuses", "_INBOX_firstcome.")

	t.Run("permissions", s.permissions)
	t.Run("edits of the history", s.editsHistory)
	t.Run("inspector", func(t *testing.T) { s.inspector(t, first) })
	for _, user := range []string{"owner", "admin"} {
		finish(t, s.as(user, provision...)).want(t, 0, "ready: tshirt")
		finish(t, s.as(user, "audit")).want(t, 0, "ok: ")
		finish(t, s.as(user, "stock", "get", "tshirt", "--json")).want(t, 0, `"supplied":10`)
	}
	first.stop()
	second.stop()
	for _, p := range []*shop{first, second} {
		if said := p.said.String(); strings.Contains(said, "NATS refuses") || strings.Contains(said, "level=ERROR") {
			t.Errorf("the app's permissions are not enough:\n%s", said)
		}
	}
}

// editsHistory tries what would delete history, as `nats stream edit` does: an admin
// cannot, an owner can.
func (s *site) editsHistory(t *testing.T) {
	edit := func(user, stream string) error {
		js, err := jetstream.New(s.connect(user, nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {})))
		if err != nil {
			t.Fatal(err)
		}
		found, err := js.Stream(bounded(t), stream)
		if err != nil {
			t.Fatal(err)
		}
		config := found.CachedInfo().Config
		config.Description += " (edited)"
		ctx, cancel := context.WithTimeout(bounded(t), 3*time.Second) // what is denied gets no answer
		defer cancel()
		_, err = js.UpdateStream(ctx, config)
		return err
	}
	if err := edit("admin", "KV_stock"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an admin edits the history: %v", err)
	}
	if err := edit("admin", "ORDERS"); err != nil {
		t.Errorf("an admin edits the queue: %v", err)
	}
	if err := edit("owner", "KV_stock"); err != nil {
		t.Errorf("an owner edits the history: %v", err)
	}
}

// The three instances of configs/cluster form their own cluster, on which the
// sale goes on when one of them is lost.
func TestInstancesAreTheirOwnCluster(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it starts a cluster")
	}
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(rand.Uint64(), 0))
	var ports []string
	for _, port := range []string{":6222", ":6232", ":6242"} {
		ports = append(ports, port, fmt.Sprintf(":%d", freePort(t, random)))
	}
	free := strings.NewReplacer(ports...)
	files, err := filepath.Glob(configFile("cluster", "*.conf"))
	if err != nil || len(files) != 4 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), []byte(free.Replace(string(text))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start := func(n string) *process {
		return begin(t, with(command(t, "serve", "--config", configFile("cluster", n+".yaml")),
			"FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_NATS_EMBEDDED_LISTEN=127.0.0.1:0",
			"FIRSTCOME_NATS_EMBEDDED_STORE_DIR="+filepath.Join(dir, n), "FIRSTCOME_NATS_EMBEDDED_CONFIG="+filepath.Join(dir, n+".conf")))
	}
	p1, p2, p3 := start("1"), start("2"), start("3")
	s1, s2, s3 := serving(p1), serving(p2), serving(p3)

	buyer := s3.follow("ann@example.com")
	if o := buyer.outcome(s1.buy("ann@example.com", 1).order(t).ID); o.Status != "accepted" {
		t.Errorf("told %+v", o)
	}
	_, js := jet(t, s2.nats)
	stream, err := js.Stream(bounded(t), "ORDERS")
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().Config.Replicas; n != 3 {
		t.Errorf("the queue has %d replicas, want 3", n)
	}

	p1.kill()
	var o status
	eventually(t, "an order is taken with one of three lost", func() bool {
		a := s2.buy("bob@example.com", 1, "Idempotency-Key", "one")
		if a.code != 202 {
			a.problem(t, 503)
			return false
		}
		o = a.order(t)
		return true
	})
	eventually(t, "it is decided", func() bool { return s3.look(o).Status == "accepted" })
	again := serving(start("1"))
	eventually(t, "the lost instance knows what it missed", func() bool { return again.look(o).Status == "accepted" })
	again.auditGreen()
	again.terminate() // all together, as on Ctrl-C
	s2.terminate()
	s3.terminate()
	for _, s := range []*shop{again, s2, s3} {
		if code := s.exit(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
}

// Whatever YAML is in configs is a configuration, and holds no secret.
func TestExampleConfigurations(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"cluster.yaml", "cluster/1.yaml", "cluster/2.yaml", "cluster/3.yaml"} {
		cfg, err := loadConfig(configFile(file), nil)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if cfg.NATS.Replicas != 3 {
			t.Errorf("%s: %d replicas, want 3", file, cfg.NATS.Replicas)
		}
		if embedded := cfg.NATS.Embedded.Config; embedded != "" {
			if _, err := os.Stat(filepath.Join("..", "..", embedded)); err != nil {
				t.Error(err)
			}
		}
	}
}

// context writes a context of the nats CLI, and returns the variable that makes
// it found.
func (s *site) context(t *testing.T, user string) (environ string) {
	t.Helper()
	dir := t.TempDir()
	text, err := json.Marshal(map[string]string{"url": s.urls, "user": user, "password": user + password})
	if err == nil {
		err = os.MkdirAll(filepath.Join(dir, "nats", "context"), 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "nats", "context", user+".json"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return "XDG_CONFIG_HOME=" + dir
}
