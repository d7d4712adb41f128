package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// afterError is how long a buyer rests after an answer that is neither 202 nor
// 409, or none at all: a server in trouble is not to be measured by how fast it
// says so.
const afterError = 10 * time.Millisecond

const (
	digits     = 9
	mailDomain = "@mail.example.com"
)

// address is buyer number n of this run; every run has its own prefix, so that
// runs do not meet in one buyer's orders or limit.
func address(prefix string, n int64) string {
	return fmt.Sprintf("%s%0*d%s", prefix, digits, n, mailDomain)
}

// receipt is what Check remembers of an order that was answered 202.
type receipt struct {
	id       uuid.UUID
	buyer    int64         // number of its address
	sent     time.Duration // since the start of the phase, as the next
	answered time.Duration
	place    int64   // as told on the socket
	outcome  outcome // as told on the socket; unknown: not told
}

// buyer is one connection and, where the mode has them, its socket. It belongs
// to one goroutine.
type buyer struct {
	load    *load
	link    link
	socket  *socket // nil: no socket
	turn    int     // which instance the link goes to next
	timer   *time.Timer
	number  int64
	request []byte
	patch   []byte // the address's digits inside request

	last     receipt // the latest order that was answered 202
	receipts []receipt
	index    map[uuid.UUID]int // into receipts; only with a socket
}

func newBuyer(c *load, number int64) *buyer {
	b := &buyer{load: c, number: number, turn: int(number), timer: time.NewTimer(time.Hour)}
	b.timer.Stop()
	b.nextInstance()
	body := `{"email":"` + address(c.prefix, number) + `"`
	if c.product != "" {
		body += `,"product":"` + c.product + `"`
	}
	body += "}"
	b.request = []byte("POST /buy HTTP/1.1\r\nHost: " + b.link.at.addr +
		"\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n")
	at := len(b.request) + len(`{"email":"`) + len(c.prefix)
	b.request = append(b.request, body...)
	b.patch = b.request[at : at+digits]
	if c.sockets {
		b.socket = &socket{
			instances: c.instances, turn: int(number), email: address(c.prefix, number), timeout: c.timeout,
			heard: make(chan told, heardAhead), lost: c.counts.trouble,
		}
		if c.verdict != nil {
			b.index = map[uuid.UUID]int{}
		}
	}
	return b
}

func (b *buyer) nextInstance() {
	b.link.at = b.load.instances[b.turn%len(b.load.instances)]
	b.link.timeout = b.load.timeout
	b.turn++
}

// become makes the next order one of buyer n.
func (b *buyer) become(n int64) {
	b.number = n
	for i := digits - 1; i >= 0; i-- {
		b.patch[i] = byte('0' + n%10)
		n /= 10
	}
}

// work orders until the schedule has no more. In the closed loop the way back
// here goes through the outcome.
func (b *buyer) work(ctx context.Context) {
	for {
		n, due, ok := b.load.schedule.take(ctx)
		if !ok {
			return
		}
		if b.load.unique {
			b.become(n)
		}
		b.order(ctx, due)
		b.load.counts.ended.Add(1)
	}
}

func (b *buyer) order(ctx context.Context, due time.Time) {
	c := b.load
	if err := b.link.connect(ctx); err != nil {
		b.fail(ctx, "connect: "+kindOf(err, c.timeout), false)
		b.nextInstance()
		return
	}
	sent := time.Now()
	if c.schedule.rate > 0 {
		c.counts.late(sent.Sub(due))
	}
	a, err := b.link.do(b.request, sent)
	now := time.Now()
	switch {
	case err != nil:
		b.fail(ctx, kindOf(err, c.timeout), true)
	case a.status == 409:
		c.counts.answered(true, now.Sub(due))
		if a.limited() {
			c.counts.overLimit()
		}
	case a.status == 202:
		if c.shut {
			c.schedule.stop() // the stock is not there to be bought by a measurement
		}
		status, ok := parseStatus(member(a.body, "order"))
		if !ok {
			b.fail(ctx, "answer 202 without a readable order", true)
			return
		}
		c.counts.answered(false, now.Sub(due))
		b.last = receipt{id: status.id, buyer: b.number, sent: sent.Sub(c.schedule.start), answered: now.Sub(c.schedule.start)}
		if c.verdict != nil {
			if b.index != nil {
				b.index[status.id] = len(b.receipts)
			}
			b.receipts = append(b.receipts, b.last)
		}
		if b.socket != nil {
			b.await(ctx, due)
		}
	default:
		b.fail(ctx, a.refusedAs(), a.uncertain())
	}
}

func (b *buyer) fail(ctx context.Context, kind string, uncertain bool) {
	if ctx.Err() != nil {
		return // the run was ended, which is nobody's error
	}
	b.load.counts.failed(kind, uncertain)
	pause(ctx, afterError)
}

// await waits for the outcome of the last order. It may have come before the
// answer; then it waits in the channel.
func (b *buyer) await(ctx context.Context, due time.Time) {
	b.timer.Reset(b.load.timeout)
	for {
		select {
		case t := <-b.socket.heard:
			b.remember(t)
			if t.id == b.last.id {
				b.load.counts.decided(t.outcome, t.at.Sub(due))
				return
			}
		case <-b.timer.C:
			b.load.counts.trouble(fmt.Sprintf("no outcome in %s", b.load.timeout))
			return
		case <-ctx.Done():
			return
		}
	}
}

// remember notes an outcome for Check. Hearing the same twice is allowed (a
// reconnect repeats), hearing two different ones is not.
func (b *buyer) remember(t told) {
	i, mine := b.index[t.id]
	if !mine {
		return
	}
	r := &b.receipts[i]
	if r.outcome != unknown && (r.outcome != t.outcome || r.place != t.place) {
		b.load.verdict.broken(P4, "order %s was %s at place %d, then %s at place %d on the socket", t.id, r.outcome, r.place, t.outcome, t.place)
	}
	r.outcome, r.place = t.outcome, t.place
}

// overhear takes what arrived on the socket after the last outcome that was
// waited for. The socket must be closed.
func (b *buyer) overhear() {
	if b.socket == nil {
		return
	}
	for {
		select {
		case t := <-b.socket.heard:
			b.remember(t)
		default:
			return
		}
	}
}

var errNotFound = errors.New("not found")

// status asks for one order by GET.
func (b *buyer) status(ctx context.Context, r receipt) (orderStatus, error) {
	if err := b.link.connect(ctx); err != nil {
		b.nextInstance()
		return orderStatus{}, err
	}
	request := "GET /orders/" + r.id.String() + "?email=" + b.load.prefix + fmt.Sprintf("%0*d", digits, r.buyer) + "%40" + mailDomain[1:] +
		" HTTP/1.1\r\nHost: " + b.link.at.addr + "\r\n\r\n"
	a, err := b.link.do([]byte(request), time.Now())
	switch {
	case err != nil:
		return orderStatus{}, err
	case a.status == 404:
		return orderStatus{}, errNotFound
	case a.status != 200:
		return orderStatus{}, errors.New(a.refusedAs())
	}
	status, ok := parseStatus(a.body)
	if !ok || status.id != r.id {
		return orderStatus{}, fmt.Errorf("not the order's status: %.200q", a.body)
	}
	return status, nil
}
