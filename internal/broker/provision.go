package broker

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// Layout is what must exist in JetStream before a sale.
type Layout struct {
	Replicas    int
	MaxMessages int64 // queue messages; a full queue refuses orders
	Products    []sale.Stock
}

// Beat is how often a message in hand must be reported as in progress.
const Beat = ackWait / 3

const (
	ackWait = 5 * time.Second // to a redelivery
	// pullExpiry is how long one pull waits at the server, pinTTL how long a
	// product stays with a worker that does not pull: longer than a pull and the
	// usual handling, since only a pull renews the pin.
	pullExpiry = 3 * time.Second
	pinTTL     = 5 * time.Second

	maxConsumers = 10_000 // of a stream; the server's own default is 1,000, watchers counted
	history      = 64     // stock values kept per product
	deadWindow   = time.Hour
	// minPayload must fit a full group: sale.MaxLines orders with long addresses.
	minPayload = 1 << 20
)

func (l Layout) streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{{
		Name:        ordersStream,
		Description: "orders that wait for their decision, one durable consumer per product",
		Retention:   jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, Replicas: l.Replicas,
		Discard: jetstream.DiscardNew, MaxMsgs: l.MaxMessages,
		DenyDelete: true, DenyPurge: true, AllowDirect: true, MaxConsumers: maxConsumers,
		RePublish: &jetstream.RePublish{Source: "orders.*", Destination: "line.{{wildcard(1)}}"},
	}, {
		Name:        ledgerStream,
		Description: "what was decided, per product in order, each entry written once",
		Subjects:    []string{"ledger.*.*"},
		Retention:   jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Replicas: l.Replicas,
		Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, MaxMsgsPerSubject: 1,
		DenyDelete: true, DenyPurge: true, AllowDirect: true, MaxConsumers: maxConsumers,
	}, {
		Name:        deadStream,
		Description: "queue lines that could not be read, as they came",
		Subjects:    []string{"dead.*"},
		Retention:   jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Replicas: l.Replicas,
		Discard: jetstream.DiscardOld, AllowDirect: true, MaxConsumers: maxConsumers, Duplicates: deadWindow,
	}, {
		// What nats.go makes for a bucket, but for AllowDirect: a direct get may be
		// answered by a stale replica, and this value decides.
		Name:        stockStream,
		Description: "stock by product, replaced by compare-and-swap only",
		Subjects:    []string{stockPrefix + ">"},
		Retention:   jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Replicas: l.Replicas,
		Discard: jetstream.DiscardNew, MaxMsgsPerSubject: history,
		AllowRollup: true, DenyDelete: true, AllowDirect: false, MaxConsumers: maxConsumers,
	}}
}

func consumerConfig(p sale.ProductID) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Name: string(p), Durable: string(p), FilterSubject: ordersSubject(p),
		Description: "decides the orders of " + string(p) + ", one message at a time",
		AckPolicy:   jetstream.AckExplicitPolicy, AckWait: ackWait, MaxAckPending: 1, MaxDeliver: -1,
		PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{deciders}, PinnedTTL: pinTTL,
	}
}

// ErrDrift is wrapped when something exists with other settings than firstcome
// needs: it is named, and never changed silently.
var ErrDrift = errors.New("exists with other settings")

// ErrNoProduct is returned where a queue is to be created and nothing is sold:
// a stream needs a subject.
var ErrNoProduct = errors.New("no product is configured")

// Provision creates what is missing: the streams, the bucket, and for each
// product its subject, its consumer and its first supply. What exists already
// must be as it should, or the error wraps ErrDrift and names the setting. A
// product that has a stock value keeps it, whatever the layout says.
func Provision(ctx context.Context, c *Conn, layout Layout) error {
	if err := inspect(ctx, c, layout.streams()); err != nil {
		return err // before anything is changed
	}
	for _, want := range layout.streams() {
		if err := provisionStream(ctx, c, want, layout.Products); err != nil {
			return err
		}
	}
	var stocks *Stocks
	err := afterCreation(ctx, func(ctx context.Context) (err error) {
		stocks, err = ask(ctx, func(ctx context.Context) (*Stocks, error) { return OpenStocks(ctx, c) })
		return err
	})
	if err != nil {
		return err
	}
	var drift []error
	for _, p := range layout.Products {
		err := afterCreation(ctx, func(ctx context.Context) error { return provisionConsumer(ctx, c, p.Product) })
		if err != nil {
			drift = append(drift, err)
			continue
		}
		if err := stocks.Create(ctx, p); err != nil {
			return err
		}
	}
	return errors.Join(drift...)
}

