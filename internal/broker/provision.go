package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// Layout is what must exist in JetStream before a sale.
type Layout struct {
	Replicas    int
	MaxMessages int64 // queue messages; a full queue refuses orders
	Products    []Product
}

// Product is what a product begins with. A product that has a history keeps that,
// whatever is said here.
type Product struct {
	ID            sale.ProductID
	Supply        int64 // units
	LimitPerBuyer int64 // units, 0: none
}

const (
	maxWaiting = 512 // pulls of a product that wait at the server, one per instance

	maxConsumers = 10_000        // of a stream; the server's own default is 1,000, watchers counted
	forEver      = 1_000_000_000 // revisions of a product: never reached, and without a limit no discard policy holds
	// Within these windows a message that is sent again is stored once: a group
	// whose ack was lost, and a line that cannot be read, which may be met again.
	ordersWindow = 2 * time.Minute
	deadWindow   = time.Hour
	// minPayload must fit a full group: sale.MaxLines orders with long addresses.
	minPayload = 1 << 20
)

// streams are the settings that matter. The metadata's values are those of streams that
// are made now; of others only the names count.
func (l Layout) streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{{
		Name:        ordersStream,
		Description: "orders and desk lines that wait for their decision, one durable consumer per product",
		Retention:   jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, Replicas: l.Replicas,
		Discard: jetstream.DiscardNew, MaxMsgs: l.MaxMessages,
		DenyDelete: true, DenyPurge: true, AllowDirect: true, MaxConsumers: maxConsumers, Duplicates: ordersWindow,
		RePublish: &jetstream.RePublish{Source: ">", Destination: linePrefix + ">"},
		Metadata:  map[string]string{metaEpoch: NewEpoch()},
	}, {
		// A direct get may be answered by a replica that lags: that is good enough for the
		// feed, which asks the leader where the end is, and never for a decision.
		Name:        stockStream,
		Description: "stock by product, every revision kept: the ledger",
		Subjects:    []string{stockPrefix + ">"},
		Retention:   jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Replicas: l.Replicas,
		Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, MaxMsgsPerSubject: forEver,
		DenyDelete: true, DenyPurge: true, AllowDirect: true, MaxConsumers: maxConsumers,
		RePublish: &jetstream.RePublish{Source: stockPrefix + "*", Destination: ledgerPrefix + "{{wildcard(1)}}"},
		Metadata:  map[string]string{metaStore: uuid.NewString()},
	}, {
		Name:        deadStream,
		Description: "queue lines that could not be read, as they came",
		Subjects:    []string{"dead.*"},
		Retention:   jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Replicas: l.Replicas,
		Discard: jetstream.DiscardOld, AllowDirect: true, MaxConsumers: maxConsumers, Duplicates: deadWindow,
	}}
}

// NewEpoch names a queue that is made now.
func NewEpoch() string { return sale.Instant(time.Now()).Format(time.RFC3339Nano) }

func (c *Conn) consumerConfig(p sale.ProductID) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Name: string(p), Durable: string(p), FilterSubjects: []string{deskSubject(p), ordersSubject(p)}, // sorted, for drift
		Description: "decides the orders and desk lines of " + string(p) + ", one message at a time",
		AckPolicy:   jetstream.AckExplicitPolicy, AckWait: c.timing.AckWait, MaxAckPending: 1, MaxDeliver: -1,
		MaxWaiting: maxWaiting, ReplayPolicy: jetstream.ReplayInstantPolicy,
		PriorityPolicy: jetstream.PriorityPolicyPinned, PriorityGroups: []string{deciders}, PinnedTTL: c.timing.Pin,
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
	streams := layout.streams()
	if err := inspect(ctx, c, streams); err != nil {
		return err // before anything is changed
	}
	account, err := ask(ctx, c.js.AccountInfo)
	if err != nil {
		return fmt.Errorf("JetStream: %w", err)
	}
	for _, want := range streams {
		if limit := account.Limits.MaxConsumers; limit > 0 { // more than that is refused
			want.MaxConsumers = min(want.MaxConsumers, limit)
		}
		if err := provisionStream(ctx, c, want, layout.Products); err != nil {
			return err
		}
	}
	history := NewHistory(c)
	var drift []error
	for _, p := range layout.Products {
		err := afterCreation(ctx, func(ctx context.Context) error { return provisionConsumer(ctx, c, p.ID) })
		if err != nil {
			drift = append(drift, err)
			continue
		}
		err = afterCreation(ctx, func(ctx context.Context) error { return provisionProduct(ctx, c, history, p) })
		if err != nil {
			return err
		}
	}
	if len(drift) > 0 {
		return errors.Join(drift...)
	}
	products, err := ask(ctx, history.sold)
	if err != nil {
		return err
	}
	return sell(ctx, c, products)
}

