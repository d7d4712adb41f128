package sale

import (
	"errors"
	"strings"
	"testing"
)

func TestWitness(t *testing.T) {
	const before, now, after = "2026-03-01T08:00:00Z", "2026-03-01T09:00:00+01:00", "2026-03-01T08:00:00.000000001Z"
	for _, c := range []struct {
		witness Witness
		newest  Position
		want    string // "": nothing is wrong
	}{
		{Witness{Epoch: before}, Position{Epoch: before}, ""}, // nothing happened yet
		{Witness{Epoch: before, Acked: 7, Last: 9, Mark: 9}, Position{before, 7}, ""},
		{Witness{Epoch: before, Acked: 6, Last: 7, Mark: 7}, Position{before, 7}, ""}, // the acknowledgement was lost
		{Witness{Epoch: before, Acked: 0, Last: 9, Mark: 3}, Position{before, 7}, ""}, // a consumer that was just made
		{Witness{Epoch: before, Acked: 8, Last: 9}, Position{before, 7}, "the history is behind: it ends at message 7 and message 8 was settled, 1 more"},
		{Witness{Epoch: before, Acked: 9, Last: 9}, Position{before, 0}, "the history is behind: it ends at message 0 and message 9 was settled, 9 more"},
		{Witness{Epoch: before, Acked: 3, Last: 6}, Position{before, 7}, "the queue is behind: it ends at message 6 and the history has settled message 7, 1 more"},
		{Witness{Epoch: before, Last: 9, Mark: 10}, Position{before, 7}, "the queue is behind: it ends at message 9 and had confirmed message 10, 1 more"},
		{Witness{Epoch: after, Last: 9, Mark: 10}, Position{before, 7}, "the queue is behind: it ends at message 9 and had confirmed message 10, 1 more"},
		// Across epochs sequences say nothing.
		{Witness{Epoch: after, Acked: 8, Last: 9, Mark: 9}, Position{before, 7}, ""},
		{Witness{Epoch: after, Last: 2}, Position{before, 7}, ""},
		{Witness{Epoch: after, First: 8, Acked: 7, Last: 9}, Position{before, 7}, ""}, // nothing of the epoch is settled yet
		{Witness{Epoch: after, First: 8, Acked: 9, Last: 9}, Position{before, 7}, "the history is behind: it has nothing of the queue since message 8 and message 9 was settled, 2 more"},
		{Witness{Epoch: before, Acked: 7, Last: 9}, Position{after, 7}, "the queue is behind: it is of " + before + ", and the history has settled messages of " + after},
		{Witness{Epoch: "no time", Acked: 7, Last: 9}, Position{after, 1}, ""},
		{Witness{Epoch: before, Acked: 7, Last: 9}, Position{"no time", 1}, ""},
		{Witness{Epoch: before, Acked: 7, Last: 9}, Position{now, 1}, ""}, // the same time, and another epoch
	} {
		err := c.witness.Check(c.newest)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%+v and %+v: %v", c.witness, c.newest, err)
		case c.want != "" && (!errors.Is(err, ErrBehind) || !strings.HasPrefix(err.Error(), c.want) || !strings.Contains(err.Error(), "firstcome repair")):
			t.Errorf("%+v and %+v: %v, want %q", c.witness, c.newest, err, c.want)
		}
	}
}