// afterCreation repeats a step that does not find its stream yet: in a cluster, the
// one who is asked may hear of a creation after the one who did it.
func afterCreation(ctx context.Context, step func(context.Context) error) error {
	var err error
	_ = retry(ctx, func() error { // err is what the last attempt said
		if err = step(ctx); errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrBucketNotFound) {
			return err
		}
		return nil
	})
	return err
}

// inspect looks for drift in the streams that exist.
func inspect(ctx context.Context, c *Conn, streams []jetstream.StreamConfig) error {
	var drift []error
	for _, want := range streams {
		stream, err := c.stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look up stream %s: %w", want.Name, err)
		}
		drift = append(drift, streamDrift(want, stream.CachedInfo().Config))
	}
	return errors.Join(drift...)
}

func provisionStream(ctx context.Context, c *Conn, want jetstream.StreamConfig, products []sale.Stock) error {
	if want.Name == ordersStream {
		for _, p := range products {
			want.Subjects = append(want.Subjects, ordersSubject(p.Product))
		}
		if len(want.Subjects) == 0 {
			return ErrNoProduct
		}
	}
	stream, err := c.stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = ask(ctx, func(ctx context.Context) (jetstream.Stream, error) { return c.js.CreateStream(ctx, want) })
		if err == nil {
			return nil
		}
		if !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return fmt.Errorf("create stream %s: %w", want.Name, err)
		}
		stream, err = c.stream(ctx, want.Name) // another instance was first
	}
	if err != nil {
		return fmt.Errorf("look up stream %s: %w", want.Name, err)
	}
	have := stream.CachedInfo().Config
	if err := streamDrift(want, have); err != nil {
		return err
	}
	if want.Name != ordersStream {
		return nil
	}
	missing := slices.DeleteFunc(want.Subjects, func(s string) bool { return slices.Contains(have.Subjects, s) })
	if len(missing) == 0 {
		return nil
	}
	have.Subjects = append(have.Subjects, missing...)
	_, err = ask(ctx, func(ctx context.Context) (jetstream.Stream, error) { return c.js.UpdateStream(ctx, have) })
	if err != nil {
		return fmt.Errorf("add %s to stream %s: %w", strings.Join(missing, ", "), want.Name, err)
	}
	return nil
}

// streamDrift compares the settings that the promise rests on. Descriptions,
// placement and whatever the server fills in are the operator's own.
func streamDrift(want, have jetstream.StreamConfig) error {
	var d drift
	if want.Name != ordersStream {
		d.note("subjects", want.Subjects, have.Subjects)
	}
	d.note("retention", want.Retention, have.Retention)
	d.note("storage", want.Storage, have.Storage)
	d.note("num_replicas", want.Replicas, have.Replicas)
	d.note("discard", want.Discard, have.Discard)
	d.note("discard_new_per_subject", want.DiscardNewPerSubject, have.DiscardNewPerSubject)
	d.note("max_msgs", unlimited(want.MaxMsgs), unlimited(have.MaxMsgs))
	d.note("max_msgs_per_subject", unlimited(want.MaxMsgsPerSubject), unlimited(have.MaxMsgsPerSubject))
	d.note("max_bytes", int64(-1), unlimited(have.MaxBytes))
	d.note("max_msg_size", int32(-1), max(-1, have.MaxMsgSize))
	d.note("max_age", want.MaxAge, have.MaxAge)
	d.note("deny_delete", want.DenyDelete, have.DenyDelete)
	d.note("deny_purge", want.DenyPurge, have.DenyPurge)
	d.note("allow_rollup_hdrs", want.AllowRollup, have.AllowRollup)
	d.note("allow_direct", want.AllowDirect, have.AllowDirect)
	d.note("no_ack", false, have.NoAck)
	d.note("sealed", false, have.Sealed)
	d.note("allow_msg_ttl", false, have.AllowMsgTTL)
	d.note("republish", want.RePublish, have.RePublish)
	d.note("subject_transform", want.SubjectTransform, have.SubjectTransform)
	d.note("mirror", want.Mirror, have.Mirror)
	d.note("sources", len(want.Sources), len(have.Sources))
	return d.err("stream " + want.Name)
}

