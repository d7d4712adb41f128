package broker

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// brokenAfter is how long writes to a stream of an embedded server may fail, while the
// server answers, until its store counts as broken: a write error stays with it until the
// server is started again.
const brokenAfter = 10 * time.Second

// OnBrokenStore has f called once a store that only this process has cannot be written
// to any more. It must be set before orders are taken, and f must not block.
func (c *Conn) OnBrokenStore(f func(error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onBroken = f
}

// noteWrite notes how a write to a stream ended. Only the server's word that it could not
// store counts as a failure: a limit that was met is its owner's to raise, and whoever
// did not answer may yet do so.
func (c *Conn) noteWrite(stream string, err error) {
	if !c.embedded {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	since, failing := c.failing[stream]
	switch {
	case err == nil:
		if failing {
			delete(c.failing, stream)
		}
	case !isStoreError(err):
	case !failing:
		if c.failing == nil {
			c.failing = map[string]time.Time{}
		}
		c.failing[stream] = time.Now()
	case time.Since(since) > brokenAfter && c.onBroken != nil:
		c.onBroken(fmt.Errorf("the embedded store cannot write to stream %s since %s: %w", stream, since.UTC().Format(time.RFC3339), err))
		c.onBroken = nil
	}
}

// storeFailed is the server's JSStreamStoreFailedF: a limit was met or a write failed,
// and the description says which.
const storeFailed jetstream.ErrorCode = 10077

// isStoreError tells a store that cannot write from one that may not. A server that has
// switched its JetStream off, for want of space, answers for no stream.
func isStoreError(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.ErrorCode == storeFailed && !isLimit(api)
	}
	return errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders)
}

// isLimit tells an error that says that a stream is full.
func isLimit(api *jetstream.APIError) bool { return strings.Contains(api.Description, "maximum") }

// Limits of an account or a server, by the server's codes, and what their owner can do.
// Waiting does not raise them.
var limitCodes = map[jetstream.ErrorCode]string{
	10002: "raise the account's JetStream limits",
	10023: "give the server more JetStream storage, or fewer replicas",
	10026: "allow the account a consumer for every product",
	10027: "allow the account three streams: ORDERS, KV_stock and DEAD",
	10028: "give the server more JetStream memory",
	10047: "raise the account's or the server's max_file",
	10074: "set nats.replicas to 1, or run a cluster",
	10113: "let the account have streams without max_bytes, or make the streams by hand with --max-bytes and everything else as the documents say",
	10122: "raise the account's max_stream_bytes",
}

// ErrLimit is wrapped where an account or a server allows less than firstcome needs.
var ErrLimit = errors.New("a limit of NATS is in the way")

// limitError adds to a limit's code what to do about it.
func limitError(err error) error {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return err
	}
	what, known := limitCodes[api.ErrorCode]
	if !known {
		return err
	}
	return fmt.Errorf("%w: %w: %s", err, ErrLimit, what)
}
