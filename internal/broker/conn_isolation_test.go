package broker

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/natsd"
)

// A broker without JetStream answers what one answers that is cut off from all
// the others: nothing. The connection ends up on the other one, and stays.
func TestConnectionLeavesIsolatedBroker(t *testing.T) {
	t.Parallel()
	deaf := withoutJetStream(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	well, err := natsd.Start(ctx, natsd.Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer well.Stop(ctx)

	moved := make(chan string, 8)
	nc, err := nats.Connect(deaf.ClientURL()+","+well.ClientURL(), nats.DontRandomize(),
		nats.ReconnectHandler(func(nc *nats.Conn) { moved <- nc.ConnectedUrl() }))
	if err != nil {
		t.Fatal(err)
	}
	closed := nc.StatusChanged(nats.CLOSED)
	defer func() {
		nc.Close()
		<-closed
	}()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	const probe = 20 * time.Millisecond
	left, asked := 0, make(chan bool, 1000)
	w := isolationWatch{nc: nc, leave: func() {
		left++
		if err := nc.ForceReconnect(); err != nil {
			t.Error(err)
		}
	}, reaches: func(context.Context) bool {
		fine := reaches(ctx, js) // both answer, if slowly: it is not the time that is tested
		select {
		case asked <- fine:
		default:
		}
		return fine
	}}
	watching, end := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { w.run(watching, probe, 5*probe) })
	defer done.Wait()
	defer end()

	select {
	case url := <-moved:
		if url != well.ClientURL() {
			t.Errorf("the connection moved to %s, not to %s", url, well.ClientURL())
		}
	case <-ctx.Done():
		t.Fatal("the connection stayed where nobody answers")
	}
	for good := 0; good < 20; { // four times the patience
		if <-asked {
			good++
		}
	}
	end()
	done.Wait()
	if left != 1 {
		t.Errorf("the connection was moved %d times", left)
	}
}

func TestQuorate(t *testing.T) {
	t.Parallel()
	heard := &jetstream.PeerInfo{Active: time.Second}
	silent := &jetstream.PeerInfo{Active: unheard}
	offline := &jetstream.PeerInfo{Offline: true}
	for name, test := range map[string]struct {
		info *jetstream.ClusterInfo
		want bool
	}{
		"a single server":    {nil, true},
		"one replica":        {&jetstream.ClusterInfo{}, true},
		"both heard":         {&jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{heard, heard}}, true},
		"one of two silent":  {&jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{heard, silent}}, true},
		"one of two offline": {&jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{offline, heard}}, true},
		"both silent":        {&jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{silent, silent}}, false},
		"nobody left":        {&jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{silent, offline}}, false},
	} {
		if got := quorate(test.info); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	for want, errs := range map[bool][]error{
		true: {jetstream.ErrStreamNotFound},
		false: {context.DeadlineExceeded, nats.ErrNoResponders,
			&jetstream.APIError{Code: 503, ErrorCode: 10008, Description: "JetStream system temporarily unavailable"}},
	} {
		for _, err := range errs {
			if got := refusal(err); got != want {
				t.Errorf("%v: %v", err, got)
			}
		}
	}
}
