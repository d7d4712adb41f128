package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firstcome/internal/sale"
)

// History implements sale.History with the bucket "stock", which keeps every revision.
type History struct {
	nc *nats.Conn
	js jetstream.JetStream
}

// NewHistory makes the history of a bucket that exists.
func NewHistory(c *Conn) *History { return &History{nc: c.orders, js: c.js} }

// What the server says of a lost compare-and-swap: 10071 on one copy, 10164 on three.
const (
	wrongLastSequence         jetstream.ErrorCode = 10071
	wrongLastSequenceConstant jetstream.ErrorCode = 10164
)

// Append implements sale.History.
func (h *History) Append(ctx context.Context, product sale.ProductID, after sale.Seq, revision []byte) (sale.Seq, error) {
	ack, err := h.js.Publish(ctx, stockSubject(product), revision, jetstream.WithExpectStream(stockStream),
		jetstream.WithExpectLastSequencePerSubject(uint64(after)), jetstream.WithRetryAttempts(0))
	var api *jetstream.APIError
	if errors.As(err, &api) && (api.ErrorCode == wrongLastSequence || api.ErrorCode == wrongLastSequenceConstant) {
		return 0, fmt.Errorf("history of %s: %w", product, sale.ErrConflict)
	}
	if err != nil {
		return 0, fmt.Errorf("history of %s: %w", product, limitError(err))
	}
	return sale.Seq(ack.Sequence), nil
}

// Next implements sale.History. It asks the leader: a direct get may be answered by a
// stale replica, and on this answer hangs what is sold.
func (h *History) Next(ctx context.Context, product sale.ProductID, after sale.Seq) (sale.Seq, []byte, error) {
	msg, err := fromLeader(ctx, h.nc, stockStream, fmt.Appendf(nil, `{"seq":%d,"next_by_subj":%q}`, after+1, stockSubject(product)))
	if err != nil {
		return 0, nil, fmt.Errorf("history of %s: %w", product, err)
	}
	return sale.Seq(msg.Seq), msg.Data, nil
}

// StoredLink is a link with the revision that holds it.
type StoredLink struct {
	*sale.Link
	Revision sale.Seq
	Value    []byte   // as stored
	appended bool     // after the revision before, by the server's word
	before   sale.Seq // 0: none, or unknown
}

// Newest reads the product's newest link. Usually it is the newest value, which the
// link before proves. Else somebody has written into the bucket, and the history is read
// from the newest value on that its predecessor proves. ErrNotFound: there is no link.
func (h *History) Newest(ctx context.Context, product sale.ProductID) (StoredLink, error) {
	msg, err := fromLeader(ctx, h.nc, stockStream, fmt.Appendf(nil, `{"last_by_subj":%q}`, stockSubject(product)))
	if err != nil {
		return StoredLink{}, fmt.Errorf("history of %s: %w", product, err)
	}
	link, err := storedLink(msg)
	if err == nil {
		err = h.prove(ctx, link)
	}
	if !errors.Is(err, sale.ErrNoLink) {
		return link, err
	}
	from, err := h.provenBefore(ctx, product, sale.Seq(msg.Seq))
	if err != nil {
		return StoredLink{}, err
	}
	return h.fold(ctx, product, from, nil)
}

// provenBefore goes back from a revision to a link that its predecessor proves. Its answer
// is zero if searchBack values before the revision are none: the history must then be read
// from its beginning.
func (h *History) provenBefore(ctx context.Context, product sale.ProductID, revision sale.Seq) (StoredLink, error) {
	for range searchBack {
		msg, err := h.valueBefore(ctx, product, revision)
		if errors.Is(err, sale.ErrNotFound) {
			break
		}
		if err != nil {
			return StoredLink{}, fmt.Errorf("history of %s: %w", product, err)
		}
		link, err := storedLink(msg)
		if err == nil && link.Product == product {
			err = h.prove(ctx, link)
			if !errors.Is(err, sale.ErrNoLink) {
				return link, err
			}
		}
		revision = sale.Seq(msg.Seq)
	}
	return StoredLink{}, nil
}

