package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// brokerBinary builds nats-server, once, from the module that firstcome embeds.
var brokerBinary = sync.OnceValues(func() (path string, err error) {
	path = filepath.Join(buildDir, "nats-server")
	out, err := exec.Command("go", "build", "-o", path, "github.com/nats-io/nats-server/v2").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, err
})

// cluster is three brokers, each a process with a store of its own, and three
// instances on top of them. Every route between two brokers runs through a link.
type cluster struct {
	t       *testing.T
	brokers [3]*node
	links   []*link
	shops   [3]atomic.Pointer[shop]
	urls    string // of the brokers
	config  string // of the instances
}

// node is a broker, whose address and store outlive its process.
type node struct {
	*process
	name, config string
	port, routes int
}

func newCluster(t *testing.T, random *rand.Rand, units int64) *cluster {
	t.Helper()
	c := &cluster{t: t}
	urls := make([]string, len(c.brokers))
	for i := range c.brokers {
		c.brokers[i] = &node{name: fmt.Sprintf("broker%d", i+1), port: freePort(t, random), routes: freePort(t, random)}
		urls[i] = fmt.Sprintf("nats://127.0.0.1:%d", c.brokers[i].port)
	}
	c.urls = strings.Join(urls, ",")
	for i, b := range c.brokers {
		var to []string
		for j, other := range c.brokers {
			if i != j {
				l := newLink(t, i, j, fmt.Sprintf("127.0.0.1:%d", other.routes))
				c.links = append(c.links, l)
				to = append(to, "nats://"+l.ln.Addr().String())
			}
		}
		b.config = filepath.Join(t.TempDir(), "nats.conf")
		// What a broker advertises to others is nowhere, so that no route goes past
		// the links.
		text := fmt.Sprintf(`server_name: %s
listen: "127.0.0.1:%d"
jetstream { store_dir: %q, sync_interval: always }
cluster { name: shop, listen: "127.0.0.1:%d", advertise: "127.0.0.1:1", routes: [ %q, %q ] }
`, b.name, b.port, t.TempDir(), b.routes, to[0], to[1])
		if err := os.WriteFile(b.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range c.brokers {
		c.startBroker(i)
	}
	c.config = filepath.Join(t.TempDir(), "firstcome.yaml")
	text := fmt.Sprintf("http: { listen: 127.0.0.1:0 }\nnats: { url: %q, replicas: 3 }\nproducts: [ { id: tshirt, stock: %d } ]\nlog: { level: debug }\n", c.urls, units)
	if err := os.WriteFile(c.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var starting [3]*process
	for i := range starting { // all at once: they provision at the same time
		starting[i] = launch(t, "serve", "--config", c.config)
	}
	for i, p := range starting {
		c.shops[i].Store(visitor(p))
	}
	return c
}

// givenPorts are those that freePort gave out: their owners may not listen yet, or
// may be down.
var givenPorts sync.Map

// freePort is a port below those that the system gives to outgoing connections,
// so that nobody takes it while its owner is down.
func freePort(t *testing.T, random *rand.Rand) int {
	t.Helper()
	for range 1000 {
		port := 20_000 + random.IntN(10_000)
		if _, given := givenPorts.LoadOrStore(port, true); given {
			continue
		}
		if ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			ln.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func (c *cluster) startBroker(i int) {
	c.t.Helper()
	path, err := brokerBinary()
	if err != nil {
		c.t.Fatal(err)
	}
	b := c.brokers[i]
	b.process = begin(c.t, exec.Command(path, "-c", b.config))
	b.await(`Server is ready`)
}

func (c *cluster) startShop(i int) {
	c.t.Helper()
	c.shops[i].Store(visitor(launch(c.t, "serve", "--config", c.config)))
}

// visitor waits until an instance is ready, and is the client of a crowd that
// gives up on a request after a while.
func visitor(p *process) *shop {
	s := serving(p)
	s.client.Timeout = 6 * time.Second
	return s
}

// admin asks the cluster as the nats CLI would, on a connection of its own.
func (c *cluster) admin(ask func(context.Context, jetstream.JetStream) error) error {
	nc, err := nats.Connect(c.urls, nats.Timeout(2*time.Second), nats.NoReconnect())
	if err != nil {
		return err
	}
	closed := nc.StatusChanged(nats.CLOSED)
	defer func() {
		nc.Close()
		<-closed
	}()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return ask(ctx, js)
}

// leader is the broker that leads the queue's stream.
func (c *cluster) leader() (broker int) {
	c.t.Helper()
	broker = -1
	eventually(c.t, "the queue has a leader", func() bool {
		err := c.admin(func(ctx context.Context, js jetstream.JetStream) error {
			stream, err := js.Stream(ctx, "ORDERS")
			if err != nil {
				return err
			}
			for i, b := range c.brokers {
				if b.name == stream.CachedInfo().Cluster.Leader {
					broker = i
				}
			}
			return nil
		})
		return err == nil && broker >= 0
	})
	return broker
}

// whole waits until every replica of everything is up to date, so that one more
// broker may be lost. A broker that was cut off may ask its leader over and over
// for what it missed and be sent something else ("Expected first catchup entry to
// be a snapshot"). Then it does what an operator would: it lets another broker
// lead, and if that does not help, restarts the one that is behind.
func (c *cluster) whole() {
	c.t.Helper()
	began := time.Now()
	var lag error
	defer func() {
		if c.t.Failed() && lag != nil {
			c.t.Logf("the cluster is not whole: %v", lag)
		}
	}()
	remedies := []func(*behindError){func(e *behindError) { c.stepDown(e.stream) }, func(e *behindError) { c.restart(e.replica) }}
	for remedy, help := range remedies {
		if c.soon(func() bool { lag = c.admin(lagging); return lag == nil }) {
			return
		}
		var behind *behindError
		if !errors.As(lag, &behind) {
			break
		}
		c.t.Logf("%v after %v, remedy %d", lag, time.Since(began).Round(time.Second), remedy+1)
		help(behind)
	}
	eventually(c.t, "all replicas are current", func() bool { lag = c.admin(lagging); return lag == nil })
}

// soon polls for half of one's patience.
func (c *cluster) soon(done func() bool) bool {
	for began := time.Now(); time.Since(began) < patience/2; time.Sleep(100 * time.Millisecond) {
		if done() {
			return true
		}
	}
	return false
}

func (c *cluster) restart(broker string) {
	c.t.Helper()
	for i, b := range c.brokers {
		if b.name == broker {
			b.terminate()
			b.exit()
			c.startBroker(i)
		}
	}
}

// stepDown has a stream elect another leader, as `nats stream cluster step-down` does.
func (c *cluster) stepDown(stream string) {
	c.t.Helper()
	err := c.admin(func(ctx context.Context, js jetstream.JetStream) error {
		_, err := js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+stream, nil)
		return err
	})
	if err != nil {
		c.t.Error(err)
	}
}

// lagging looks for a replica that is not up to date.
func lagging(ctx context.Context, js jetstream.JetStream) error {
	for _, name := range []string{"ORDERS", "KV_stock", "DEAD"} {
		stream, err := js.Stream(ctx, name)
		if err != nil {
			return err
		}
		if err := current(name, stream.CachedInfo().Cluster); err != nil {
			return err
		}
	}
	consumer, err := js.Consumer(ctx, "ORDERS", "tshirt")
	if err != nil {
		return err
	}
	return current("ORDERS", consumer.CachedInfo().Cluster)
}

func current(stream string, info *jetstream.ClusterInfo) error {
	if info == nil || info.Leader == "" || len(info.Replicas) != 2 {
		return fmt.Errorf("%s has no leader with two replicas", stream)
	}
	for _, r := range info.Replicas {
		if !r.Current || r.Offline {
			return &behindError{stream, r.Name}
		}
	}
	return nil
}

type behindError struct{ stream, replica string }

func (e *behindError) Error() string {
	return fmt.Sprintf("%s: the replica at %s is behind", e.stream, e.replica)
}

var decidedMetric = regexp.MustCompile(`(?m)^firstcome_orders_total\{outcome="accepted",product="tshirt"\} (\S+)$`)

// decider is the instance that decides orders now.
func (c *cluster) decider() (instance int) {
	c.t.Helper()
	count := func() (counts [3]float64) {
		for i := range c.shops {
			s := c.shops[i].Load()
			if found := decidedMetric.FindSubmatch(s.get("http://" + s.ops + "/metrics").body); found != nil {
				counts[i], _ = strconv.ParseFloat(string(found[1]), 64) // Prometheus wrote it
			}
		}
		return counts
	}
	eventually(c.t, "exactly one instance decides", func() bool {
		before := count()
		time.Sleep(300 * time.Millisecond)
		deciding := 0
		for i, n := range count() {
			if n > before[i] {
				deciding++
				instance = i
			}
		}
		return deciding == 1
	})
	return instance
}

// isolate does something to every link of a broker.
func (c *cluster) isolate(broker int, how func(*link)) {
	for _, l := range c.links {
		if l.from == broker || l.to == broker {
			how(l)
		}
	}
}
