package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"firstcome/internal/audit"
	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

func repairCommand() *cobra.Command {
	var (
		flags  natsFlags
		yes    bool
		accept int64
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
			cfg, err := loadConfig("", os.Environ())
			if err != nil {
				return usageError{err}
			}
			conn, err := flags.open(c)
			if err != nil {
				return err
			}
			defer conn.Close()
			ctx, cancel := context.WithTimeout(c.Context(), auditTimeout)
			defer cancel()
			return conn.Permitted(ctx, func(ctx context.Context) error {
				r, err := diagnose(ctx, conn, markFile(cfg.NATS.Embedded.StoreDir), progressTo(c.ErrOrStderr()))
				if err != nil {
					return err
				}
				r.print(c.OutOrStdout())
				switch {
				case !r.wrong():
					return nil
				case len(r.state.Held) > 0:
					return fmt.Errorf("an instance decides %v: stop the instances first", r.state.Held)
				case !yes:
					return nil
				case uint64(max(accept, 0)) != r.lost:
					return fmt.Errorf("nothing was done: %d acknowledged messages are lost for good; --accept-loss %[1]d goes on without them", r.lost)
				}
				return r.mend(ctx, conn, c.OutOrStdout())
			})
		},
	}
	flags.add(c.Flags())
	c.Flags().BoolVar(&yes, "yes", false, "do what is said")
	c.Flags().Int64Var(&accept, "accept-loss", 0, "how many acknowledged messages to go on without, as printed")
	return c
}

// diagnosis is what queue and history say of each other.
type diagnosis struct {
	state    broker.QueueState
	products []productDiagnosis
	first    uint64 // the first sequence that is not settled
	lost     uint64 // messages that were acknowledged, and are neither queued nor settled
}

type productDiagnosis struct {
	id      sale.ProductID
	behind  error // wraps sale.ErrBehind, or nil
	missing bool  // the consumer
	covered func(seq uint64) bool
	stale   uint64 // messages in the queue that the history has settled
}

func diagnose(ctx context.Context, conn *broker.Conn, mark string, progress func(done, total uint64)) (d diagnosis, err error) {
	if d.state, err = broker.ReadQueueState(ctx, conn); err != nil {
		return d, err
	}
	w := sale.Witness{Epoch: d.state.Epoch, Last: d.state.Last}
	if epoch, seq, err := broker.ReadQueueMark(mark); err == nil && epoch == d.state.Epoch {
		w.Mark = seq // else it is another store's, or there is none
	}
	heads := map[sale.ProductID]*sale.Head{}
	settled := map[sale.ProductID]*audit.Sequences{}
	var all audit.Sequences // settled or queued
	var broken error
	missing, err := broker.ReadHistory(ctx, conn, func(p sale.ProductID, _ sale.Seq, value []byte) {
		if heads[p] == nil {
			heads[p], settled[p] = &sale.Head{Stock: sale.Stock{Product: p}}, &audit.Sequences{}
		}
		link, err := heads[p].Continue(value)
		switch {
		case errors.Is(err, sale.ErrNewer):
			broken = fmt.Errorf("product %s: %w", p, err)
		case err == nil && link.Queue.Epoch == d.state.Epoch && link.Queue.Seq > 0:
			settled[p].Add(link.Queue.Seq)
			all.Add(link.Queue.Seq)
		}
	}, progress)
	switch {
	case err != nil:
		return d, err
	case broken != nil:
		return d, broken
	case missing > 0:
		return d, fmt.Errorf("%w: the bucket lacks %d of its revisions, which no repair brings back: restore a copy of KV_stock", broker.ErrCut, missing)
	}
	stale := map[sale.ProductID]uint64{}
	d.first = d.state.Last + 1
	err = broker.ReadQueue(ctx, conn, d.state.Last, func(p sale.ProductID, seq uint64) {
		all.Add(seq)
		if settled[p] != nil && settled[p].Has(seq) {
			stale[p]++
		} else {
			d.first = min(d.first, seq)
		}
	})
	if err != nil {
		return d, err
	}
	d.lost = missingFrom(&all, d.state.First, max(d.state.Last, w.Mark))
	for _, p := range slices.Sorted(maps.Keys(d.state.Acked)) {
		one := productDiagnosis{id: p, missing: slices.Contains(d.state.Missing, p), stale: stale[p], covered: func(uint64) bool { return false }}
		if heads[p] != nil && heads[p].N > 0 {
			w.Acked = d.state.Acked[p]
			one.behind, one.covered = w.Check(heads[p].Queue), settled[p].Has
		}
		d.products = append(d.products, one)
	}
	return d, nil
}

// missingFrom counts the sequences from first to last that are not in the set.
func missingFrom(set *audit.Sequences, first, last uint64) (n uint64) {
	for seq := first; seq <= last; seq++ {
		if !set.Has(seq) {
			n++
		}
	}
	return n
}

func (d *diagnosis) wrong() bool {
	return d.lost > 0 || slices.ContainsFunc(d.products, func(p productDiagnosis) bool { return p.behind != nil || p.missing })
}

// print says what is behind, and what a repair does about it.
func (d *diagnosis) print(to io.Writer) {
	for _, p := range d.products {
		if p.behind == nil && !p.missing {
			fmt.Fprintf(to, "%s: nothing to repair\n", p.id)
			continue
		}
		if p.behind != nil {
			fmt.Fprintf(to, "%s: %v\n", p.id, p.behind)
		}
		if p.missing {
			fmt.Fprintf(to, "%s: the consumer is missing: it would be made\n", p.id)
		}
		if p.stale > 0 {
			fmt.Fprintf(to, "%s: %d messages in the queue are settled by the history: they would be taken off\n", p.id, p.stale)
		}
	}
	if d.lost > 0 {
		fmt.Fprintf(to, "%d messages were acknowledged and are neither in the queue nor in the history: their orders are lost, and only --accept-loss %[1]d goes on\n", d.lost)
	}
	if d.wrong() {
		fmt.Fprintf(to, "the queue would begin a new epoch at message %d\n", d.first)
	}
}

// mend does what print says. It may be repeated.
func (d *diagnosis) mend(ctx context.Context, conn *broker.Conn, to io.Writer) error {
	for _, p := range d.products {
		if p.missing {
			if err := broker.MakeConsumer(ctx, conn, p.id); err != nil {
				return err
			}
			fmt.Fprintf(to, "%s: the consumer is made\n", p.id)
		}
		if p.stale == 0 {
			continue
		}
		n, err := broker.DropCovered(ctx, conn, p.id, p.covered)
		if err != nil {
			return err
		}
		fmt.Fprintf(to, "%s: %d messages are taken off the queue\n", p.id, n)
	}
	if err := broker.RenewEpoch(ctx, conn, d.first); err != nil {
		return err
	}
	_, err := fmt.Fprintln(to, "done: the queue has begun a new epoch; start the instances, and run firstcome audit")
	return err
}