// ProvisionSold does for the products that have a history what Provision does for those
// of a layout. Its error wraps ErrNoProduct if there are none.
func ProvisionSold(ctx context.Context, c *Conn) error {
	products, err := ask(ctx, NewHistory(c).sold)
	if errors.Is(err, jetstream.ErrStreamNotFound) || err == nil && len(products) == 0 {
		return ErrNoProduct
	}
	if err != nil {
		return err
	}
	return sell(ctx, c, products)
}

// provisionProduct appends the product's first link, behind whatever the key holds. A
// history that lacks its beginning is refused: begun again, it would sell what was sold.
func provisionProduct(ctx context.Context, c *Conn, history *History, p Product) error {
	for {
		found, last, err := history.began(ctx, p.ID)
		if err != nil || found {
			return err
		}
		stream, err := c.stream(ctx, ordersStream)
		if err != nil {
			return fmt.Errorf("look up stream %s: %w", ordersStream, err)
		}
		link, err := sale.NewProduct(p.ID, p.Supply, p.LimitPerBuyer, stream.CachedInfo().Config.Metadata[metaEpoch], time.Now())
		if err != nil {
			return fmt.Errorf("product %s: %w", p.ID, err)
		}
		_, err = history.Append(ctx, p.ID, last, link.Encode())
		if !errors.Is(err, sale.ErrConflict) { // else another instance was first
			return err
		}
	}
}

// began tells whether the product has its first link, and which value is the last if
// not. Its error wraps ErrCut if there are later links only.
func (h *History) began(ctx context.Context, p sale.ProductID) (found bool, last sale.Seq, err error) {
	var cut uint64
	for {
		seq, value, err := h.Next(ctx, p, last)
		if errors.Is(err, sale.ErrNotFound) {
			if cut > 0 {
				return false, last, fmt.Errorf("product %s: %w: its first link is number %d", p, ErrCut, cut)
			}
			return false, last, nil
		}
		if err != nil {
			return false, last, err
		}
		head := sale.Head{Stock: sale.Stock{Product: p}}
		if _, err := head.Continue(value); err == nil || errors.Is(err, sale.ErrNewer) {
			return true, seq, nil // the feed and the worker say what they cannot read
		}
		if link, err := sale.ReadLink(value); cut == 0 && err == nil && link.Product == p && link.N > 1 {
			cut = link.N
		}
		last = seq
	}
}

// sell sees to it that the queue takes every product that has a history, and that each has
// its consumer: also those that no configuration names any more are sold. Adding a
// subject replaces the whole list, so of two instances that add one at the same time
// the later undoes the other's. Each has begun its products' histories before it looks
// here, so the last one to look finds what is missing.
func sell(ctx context.Context, c *Conn, products []sale.ProductID) error {
	if err := addSubjects(ctx, c, products); err != nil {
		return err
	}
	for _, p := range products {
		if err := provisionConsumer(ctx, c, p); err != nil {
			return err
		}
	}
	return nil
}

// sold lists the products that have a history. Its error wraps ErrCut if one of them
// lacks its beginning.
func (h *History) sold(ctx context.Context) (products []sale.ProductID, err error) {
	keys, err := h.Products(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range keys {
		found, _, err := h.began(ctx, p)
		if err != nil {
			return nil, err
		}
		if found {
			products = append(products, p)
		}
	}
	return products, nil
}

// afterCreation repeats a step that does not find its stream yet: in a cluster, the
// server that is asked may hear of a creation after the one that made it.
func afterCreation(ctx context.Context, step func(context.Context) error) error {
	var err error
	_ = retry(ctx, func() error { // err is what the last attempt said
		if err = step(ctx); errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) {
			return err
		}
		return nil
	})
	return err
}

// madeStream looks up a stream that is known to exist.
func (c *Conn) madeStream(ctx context.Context, name string) (stream jetstream.Stream, err error) {
	err = afterCreation(ctx, func(ctx context.Context) (err error) {
		stream, err = c.stream(ctx, name)
		return err
	})
	return stream, err
}

