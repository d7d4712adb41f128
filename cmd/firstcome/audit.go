package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"firstcome/internal/audit"
	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

func auditCommand() *cobra.Command {
	var (
		flags natsFlags
		store storeFlag
	)
	c := &cobra.Command{
		Use:   "audit",
		Short: "Recompute the history and check the promise on it",
		Long: `Recompute the history: decide every order and every change of the desk again, and
compare. With the queue beside it this checks the promises P1 to P5 and P8 on what is
stored. It may run beside an open sale. It exits with 1 if a promise is broken, and
names it.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var r report
			err := store.examine(c, &flags, func(ctx context.Context, conn *broker.Conn, mark string) (err error) {
				r, err = runAudit(ctx, conn, mark, progressTo(c.ErrOrStderr()))
				return err
			})
			if err != nil {
				return err
			}
			return r.print(c.OutOrStdout())
		},
	}
	flags.add(c.Flags())
	store.add(c.Flags())
	return c
}

// report is what an audit of everything stored found.
type report struct {
	products []audit.Summary
	findings []audit.Finding // empty: every promise that can be checked is kept
}

// runAudit reads queue and history in the order in which a sale may go on meanwhile. A
// mark that an embedded server left in that file is a further witness of its queue.
func runAudit(ctx context.Context, conn *broker.Conn, mark string, progress func(done, total uint64)) (r report, err error) {
	state, err := broker.ReadQueueState(ctx, conn)
	if err != nil {
		return r, err
	}
	queue := audit.Queue{Epoch: state.Epoch, First: state.First, Last: state.Last, Acked: state.Acked, Passed: state.Passed, Queued: map[sale.ProductID]*audit.Sequences{}}
	epoch, seq, err := broker.ReadQueueMark(mark)
	if err != nil {
		return r, err
	}
	if epoch == state.Epoch {
		queue.Mark = seq // else it is another store's, or there is none
	}
	replays := map[sale.ProductID]*audit.Replay{}
	for p := range state.Acked {
		replays[p] = audit.New(p)
	}
	err = broker.ReadQueue(ctx, conn, state.Last, func(m *sale.Message) {
		if queue.Queued[m.Product] == nil {
			queue.Queued[m.Product] = &audit.Sequences{}
		}
		queue.Queued[m.Product].Add(m.Seq)
	})
	if err != nil {
		return r, err
	}
	missing, err := broker.ReadHistory(ctx, conn, func(p sale.ProductID, seq sale.Seq, value []byte) {
		if replays[p] == nil {
			replays[p] = audit.New(p)
		}
		replays[p].Revision(seq, value)
	}, progress)
	if err != nil {
		return r, err
	}
	after, err := broker.ReadQueueState(ctx, conn)
	if err != nil {
		return r, err
	}
	if queue.End = after.Last; after.Epoch != state.Epoch {
		return r, errors.New("the queue was replaced meanwhile: run the audit again")
	}
	if missing > 0 {
		r.findings = append(r.findings, audit.Finding{Promise: "P8", Detail: fmt.Sprintf("the history is cut: the bucket lacks %d of its revisions", missing)})
	}
	var sold []*audit.Replay
	for _, p := range slices.Sorted(maps.Keys(replays)) {
		r.findings = append(r.findings, replays[p].Finish()...)
		if _, queued := state.Acked[p]; queued || replays[p].Summary().Links > 0 {
			r.products = append(r.products, replays[p].Summary())
		}
		sold = append(sold, replays[p])
	}
	r.findings = append(r.findings, audit.CheckQueue(queue, sold...)...)
	return r, nil
}

func (r *report) print(to io.Writer) error {
	for _, p := range r.products {
		fmt.Fprintf(to, "%s: %d links: %d orders decided, %d accepted (%d units), %d sold out, %d over the limit, %d duplicates; %d changes by the desk, %d refused; %d of %d units left\n",
			p.Product, p.Links, p.Orders, p.Accepted, p.UnitsSold, p.SoldOut, p.LimitReached, p.Duplicates, p.DeskDone, p.DeskRefused, p.Available, p.Supplied)
		for _, note := range p.Notes {
			fmt.Fprintf(to, "%s: note: %s\n", p.Product, note)
		}
	}
	for _, f := range r.findings {
		fmt.Fprintln(to, "BROKEN", f)
	}
	if n := len(r.findings); n > 0 {
		return fmt.Errorf("the promise is broken in %d places", n)
	}
	_, err := fmt.Fprintln(to, "ok: P1 to P5 and P8 hold on what is stored")
	return err
}

// progressTo draws a bar on a terminal, and nothing elsewhere.
func progressTo(to io.Writer) func(done, total uint64) {
	file, ok := to.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return func(uint64, uint64) {}
	}
	var bar *progressbar.ProgressBar
	return func(done, total uint64) {
		if bar == nil {
			bar = progressbar.NewOptions64(int64(total), progressbar.OptionSetWriter(file), progressbar.OptionSetDescription("audit"),
				progressbar.OptionShowCount(), progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(),
				progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionSetSpinnerChangeInterval(0))
		}
		_ = bar.Set64(int64(done)) // a terminal that is gone is no reason to end an audit
	}
}
