package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"firstcome/internal/audit"
	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

func repairCommand() *cobra.Command {
	var (
		flags  natsFlags
		store  storeFlag
		yes    bool
		accept uint64
	)
	c := &cobra.Command{
		Use:   "repair",
		Short: "Compare queue and history, and mend a store that was put back or damaged",
		Long: `Compare queue and history after a store was put back from a copy, or damaged, and say
what is behind, by how many messages, and what would be done about it. With --yes it is
done, as an admin: a consumer that is missing is made, messages that the history has
settled are taken off the queue, and the queue begins a new epoch. The stock is never
written. Where acknowledged orders are in neither, --accept-loss must say how many.
It is refused while an instance decides.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return store.examine(c, &flags, func(ctx context.Context, conn *broker.Conn, mark string) error {
				d, err := diagnose(ctx, conn, mark, progressTo(c.ErrOrStderr()))
				if err != nil {
					return err
				}
				d.print(c.OutOrStdout())
				switch {
				case !d.wrong():
					return nil
				case len(d.state.Held) > 0:
					return fmt.Errorf("nothing was done: an instance decides %v; stop the deciding instances first", d.state.Held)
				case !yes:
					return nil
				case accept != d.lost:
					return fmt.Errorf("nothing was done: %d acknowledged messages are lost for good, and --accept-loss says %d", d.lost, accept)
				}
				return d.mend(ctx, conn, c.OutOrStdout())
			})
		},
	}
	flags.add(c.Flags())
	store.add(c.Flags())
	c.Flags().BoolVar(&yes, "yes", false, "do what is said")
	c.Flags().Uint64Var(&accept, "accept-loss", 0, "how many acknowledged messages to go on without, as printed")
	return c
}

// diagnosis is what queue and history say of each other.
type diagnosis struct {
	state    broker.QueueState
	products []productDiagnosis
	first    uint64 // from it on every sequence is queued and unsettled, or will be given out
	lost     uint64 // messages that were acknowledged, and are neither queued nor settled
}

type productDiagnosis struct {
	id      sale.ProductID
	behind  error            // wraps sale.ErrBehind, or nil
	missing bool             // the consumer
	out     int              // messages in the queue that the consumer does not hand out any more
	passed  int              // messages in the queue behind which others were settled
	settled *audit.Sequences // messages in the queue that the history has settled
	stale   int              // how many these are
}

// queued is what stands in the queue of one product, oldest first, each message with a
// digest of its lines: after an older copy was put back, sequences are given out again,
// and then only the lines tell whether a message is the one that a link has settled.
type queued struct {
	seqs    []uint64
	digests map[uint64]string
	settled map[uint64]bool
}

func diagnose(ctx context.Context, conn *broker.Conn, mark string, progress func(done, total uint64)) (d diagnosis, err error) {
	if d.state, err = broker.ReadQueueState(ctx, conn); err != nil {
		return d, err
	}
	w := sale.Witness{Epoch: d.state.Epoch, First: d.state.First, Last: d.state.Last}
	epoch, seq, err := broker.ReadQueueMark(mark)
	if err != nil {
		return d, err
	}
	if epoch == d.state.Epoch {
		w.Mark = seq // else it is another store's, or there is none
	}
	end := max(w.Last, w.Mark)
	queues := map[sale.ProductID]*queued{}
	var known audit.Sequences // settled or queued
	err = broker.ReadQueue(ctx, conn, d.state.Last, func(m *sale.Message) {
		q := queues[m.Product]
		if q == nil {
			q = &queued{digests: map[uint64]string{}, settled: map[uint64]bool{}}
			queues[m.Product] = q
		}
		q.seqs = append(q.seqs, m.Seq)
		q.digests[m.Seq] = digest(m.Lines())
		known.Add(m.Seq)
	})
	if err != nil {
		return d, err
	}
	heads := map[sale.ProductID]*sale.Head{}
	var newer error
	missing, err := broker.ReadHistory(ctx, conn, func(p sale.ProductID, _ sale.Seq, value []byte) {
		if heads[p] == nil {
			heads[p] = &sale.Head{Stock: sale.Stock{Product: p}}
		}
		link, err := heads[p].Continue(value)
		switch {
		case errors.Is(err, sale.ErrNewer):
			newer = fmt.Errorf("product %s: %w", p, err)
		case err == nil && link.Queue.Epoch == d.state.Epoch && link.Queue.Seq > 0:
			seq := link.Queue.Seq
			known.Add(seq)
			end = max(end, seq)
			if q := queues[p]; q != nil && q.digests[seq] == digestOf(link) {
				q.settled[seq] = true
			}
		}
	}, progress)
	switch {
	case err != nil:
		return d, err
	case newer != nil:
		return d, newer
	case missing > 0:
		return d, fmt.Errorf("%w: the bucket lacks %d of its revisions, which no repair brings back: restore a copy of KV_stock", broker.ErrCut, missing)
	}
	for seq := d.state.First; seq <= end; seq++ {
		if !known.Has(seq) {
			d.lost++
		}
	}
	d.first = d.state.Last + 1
	waiting := waitingIn(queues)
	for d.first > 1 && waiting.Has(d.first-1) {
		d.first--
	}
	d.products = d.judge(w, heads, queues)
	return d, nil
}

// digest tells messages apart by their good lines.
func digest(lines []sale.Line) string {
	var b []byte
	for i := range lines {
		switch l := &lines[i]; {
		case l.Err != nil:
		case l.Desk != nil:
			b = append(l.Desk.AppendLine(b), '\n')
		default:
			b = append(l.Order.AppendLine(b), '\n')
		}
	}
	return sale.HashOf(b)
}

// digestOf is the digest of the message that the link has settled.
func digestOf(link *sale.Link) string {
	var lines []sale.Line
	for i := range link.Orders {
		lines = append(lines, sale.Line{Order: link.Orders[i].Order})
	}
	for i := range link.Desk {
		lines = append(lines, sale.Line{Desk: &link.Desk[i].DeskLine})
	}
	return digest(lines)
}

// waitingIn are the messages in the queue that nothing has settled.
func waitingIn(queues map[sale.ProductID]*queued) *audit.Sequences {
	var waiting audit.Sequences
	for _, q := range queues {
		for _, seq := range q.seqs {
			if !q.settled[seq] {
				waiting.Add(seq)
			}
		}
	}
	return &waiting
}

// judge compares each product that is sold, or that the queue takes.
func (d *diagnosis) judge(w sale.Witness, heads map[sale.ProductID]*sale.Head, queues map[sale.ProductID]*queued) (all []productDiagnosis) {
	sold := maps.Clone(d.state.Acked)
	for p, head := range heads {
		if _, taken := sold[p]; !taken && head.N > 0 {
			sold[p] = 0
			d.state.Missing = append(d.state.Missing, p)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(sold)) {
		one := productDiagnosis{id: p, missing: slices.Contains(d.state.Missing, p), settled: &audit.Sequences{}}
		if head := heads[p]; head != nil && head.N > 0 {
			w.Acked = sold[p]
			one.behind = w.Check(head.Queue)
			if q := queues[p]; q != nil {
				for _, seq := range q.seqs {
					if seq <= d.state.Passed[p] {
						one.out++
					}
					switch {
					case q.settled[seq]:
						one.settled.Add(seq)
						one.stale++
					case head.Queue.Epoch == d.state.Epoch && seq <= head.Queue.Seq:
						one.passed++
					}
				}
			}
		}
		all = append(all, one)
	}
	return all
}

// torn tells whether sequences of the epoch do not mean the same to queue and history.
func (d *diagnosis) torn() bool {
	return d.lost > 0 || slices.ContainsFunc(d.products, func(p productDiagnosis) bool { return p.behind != nil || p.passed > 0 })
}

func (d *diagnosis) wrong() bool {
	return d.torn() || slices.ContainsFunc(d.products, func(p productDiagnosis) bool { return p.missing || p.out > 0 })
}

// print says what is behind, and what a repair does about it.
func (d *diagnosis) print(to io.Writer) {
	for _, p := range d.products {
		if p.behind == nil && !p.missing && p.out == 0 && p.passed == 0 {
			fmt.Fprintf(to, "%s: nothing to repair\n", p.id)
		}
		if p.behind != nil {
			fmt.Fprintf(to, "%s: %s\n", p.id, strings.TrimSuffix(p.behind.Error(), ": "+sale.ErrBehind.Error()))
		}
		if p.missing {
			fmt.Fprintf(to, "%s: the consumer is missing: it would be made\n", p.id)
		}
		if p.out > 0 {
			fmt.Fprintf(to, "%s: the consumer has passed over %d messages in the queue: it would be made again\n", p.id, p.out)
		}
		if p.passed > 0 {
			fmt.Fprintf(to, "%s: %d messages in the queue come before one that is settled, and are not: they would be decided\n", p.id, p.passed)
		}
		if p.stale > 0 && d.torn() {
			fmt.Fprintf(to, "%s: %d messages in the queue are settled by the history: they would be taken off\n", p.id, p.stale)
		}
	}
	if d.lost > 0 {
		fmt.Fprintf(to, "%d messages were acknowledged and are neither in the queue nor in the history: their orders are lost, and only --accept-loss %[1]d goes on\n", d.lost)
	}
	if d.torn() {
		fmt.Fprintf(to, "the queue would begin a new epoch at message %d\n", d.first)
	}
}

// mend does what print says. It may be repeated. Where a new epoch is needed no product
// has a consumer until it has begun, so that no instance decides by the old one.
func (d *diagnosis) mend(ctx context.Context, conn *broker.Conn, to io.Writer) error {
	now, err := broker.ReadQueueState(ctx, conn)
	if err != nil {
		return err
	}
	if len(now.Held) > 0 || now.Revision != d.state.Revision || now.Epoch != d.state.Epoch {
		return errors.New("nothing was done: an instance has decided meanwhile; stop the deciding instances, and run this again")
	}
	for _, p := range d.products {
		if d.torn() || p.out > 0 {
			if err := broker.RemoveConsumer(ctx, conn, p.id); err != nil {
				return err
			}
		}
	}
	for _, p := range d.products {
		if p.stale > 0 && d.torn() {
			if err := broker.Drop(ctx, conn, p.id, p.stale, p.settled.Has); err != nil {
				return err
			}
			fmt.Fprintf(to, "%s: %d messages are taken off the queue\n", p.id, p.stale)
		}
	}
	if d.torn() {
		if err := broker.RenewEpoch(ctx, conn, d.first); err != nil {
			return err
		}
		fmt.Fprintln(to, "the queue has begun a new epoch")
	}
	for _, p := range d.products {
		if err := broker.MakeConsumer(ctx, conn, p.id); err != nil {
			return err
		}
		if p.missing || p.out > 0 {
			fmt.Fprintf(to, "%s: the consumer is made\n", p.id)
		}
	}
	_, err = fmt.Fprintln(to, "done: start the instances, and run firstcome audit")
	return err
}
