package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// puller asks a product's consumer for one message at a time, by the pull protocol
// of NATS (ADR-13, with ADR-42's pinned clients). It is ours and not nats.go's
// because of what anybody may publish: nats.go takes a message without a body for a
// word of the server's if it has a header Status, and passes over it, so that it
// would stand in the queue for ever and hold up the product (P3, P5). Here a message
// is an order message if it comes with a subject to acknowledge it on, which the
// server's own words never do.
type puller struct {
	nc      *nats.Conn
	ask     string // subject of the request
	inbox   string // each pull has an answer subject under it
	sub     *nats.Subscription
	arrived chan *nats.Msg
	back    chan struct{} // has room for one: the connection was lost, and with it the pull
	expiry  time.Duration // of a pull
	pulls   uint64
	current string    // answer subject of the newest
	heard   time.Time // last sign of it; zero: it does not wait at the server any more
	pin     string    // as the server named it; "": none yet
}

// beatsPerPull is how often the server is heard while a pull waits. When it has been
// silent for two beats the pull is lost.
const beatsPerPull = 3

const (
	// arrivals is room for one message and what the server says of a few pulls. What
	// finds it full is dropped by the client: a word is missed, a message comes again.
	arrivals = 64

	ackPrefix = "$JS.ACK."

	headerStatus      = "Status"
	headerDescription = "Description"
	headerPin         = "Nats-Pin-Id"

	// The server's words (ADR-13).
	statusBeat     = "100"
	statusNone     = "404" // no message
	statusExpired  = "408"
	statusConflict = "409" // the consumer is gone or moved, or the server stops
	statusWrongPin = "423"

	handBackTime = time.Second            // for a stopping holder's last messages
	answerTime   = time.Second            // for what was on its way to him
	askAgain     = 100 * time.Millisecond // after a conflict
)

// newPuller begins to listen. back is told of every reconnect.
func newPuller(nc *nats.Conn, product sale.ProductID, expiry time.Duration, back chan struct{}) (*puller, error) {
	p := &puller{nc: nc, expiry: expiry, ask: "$JS.API.CONSUMER.MSG.NEXT." + ordersStream + "." + string(product),
		arrived: make(chan *nats.Msg, arrivals), back: back}
	p.inbox = nc.NewInbox() + "."
	var err error
	if p.sub, err = nc.ChanSubscribe(p.inbox+"*", p.arrived); err != nil {
		return nil, err
	}
	return p, nil
}

// Why there is no pull at the server any more.
var (
	errLost   = errors.New("the connection was lost")
	errSilent = errors.New("the server is silent")
)

// next waits for a message until ctx ends, whose error it returns then, or
// jetstream.ErrNoHeartbeat if the server was silent all the while.
func (p *puller) next(ctx context.Context) (*nats.Msg, error) {
	silent := false
	for {
		if !p.waits() {
			if err := p.request(); err != nil && !disconnected(err) {
				return nil, err
			}
			p.heard = time.Now() // disconnected, it is lost like any other
		}
		msg, err := p.hear(ctx)
		switch {
		case err == errLost || err == errSilent:
			p.heard = time.Time{}
			silent = silent || err == errSilent
		case err != nil && silent:
			return nil, jetstream.ErrNoHeartbeat
		case err != nil:
			return nil, err
		case isOrders(msg):
			p.heard = time.Time{}
			if pin := last(msg.Header, headerPin); pin != "" {
				p.pin = pin
			}
			return msg, nil
		default:
			silent = false
			if err := p.word(ctx, msg); err != nil {
				return nil, err
			}
		}
	}
}

func isOrders(msg *nats.Msg) bool { return strings.HasPrefix(msg.Reply, ackPrefix) }

// last is a header's newest value: the server writes its own behind those of the
// publisher, which may be anything.
func last(h nats.Header, key string) string {
	if values := h[key]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

// request sends a pull for one message.
func (p *puller) request() error {
	ask := fmt.Appendf(nil, `{"batch":1,"expires":%d,"idle_heartbeat":%d,"group":%q`, p.expiry, p.expiry/beatsPerPull, deciders)
	if p.pin != "" {
		ask = append(append(ask, `,"id":`...), strconv.Quote(p.pin)...)
	}
	p.pulls++
	p.current = p.inbox + strconv.FormatUint(p.pulls, 10)
	return p.nc.PublishRequest(p.ask, p.current, append(ask, '}'))
}

// hear waits for whatever comes.
func (p *puller) hear(ctx context.Context) (*nats.Msg, error) {
	select {
	case msg := <-p.arrived: // before any reason to stop: it is in hand already
		return msg, nil
	default:
	}
	timer := time.NewTimer(time.Until(p.heard.Add(2 * p.expiry / beatsPerPull)))
	defer timer.Stop()
	select {
	case msg := <-p.arrived:
		return msg, nil
	case <-timer.C:
		return nil, errSilent
	case <-p.back:
		return nil, errLost
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// word takes what the server says of a pull. Its error means that the consumer
// must be looked for again.
func (p *puller) word(ctx context.Context, msg *nats.Msg) error {
	if msg.Subject != p.current {
		return nil // of one that was given up
	}
	p.heard = time.Time{}
	description := msg.Header.Get(headerDescription)
	switch status := msg.Header.Get(headerStatus); {
	case status == statusBeat:
		p.heard = time.Now()
	case status == statusNone, status == statusExpired:
	case status == statusWrongPin:
		p.pin = "" // it ran out
	case status == statusConflict && !strings.Contains(strings.ToLower(description), "consumer"):
		pausing, cancel := context.WithTimeout(ctx, askAgain) // a new leader is being elected
		defer cancel()
		<-pausing.Done()
	default:
		return fmt.Errorf("the server answers a pull with %s %s", status, description)
	}
	return nil
}

func (p *puller) waits() bool { return !p.heard.IsZero() }

// close stops, and gives what nobody took to handBack. A pull that waits is first
// given that much time to be answered.
func (p *puller) close(answer time.Duration, handBack func(*nats.Msg)) {
	timer := time.NewTimer(answer)
	defer timer.Stop()
	for waits := answer > 0 && p.waits(); waits; {
		select {
		case msg := <-p.arrived:
			if isOrders(msg) {
				handBack(msg)
				waits = false
			} else if msg.Subject == p.current {
				waits = msg.Header.Get(headerStatus) == statusBeat
			}
		case <-timer.C:
			waits = false
		}
	}
	closed := p.sub.StatusChanged(nats.SubscriptionClosed)
	if err := p.sub.Drain(); err != nil {
		return // the connection is closed, and the server knows
	}
	timer.Reset(handBackTime)
	for open := true; open || len(p.arrived) > 0; {
		select {
		case msg := <-p.arrived:
			if isOrders(msg) {
				handBack(msg)
			}
		case <-closed:
			open, closed = false, nil
		case <-timer.C:
			open = false
			_ = p.sub.Unsubscribe() // fails only if it is closed by now
		}
	}
}