// inspect looks for a store of an earlier layout, and for drift in the streams that
// exist.
func inspect(ctx context.Context, c *Conn, streams []jetstream.StreamConfig) error {
	switch _, err := c.stream(ctx, oldLedger); {
	case err == nil:
		return fmt.Errorf("stream %s: %w", oldLedger, ErrOldStore)
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return fmt.Errorf("look up stream %s: %w", oldLedger, err)
	}
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

func provisionStream(ctx context.Context, c *Conn, want jetstream.StreamConfig, products []Product) error {
	var ids []sale.ProductID
	if want.Name == ordersStream {
		for _, p := range products {
			ids = append(ids, p.ID)
			want.Subjects = append(want.Subjects, ordersSubject(p.ID), deskSubject(p.ID))
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
			return fmt.Errorf("create stream %s: %w", want.Name, limitError(err))
		}
		stream, err = c.madeStream(ctx, want.Name) // another instance was first
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

// createStream repeats itself until the cluster knows enough of its servers, or ctx
// ends: servers that have just been started know each other a moment later.
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
		stream, err := c.madeStream(ctx, ordersStream)
		if err != nil {
			return fmt.Errorf("look up stream %s: %w", ordersStream, err)
		}
		config := stream.CachedInfo().Config
		var missing []string
		for _, p := range products {
			for _, s := range []string{ordersSubject(p), deskSubject(p)} {
				if !slices.Contains(config.Subjects, s) {
					missing = append(missing, s)
				}
			}
		}
		if len(missing) == 0 {
			return nil
		}
		config.Subjects = append(config.Subjects, missing...)
		_, err = ask(ctx, func(ctx context.Context) (jetstream.Stream, error) { return c.js.UpdateStream(ctx, config) })
		if err != nil {
			return fmt.Errorf("add %s to stream %s: %w", strings.Join(missing, ", "), ordersStream, limitError(err))
		}
	}
}

func provisionConsumer(ctx context.Context, c *Conn, p sale.ProductID) error {
	want := c.consumerConfig(p)
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
		return fmt.Errorf("consumer %s of %s: %w", p, ordersStream, limitError(err))
	}
	return consumerDrift(want, unpaused(consumer.CachedInfo().Config))
}

// unpaused is the consumer without its pause: that holds up one product, and ends; a start
// that it ended would hold up all, and an embedded server could not even be asked to go on.
func unpaused(config jetstream.ConsumerConfig) jetstream.ConsumerConfig {
	config.PauseUntil = nil
	return config
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
		if want.Replicas = have.Replicas; want.Name == ordersStream {
			want.MaxMsgs = have.MaxMsgs
		}
		if want.Name == stockStream && have.Metadata[metaStore] == "" && have.MaxMsgsPerSubject > 0 && have.MaxMsgsPerSubject < forEver && have.RePublish == nil {
			return fmt.Errorf("bucket %s: %w", stockBucket, ErrOldStore)
		}
		problems = append(problems, streamDrift(want, have))
		if want.Name == ordersStream {
			sold = have.Subjects
		}
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	products, err := NewHistory(c).sold(ctx)
	if err != nil {
		return err
	}
	for _, p := range products {
		problems = append(problems, verifyProduct(ctx, c, p, sold))
	}
	return errors.Join(problems...)
}

func verifyProduct(ctx context.Context, c *Conn, p sale.ProductID, sold []string) error {
	for _, s := range []string{ordersSubject(p), deskSubject(p)} {
		if !slices.Contains(sold, s) {
			return fmt.Errorf("stream %s does not take %s: %w", ordersStream, s, ErrMissing)
		}
	}
	consumer, err := c.consumer(ctx, p)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("consumer %s of %s is missing: %w", p, ordersStream, ErrMissing)
	}
	if err != nil {
		return fmt.Errorf("consumer %s of %s: %w", p, ordersStream, err)
	}
	return consumerDrift(c.consumerConfig(p), unpaused(consumer.CachedInfo().Config))
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

// QueueEpoch is the epoch of the queue as it is now.
func QueueEpoch(ctx context.Context, c *Conn) (string, error) {
	stream, err := c.stream(ctx, ordersStream)
	if err != nil {
		return "", fmt.Errorf("stream %s: %w", ordersStream, err)
	}
	return stream.CachedInfo().Config.Metadata[metaEpoch], nil
}

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
