package broker

import (
	"context"
	"errors"
	"fmt"
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

	maxWaiting = 512 // pulls of a product that wait at the server, one per instance

	maxConsumers = 10_000 // of a stream; the server's own default is 1,000, watchers counted
	history      = 64     // stock values kept per product
	// Within these windows a message that is sent again is stored once: a group
	// whose ack was lost, and a line that cannot be read, which may be met again.
	ordersWindow = 2 * time.Minute
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
		DenyDelete: true, DenyPurge: true, AllowDirect: true, MaxConsumers: maxConsumers, Duplicates: ordersWindow,
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
		MaxWaiting: maxWaiting, ReplayPolicy: jetstream.ReplayInstantPolicy,
		PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{deciders}, PinnedTTL: pinTTL,
	}
}

// ErrNoProduct is returned where a queue is to be created and nothing is sold:
// a stream needs a subject.
var ErrNoProduct = errors.New("no product is configured")

// Provision creates what is missing: the streams, the bucket, and for each
// product its subject, its consumer and its first supply. What exists already
// must be as it should, or the error wraps ErrDrift and names the setting. A
// product that has a stock value keeps it, whatever the layout says. Instances may
// provision at once.
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
	if len(drift) > 0 {
		return errors.Join(drift...)
	}
	return sellAll(ctx, c, stocks)
}

// sellAll sees to it that the queue takes every product that has a stock. Adding a
// subject replaces the whole list, so of two instances that add one at the same time
// the later undoes the other's. Each has made its products' stock before it looks
// here, and so whoever looks after the last change finds what is missing.
func sellAll(ctx context.Context, c *Conn, stocks *Stocks) error {
	products, err := ask(ctx, stocks.Products)
	if err != nil {
		return err
	}
	return addSubjects(ctx, c, products)
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
	var ids []sale.ProductID
	if want.Name == ordersStream {
		for _, p := range products {
			ids = append(ids, p.Product)
			want.Subjects = append(want.Subjects, ordersSubject(p.Product))
		}
		if len(want.Subjects) == 0 {
			return ErrNoProduct
		}
	}
	stream, err := c.stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err = createStream(ctx, c, want); err == nil {
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
	if err := streamDrift(want, stream.CachedInfo().Config); err != nil {
		return err
	}
	if want.Name != ordersStream {
		return nil
	}
	return addSubjects(ctx, c, ids)
}

// noPeers is how a cluster refuses a stream while it knows too few of its servers.
const noPeers = 10005

// createStream repeats itself until the cluster knows enough of its servers, or ctx
// ends: whoever has just started them all provisions next.
func createStream(ctx context.Context, c *Conn, want jetstream.StreamConfig) (err error) {
	_ = retry(ctx, func() error { // err is what the last attempt said
		_, err = ask(ctx, func(ctx context.Context) (jetstream.Stream, error) { return c.js.CreateStream(ctx, want) })
		if api := (*jetstream.APIError)(nil); errors.As(err, &api) && api.ErrorCode == noPeers {
			return err
		}
		return nil
	})
	return err
}

// addSubjects has the queue take these products, and looks again until it does.
func addSubjects(ctx context.Context, c *Conn, products []sale.ProductID) error {
	for {
		stream, err := c.stream(ctx, ordersStream)
		if err != nil {
			return fmt.Errorf("look up stream %s: %w", ordersStream, err)
		}
		config := stream.CachedInfo().Config
		var missing []string
		for _, p := range products {
			if s := ordersSubject(p); !slices.Contains(config.Subjects, s) {
				missing = append(missing, s)
			}
		}
		if len(missing) == 0 {
			return nil
		}
		config.Subjects = append(config.Subjects, missing...)
		_, err = ask(ctx, func(ctx context.Context) (jetstream.Stream, error) { return c.js.UpdateStream(ctx, config) })
		if err != nil {
			return fmt.Errorf("add %s to stream %s: %w", strings.Join(missing, ", "), ordersStream, err)
		}
	}
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
		return fmt.Errorf("consumer %s of %s: %w", p, ordersStream, err)
	}
	return consumerDrift(want, consumer.CachedInfo().Config)
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
	consumer, err := ask(ctx, func(ctx context.Context) (jetstream.Consumer, error) {
		return c.js.Consumer(ctx, ordersStream, string(p))
	})
	if errors.Is(err, jetstream.ErrNotPullConsumer) {
		return nil, fmt.Errorf("%w: %w", ErrDrift, err)
	}
	return consumer, err
}