// valueBefore reads the newest value of the product that was stored before a revision. The
// server can only search forward, so this asks from further and further back, and then
// halves what is left.
func (h *History) valueBefore(ctx context.Context, product sale.ProductID, revision sale.Seq) (*storedMsg, error) {
	next := func(from sale.Seq) (*storedMsg, error) {
		return fromLeader(ctx, h.nc, stockStream, fmt.Appendf(nil, `{"seq":%d,"next_by_subj":%q}`, from, stockSubject(product)))
	}
	var found *storedMsg
	end := revision // from here on there is none before the revision
	for step := sale.Seq(1); found == nil; step *= 2 {
		from := max(revision, step+1) - step
		msg, err := next(from)
		switch {
		case err != nil:
			return nil, err
		case sale.Seq(msg.Seq) < revision:
			found = msg
		case from == 1:
			return nil, sale.ErrNotFound
		default:
			end = from
		}
	}
	for sale.Seq(found.Seq)+1 < end {
		middle := sale.Seq(found.Seq) + (end-sale.Seq(found.Seq))/2
		msg, err := next(middle)
		if err != nil {
			return nil, err
		}
		if sale.Seq(msg.Seq) < revision {
			found = msg
		} else {
			end = middle
		}
	}
	return found, nil
}

// prove tells a link from a value that only looks like one: a link was appended after
// some revision, as its header says, and that revision must hold the link before. The
// error wraps sale.ErrNoLink if it does not.
func (h *History) prove(ctx context.Context, link StoredLink) error {
	if link.N == 1 && link.Prev == "" && link.appended && link.before == 0 {
		return nil
	}
	before, err := h.read(ctx, link.before)
	if err == nil && (before.Product != link.Product || before.N+1 != link.N || sale.HashOf(before.Value) != link.Prev) {
		return fmt.Errorf("revision %d: %w", link.Revision, sale.ErrNoLink)
	}
	return err
}

// read reads one revision as a link.
func (h *History) read(ctx context.Context, revision sale.Seq) (StoredLink, error) {
	if revision == 0 {
		return StoredLink{}, sale.ErrNoLink
	}
	msg, err := fromLeader(ctx, h.nc, stockStream, fmt.Appendf(nil, `{"seq":%d}`, revision))
	if err != nil {
		return StoredLink{}, fmt.Errorf("revision %d: %w", revision, err)
	}
	return storedLink(msg)
}

func storedLink(msg *storedMsg) (StoredLink, error) {
	link, err := sale.ReadLink(msg.Data)
	if err != nil {
		return StoredLink{}, fmt.Errorf("revision %d: %w", msg.Seq, err)
	}
	before, err := strconv.ParseUint(last(msg.header, jetstream.ExpectedLastSubjSeqHeader), 10, 64)
	return StoredLink{Link: link, Revision: sale.Seq(msg.Seq), Value: msg.Data, appended: err == nil, before: sale.Seq(before)}, nil
}

// fold reads the product's history behind a link, or from its beginning if that is zero,
// up to the first link for which enough says yes, or to the newest.
func (h *History) fold(ctx context.Context, product sale.ProductID, newest StoredLink, enough func(StoredLink) bool) (StoredLink, error) {
	head := sale.Head{Stock: sale.Stock{Product: product}}
	if newest.Link != nil {
		head = sale.Head{Stock: newest.Stock, N: newest.N, Hash: sale.HashOf(newest.Value), At: newest.At, By: newest.By, Queue: newest.Queue}
	}
	for at := newest.Revision; ; {
		seq, value, err := h.Next(ctx, product, at)
		if errors.Is(err, sale.ErrNotFound) && newest.Link != nil {
			return newest, nil
		}
		if err != nil {
			return StoredLink{}, err
		}
		at = seq
		link, err := head.Continue(value)
		switch {
		case err == nil:
			newest = StoredLink{Link: link, Revision: seq, Value: value, appended: true, before: newest.Revision}
			if enough != nil && enough(newest) {
				return newest, nil
			}
		case errors.Is(err, sale.ErrNewer):
			return StoredLink{}, fmt.Errorf("history of %s: %w", product, err)
		}
	}
}

// Before reads the link that the given one continues.
func (h *History) Before(ctx context.Context, link StoredLink) (StoredLink, error) {
	return h.read(ctx, link.before)
}

