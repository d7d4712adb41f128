package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"firstcome/internal/broker"
)

// auditTimeout bounds an audit: a ledger of many millions of orders takes minutes.
const auditTimeout = 30 * time.Minute

func auditCommand() *cobra.Command {
	var flags natsFlags
	c := &cobra.Command{
		Use:   "audit",
		Short: "Recompute the history from the ledger and check the promise on it",
		Long: `Recompute the history from the ledger, and check the promises P1 to P5 and P8 on what
is stored: the queue, the stock and the ledger. It may run beside an open sale. It
exits with 1 if a promise is broken, and names it.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			conn, err := flags.open(c)
			if err != nil {
				return err
			}
			defer conn.Close()
			ctx, cancel := context.WithTimeout(c.Context(), auditTimeout)
			defer cancel()
			var report broker.Report
			err = conn.Permitted(ctx, func(ctx context.Context) (err error) {
				report, err = broker.Audit(ctx, conn)
				return err
			})
			if err != nil {
				return err
			}
			return printReport(c.OutOrStdout(), report)
		},
	}
	flags.add(c.Flags())
	return c
}

func printReport(to io.Writer, r broker.Report) error {
	for _, p := range r.Products {
		fmt.Fprintf(to, "%s: %d orders decided in %d ledger entries: %d accepted (%d units), %d sold out, %d over the limit, %d duplicates; %d of %d units left\n",
			p.Product, p.Orders, p.Entries, p.Accepted, p.UnitsSold, p.SoldOut, p.LimitReached, p.Duplicates, p.Available, p.Supplied)
		for _, note := range p.Notes {
			fmt.Fprintf(to, "%s: note: %s\n", p.Product, note)
		}
	}
	for _, f := range r.Findings {
		fmt.Fprintln(to, "BROKEN", f)
	}
	if n := len(r.Findings); n > 0 {
		return fmt.Errorf("the promise is broken in %d places", n)
	}
	_, err := fmt.Fprintln(to, "ok: P1 to P5 and P8 hold on what is stored")
	return err
}
