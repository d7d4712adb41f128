package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A broker that is cut off from the others keeps its clients, which then talk to nobody:
// it is for them to leave.
const (
	// isolationProbe is how often each connection asks for leaders.
	isolationProbe = 2 * time.Second
	// isolationPatience is how long it may get no good answer. Most elections of a
	// leader are over by then (they take 4 to 9 s), and a client that leaves during one has
	// lost nothing but a moment.
	isolationPatience = 8 * time.Second
	// unheard is after how long a leader has lost a replica, which answers it every
	// second; the leader itself steps down much later, after 10 to 20 s.
	unheard = 4 * time.Second
)

// LeaveIsolated moves a connection to another broker whenever its own has not
// reached any leader with a quorum for 8 s, until ctx ends. With an embedded server
// there is nowhere to go, and it returns at once.
func (c *Conn) LeaveIsolated(ctx context.Context) {
	if c.embedded {
		return
	}
	var both sync.WaitGroup
	defer both.Wait()
	for nc, js := range map[*nats.Conn]jetstream.JetStream{c.orders: c.js, c.broadcast: c.feed} {
		w := isolationWatch{nc: nc, reaches: func(ctx context.Context) bool { return reaches(ctx, js) },
			leave: func() {
				c.log.Warn("leaving a NATS server that has no quorum", "server", nc.ConnectedServerName())
				if err := nc.ForceReconnect(); err != nil {
					c.log.Debug("the connection was closed meanwhile", "err", err)
				}
			}}
		both.Go(func() { w.run(ctx, isolationProbe, isolationPatience) })
	}
}

// isolationWatch looks after one connection.
type isolationWatch struct {
	nc      *nats.Conn
	reaches func(context.Context) bool
	leave   func()
}

// run asks every so often, and leaves after so long without a good answer.
func (w *isolationWatch) run(ctx context.Context, every, patience time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for good := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		asking, cancel := context.WithTimeout(ctx, every)
		// While disconnected, the connection looks for another broker by itself.
		fine := !w.nc.IsConnected() || w.reaches(asking)
		cancel()
		switch {
		case fine, len(w.nc.Servers()) < 2:
			good = time.Now()
		case ctx.Err() == nil && time.Since(good) >= patience:
			w.leave()
			good = time.Now()
		}
	}
}

// reaches asks for every stream's leader, since one that is being elected says
// nothing of the broker that is asked: one that reaches another is not cut off.
func reaches(ctx context.Context, js jetstream.JetStream) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	streams := []string{ordersStream, stockStream, deadStream}
	answers := make(chan bool, len(streams))
	for _, name := range streams {
		go func() { answers <- reachesLeader(ctx, js, name) }()
	}
	any := false
	for range streams {
		if <-answers {
			any = true
			cancel() // the others
		}
	}
	return any
}

func reachesLeader(ctx context.Context, js jetstream.JetStream, name string) bool {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return refusal(err)
	}
	return trusted(stream.CachedInfo().Cluster) == nil
}

// refusal tells an answer that says no, which only somebody with a quorum gives,
// from none, or one that says that nobody leads.
func refusal(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.Code < 500
}

// errNoLeader and errNoQuorum are why a stream's state, as somebody gave it, proves
// nothing: there may be a leader elsewhere that has stored more (P3).
var (
	errNoLeader = errors.New("a replica answered that knows of no leader")
	errNoQuorum = errors.New("its leader does not hear a majority of the servers")
)

// head is a stream's state by the word of a leader that a majority hears. A server
// answers for a stream also while it knows of no leader.
func head(ctx context.Context, stream jetstream.Stream) (*jetstream.StreamInfo, error) {
	info, err := stream.Info(ctx)
	if err == nil {
		err = trusted(info.Cluster)
	}
	if err != nil {
		return nil, fmt.Errorf("head of %s: %w", stream.CachedInfo().Config.Name, err)
	}
	return info, nil
}

// trusted tells what makes an answer's state worthless, nil if nothing does.
func trusted(info *jetstream.ClusterInfo) error {
	if info != nil && info.Leader == "" {
		return errNoLeader
	}
	if !quorate(info) {
		return errNoQuorum
	}
	return nil
}

// quorate tells whether a leader hears a majority: one that was cut off goes on
// answering for a while.
func quorate(info *jetstream.ClusterInfo) bool {
	if info == nil {
		return true // a single server
	}
	heard := 1
	for _, r := range info.Replicas {
		if !r.Offline && r.Active < unheard {
			heard++
		}
	}
	return 2*heard > len(info.Replicas)+1
}
