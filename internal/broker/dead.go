package broker

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// DeadLetters implements sale.DeadLetters with the stream DEAD.
type DeadLetters struct {
	js  jetstream.JetStream
	max int // bytes of a body
}

// NewDeadLetters makes the dead letters' writer.
func NewDeadLetters(c *Conn) *DeadLetters {
	return &DeadLetters{js: c.js, max: int(c.orders.MaxPayload()) - deadHeaders}
}

// deadHeaders is room for the headers: a line as long as a message may be must
// still be buried, or it would stop the line for good.
const deadHeaders = 4 << 10

// Bury implements sale.DeadLetters. A body that leaves no room for the headers is
// cut, and its reason says so.
func (d *DeadLetters) Bury(ctx context.Context, l sale.DeadLetter) error {
	msg := nats.NewMsg(deadPrefix + string(l.Product))
	msg.Data = l.Raw
	if len(msg.Data) > d.max {
		msg.Data = msg.Data[:d.max]
		l.Reason += fmt.Sprintf(" (cut from %d bytes)", len(l.Raw))
	}
	seq, line := strconv.FormatUint(l.Seq, 10), strconv.Itoa(l.Line)
	msg.Header.Set(headerReason, l.Reason)
	msg.Header.Set(headerSeq, seq)
	msg.Header.Set(headerLine, line)
	msg.Header.Set(headerAt, time.Now().UTC().Format(time.RFC3339Nano))
	msg.Header.Set(jetstream.MsgIDHeader, l.Epoch+"-"+seq+"-"+line)
	_, err := d.js.PublishMsg(ctx, msg, jetstream.WithExpectStream(deadStream))
	return err
}
