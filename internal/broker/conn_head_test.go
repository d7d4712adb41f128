package broker

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A stream's state counts by the word of its leader alone, and of one that a
// majority hears.
func TestHeadIsALeadersWord(t *testing.T) {
	t.Parallel()
	heard, silent := &jetstream.PeerInfo{Active: time.Second}, &jetstream.PeerInfo{Active: time.Minute}
	for name, test := range map[string]struct {
		info *jetstream.ClusterInfo
		want error
	}{
		"a single server":         {nil, nil},
		"one replica":             {&jetstream.ClusterInfo{Leader: "a"}, nil},
		"a leader":                {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{heard, silent}}, nil},
		"a leader without others": {&jetstream.ClusterInfo{Leader: "a", Replicas: []*jetstream.PeerInfo{silent, silent}}, errNoQuorum},
		"a replica":               {&jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{heard, heard, heard}}, errNoLeader},
	} {
		if err := trusted(test.info); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}
