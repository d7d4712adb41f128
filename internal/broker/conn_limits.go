package broker

import (
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// storeFailed is the server's JSStreamStoreFailedF: a stream's own limit was met, and the
// description says which.
const storeFailed jetstream.ErrorCode = 10077

// noPeers is the server's JSClusterNoPeersErrF: a cluster refuses a stream while it knows
// too few of its servers.
const noPeers jetstream.ErrorCode = 10005

// isFull tells whether a stream has no room for a message.
func isFull(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == storeFailed && strings.Contains(api.Description, "maximum")
}

// isLimit tells whether a stream, an account or a server allows no more.
func isLimit(err error) bool {
	var api *jetstream.APIError
	return isFull(err) || errors.As(err, &api) && limitCodes[api.ErrorCode] != ""
}

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
	if api.ErrorCode == noPeers { // servers that are away may come back
		return fmt.Errorf("%w: fewer servers are there than nats.replicas asks for", err)
	}
	what, known := limitCodes[api.ErrorCode]
	if !known {
		return err
	}
	return fmt.Errorf("%w: %w: %s", err, ErrLimit, what)
}
