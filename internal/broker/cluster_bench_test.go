package broker_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/broker"
)

// These benchmarks are the path of flow_bench_test.go on three brokers in this
// process, which share its cores and its disk. Compare figures of one run only.

// BenchmarkReplicas: the same flood with one copy of everything on one server,
// with one copy on a cluster of three, and with three copies.
func BenchmarkReplicas(b *testing.B) {
	for _, c := range []struct {
		on       *site
		replicas int
	}{{one, 1}, {three, 1}, {three, 3}} {
		for _, buyers := range []int{256, 2048} {
			b.Run(fmt.Sprintf("servers=%d/replicas=%d/buyers=%d", c.on.nodes, c.replicas, buyers), func(b *testing.B) {
				benchmarkSite(b, c.on, c.replicas, 1, 1, buyers)
			})
		}
	}
}

// BenchmarkInstances: three copies, the same buyers at one, two and three
// instances. One of them decides.
func BenchmarkInstances(b *testing.B) {
	for _, instances := range []int{1, 2, 3} {
		for _, buyers := range []int{256, 2048} {
			b.Run(fmt.Sprintf("instances=%d/buyers=%d", instances, buyers), func(b *testing.B) {
				benchmarkSite(b, three, 3, instances, 1, buyers)
			})
		}
	}
}

// BenchmarkReplicatedProducts: three copies, one instance, and the same flood on
// one product and on a hundred, as in BenchmarkProducts.
func BenchmarkReplicatedProducts(b *testing.B) {
	for _, products := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("products=%d", products), func(b *testing.B) {
			benchmarkSite(b, three, 3, 1, products, 50_000)
		})
	}
}

func benchmarkSite(b *testing.B, s *site, replicas, instances, products, buyers int) {
	if err := s.start(); err != nil {
		b.Fatal(err)
	}
	user := <-s.free
	defer func() {
		account := broker.Options{InProcess: s.servers[0], User: user, Password: user}
		if err := deleteStreams(account); err != nil {
			b.Error(err)
		}
		s.free <- user
	}()
	rigs := make([]*rig, instances)
	for i := range rigs { // each at another broker
		rigs[i] = openRig(b, broker.Options{InProcess: s.servers[i%s.nodes], User: user, Password: user}, replicas, products)
		defer rigs[i].close(b)
		rigs[i].work()
	}
	b.ResetTimer()
	placeAt(b, rigs, buyers, b.N)
	groups := rigs[0].drain(b, uint64(b.N))
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decided/s")
	b.ReportMetric(float64(b.N)/float64(groups), "orders/group")
}

// deleteStreams leaves the account as it was found.
func deleteStreams(o broker.Options) error {
	nc, err := nats.Connect("", nats.InProcessServer(o.InProcess), nats.UserInfo(o.User, o.Password))
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return clearAccount(ctx, js)
}