func provisionConsumer(ctx context.Context, c *Conn, p sale.ProductID) error {
	want := consumerConfig(p)
	consumer, err := c.consumer(ctx, p)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		// Creating, never updating: if it came into being meanwhile with other
		// settings, that is an error.
		consumer, err = ask(ctx, func(ctx context.Context) (jetstream.Consumer, error) {
			return c.js.CreateConsumer(ctx, ordersStream, want)
		})
	}
	if errors.Is(err, jetstream.ErrConsumerExists) {
		return fmt.Errorf("consumer %s of %s %w", p, ordersStream, ErrDrift)
	}
	if err != nil {
		return fmt.Errorf("create consumer %s: %w", p, err)
	}
	return consumerDrift(want, consumer.CachedInfo().Config)
}

func consumerDrift(want, have jetstream.ConsumerConfig) error {
	var d drift
	d.note("filter_subject", want.FilterSubject, have.FilterSubject)
	d.note("ack_policy", want.AckPolicy, have.AckPolicy)
	d.note("ack_wait", want.AckWait, have.AckWait)
	d.note("max_ack_pending", want.MaxAckPending, have.MaxAckPending)
	d.note("max_deliver", want.MaxDeliver, have.MaxDeliver)
	d.note("deliver_policy", want.DeliverPolicy, have.DeliverPolicy)
	d.note("backoff", len(want.BackOff), len(have.BackOff))
	d.note("headers_only", want.HeadersOnly, have.HeadersOnly)
	d.note("inactive_threshold", want.InactiveThreshold, have.InactiveThreshold)
	d.note("priority_policy", want.PriorityPolicy, have.PriorityPolicy)
	d.note("priority_groups", want.PriorityGroups, have.PriorityGroups)
	return d.err("consumer " + want.Durable + " of " + ordersStream)
}

// Verify tells whether everything that Provision creates exists and is as it
// should be, without changing anything. Products are those that have a stock;
// replicas and the queue's size are the admin's choice.
func Verify(ctx context.Context, c *Conn, layout Layout) error {
	var problems []error
	var sold []string // subjects that the queue takes
	for _, want := range layout.streams() {
		stream, err := c.stream(ctx, want.Name)
		if err != nil {
			problems = append(problems, fmt.Errorf("stream %s: %w", want.Name, err))
			continue
		}
		have := stream.CachedInfo().Config
		want.Replicas, want.MaxMsgs = have.Replicas, have.MaxMsgs
		problems = append(problems, streamDrift(want, have))
		if want.Name == ordersStream {
			sold = have.Subjects
		}
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	stocks, err := OpenStocks(ctx, c)
	if err != nil {
		return err
	}
	products, err := stocks.Products(ctx)
	if err != nil {
		return err
	}
	for _, p := range products {
		problems = append(problems, verifyProduct(ctx, c, p, sold))
	}
	return errors.Join(problems...)
}

func verifyProduct(ctx context.Context, c *Conn, p sale.ProductID, sold []string) error {
	if !slices.Contains(sold, ordersSubject(p)) {
		return fmt.Errorf("stream %s does not take %s", ordersStream, ordersSubject(p))
	}
	consumer, err := c.consumer(ctx, p)
	if err != nil {
		return fmt.Errorf("consumer %s of %s: %w", p, ordersStream, err)
	}
	return consumerDrift(consumerConfig(p), consumer.CachedInfo().Config)
}

// ask repeats a request that stays without an answer: while a cluster is making a
// stream, nobody answers for it.
func ask[T any](ctx context.Context, request func(context.Context) (T, error)) (answer T, err error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, askTimeout)
		answer, err = request(attempt)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return answer, err
		}
	}
}

const askTimeout = 2 * time.Second

func (c *Conn) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	return ask(ctx, func(ctx context.Context) (jetstream.Stream, error) { return c.js.Stream(ctx, name) })
}

func (c *Conn) consumer(ctx context.Context, p sale.ProductID) (jetstream.Consumer, error) {
	return ask(ctx, func(ctx context.Context) (jetstream.Consumer, error) {
		return c.js.Consumer(ctx, ordersStream, string(p))
	})
}

type drift []string

func (d *drift) note(setting string, want, have any) {
	if !reflect.DeepEqual(want, have) {
		*d = append(*d, fmt.Sprintf("%s is %v, not %v", setting, show(have), show(want)))
	}
}

func (d drift) err(what string) error {
	if len(d) == 0 {
		return nil
	}
	return fmt.Errorf("%s %w: %s", what, ErrDrift, strings.Join(d, "; "))
}

func show(v any) any {
	if r := reflect.ValueOf(v); r.Kind() == reflect.Pointer && !r.IsNil() {
		return r.Elem()
	}
	return v
}

func unlimited(n int64) int64 {
	if n <= 0 {
		return -1
	}
	return n
}