// SettledBy finds the link that settled the message at a position, false if none has
// yet. Messages are settled in order (P2), so it takes one read for every doubling of
// the history. Where what was written by hand leads it astray, the history is read from
// the next link before on that its predecessor proves.
func (h *History) SettledBy(ctx context.Context, product sale.ProductID, at sale.Position) (StoredLink, bool, error) {
	newest, err := h.Newest(ctx, product)
	if err != nil || !reached(newest, at) {
		return StoredLink{}, false, err
	}
	low, high := sale.Seq(0), newest.Revision-1 // the link is the first one after a revision of low to high
	found := newest
	for low < high {
		middle := low + (high-low)/2
		link, err := h.linkAfter(ctx, product, middle)
		if err != nil {
			return StoredLink{}, false, err
		}
		if reached(link, at) {
			found, high = link, middle
		} else {
			low = link.Revision
		}
	}
	err = sale.ErrNoLink
	if found.Queue == at {
		err = h.prove(ctx, found)
	}
	if errors.Is(err, sale.ErrNoLink) {
		var from StoredLink
		if from, err = h.provenBefore(ctx, product, found.Revision); err != nil {
			return StoredLink{}, false, err
		}
		if from.Link != nil && reached(from, at) {
			from = StoredLink{} // led astray: the first one that reached it is before
		}
		found, err = h.fold(ctx, product, from, func(link StoredLink) bool { return reached(link, at) })
	}
	return found, err == nil && found.Queue == at, err
}

// reached tells whether a message is settled after link. Epochs follow one another as
// the times do that they are.
func reached(link StoredLink, at sale.Position) bool {
	if link.Queue.Epoch == at.Epoch {
		return link.Queue.Seq >= at.Seq
	}
	x, err := time.Parse(time.RFC3339Nano, link.Queue.Epoch)
	y, err2 := time.Parse(time.RFC3339Nano, at.Epoch)
	return err == nil && err2 == nil && x.After(y)
}

// linkAfter reads the first value after a revision that can be read as a link.
func (h *History) linkAfter(ctx context.Context, product sale.ProductID, after sale.Seq) (StoredLink, error) {
	for {
		msg, err := fromLeader(ctx, h.nc, stockStream, fmt.Appendf(nil, `{"seq":%d,"next_by_subj":%q}`, after+1, stockSubject(product)))
		if err != nil {
			return StoredLink{}, fmt.Errorf("history of %s: %w", product, err)
		}
		link, err := storedLink(msg)
		if err == nil {
			return link, nil
		}
		after = sale.Seq(msg.Seq)
	}
}

// Products lists the keys of the bucket that are product ids. Not every one of them
// needs to have a link.
func (h *History) Products(ctx context.Context) ([]sale.ProductID, error) {
	stream, err := h.js.Stream(ctx, stockStream)
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", stockBucket, err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(stockPrefix+">"))
	if err != nil {
		return nil, fmt.Errorf("list bucket %s: %w", stockBucket, err)
	}
	var products []sale.ProductID
	for subject := range info.State.Subjects {
		if p, err := sale.ParseProductID(strings.TrimPrefix(subject, stockPrefix)); err == nil {
			products = append(products, p)
		}
	}
	slices.Sort(products)
	return products, nil
}

// WatchHistory calls f with the newest link of every product, and with every later one,
// until ctx ends or f fails.
func WatchHistory(ctx context.Context, c *Conn, f func(StoredLink) error) error {
	history := NewHistory(c)
	heard := make(chan *nats.Msg, 256) // what does not fit shows as a gap, and is read
	sub, err := c.broadcast.ChanSubscribe(ledgerPrefix+"*", heard)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", stockBucket, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is gone
	shown := map[sale.ProductID]sale.Seq{}
	show := func(p sale.ProductID) error {
		link, err := history.Newest(ctx, p)
		if errors.Is(err, sale.ErrNotFound) || err == nil && link.Revision <= shown[p] {
			return nil
		}
		if err != nil {
			return err
		}
		shown[p] = link.Revision
		return f(link)
	}
	products, err := history.Products(ctx)
	if err != nil {
		return err
	}
	for _, p := range products {
		if err := show(p); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case msg := <-heard:
			p, err := sale.ParseProductID(strings.TrimPrefix(msg.Subject, ledgerPrefix))
			if err == nil {
				err = show(p)
			}
			if err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}
