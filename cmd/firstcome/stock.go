package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

func stockCommand() *cobra.Command {
	var flags natsFlags
	c := &cobra.Command{
		Use:   "stock",
		Short: "Look at the stock, and change it while the sale runs",
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	flags.add(c.PersistentFlags())
	c.AddCommand(stockList(&flags), stockGet(&flags), stockSet(&flags), stockAdd(&flags), stockWatch(&flags))
	return c
}

// withStocks runs a step on the bucket.
func (n *natsFlags) withStocks(c *cobra.Command, step func(context.Context, *broker.Stocks) error) error {
	conn, err := n.open(c)
	if err != nil {
		return err
	}
	defer conn.Close()
	return onStocks(c.Context(), conn, step)
}

func onStocks(ctx context.Context, conn *broker.Conn, step func(context.Context, *broker.Stocks) error) error {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	return conn.Permitted(ctx, func(ctx context.Context) error {
		stocks, err := broker.OpenStocks(ctx, conn)
		if err != nil {
			return err
		}
		return step(ctx, stocks)
	})
}

func stockList(flags *natsFlags) *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List all products", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			conn, err := flags.open(c)
			if err != nil {
				return err
			}
			defer conn.Close()
			ctx, cancel := context.WithTimeout(c.Context(), commandTimeout)
			defer cancel()
			return conn.Permitted(ctx, func(ctx context.Context) error {
				shop, err := broker.OpenShop(ctx, conn)
				if err != nil {
					return err
				}
				defer shop.Close()
				return printStocks(c.OutOrStdout(), shop.Products(), true)
			})
		},
	}
}

func printStocks(to io.Writer, stocks []sale.Stock, head bool) error {
	w := tabwriter.NewWriter(to, 10, 0, 2, ' ', 0)
	if head {
		fmt.Fprintln(w, "PRODUCT\tSTATE\tAVAILABLE\tSOLD\tSUPPLIED\tDECIDED\tLIMIT")
	}
	for i := range stocks {
		s := &stocks[i]
		limit := "-"
		if s.LimitPerBuyer > 0 {
			limit = strconv.FormatInt(s.LimitPerBuyer, 10)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\n", s.Product, s.State(time.Now()), s.Available, s.Sold, s.Supplied, s.Decided, limit)
	}
	return w.Flush()
}

func stockGet(flags *natsFlags) *cobra.Command {
	return &cobra.Command{
		Use: "get PRODUCT", Short: "Print a product's stock value as JSON", Args: exactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			product, err := parseProduct(args[0])
			if err != nil {
				return err
			}
			return flags.withStocks(c, func(ctx context.Context, stocks *broker.Stocks) error {
				stock, _, err := stocks.Load(ctx, product)
				if err != nil {
					return err
				}
				return printJSON(c.OutOrStdout(), &stock)
			})
		},
	}
}

func printJSON(to io.Writer, stock *sale.Stock) error {
	out := json.NewEncoder(to)
	out.SetIndent("", "  ")
	return out.Encode(stock)
}

func stockSet(flags *natsFlags) *cobra.Command {
	var (
		limit            int64
		opensAt, closeAt string
		paused           bool
	)
	c := &cobra.Command{
		Use:   "set PRODUCT [AVAILABLE]",
		Short: "Set what is left of a product, its limit, its hours, or pause it",
		Long: `Set what is left of a product, its limit per buyer, its hours, or pause it. Only
what is named changes. Orders that are in the queue already are decided by the
new stock and limit; a pause and the hours concern the door only.`,
		Example: `  firstcome stock set tshirt 50
  firstcome stock set tshirt --limit-per-buyer 2 --opens-at 2026-12-01T18:00:00Z
  firstcome stock set tshirt --paused=true`,
		Args: func(c *cobra.Command, args []string) error { return usage(cobra.RangeArgs(1, 2)(c, args)) },
		RunE: func(c *cobra.Command, args []string) error {
			opens, err := parseHour("--opens-at", opensAt)
			if err != nil {
				return err
			}
			closes, err := parseHour("--closes-at", closeAt)
			if err != nil {
				return err
			}
			available := int64(-1)
			if len(args) == 2 {
				if available, err = parseUnits(args[1]); err == nil && available < 0 {
					err = usageError{fmt.Errorf("%q is not a number of units", args[1])}
				}
				if err != nil {
					return err
				}
			}
			changed := c.Flags().Changed
			if available < 0 && !changed("limit-per-buyer") && !changed("opens-at") && !changed("closes-at") && !changed("paused") {
				return usageError{errors.New("nothing to set")}
			}
			if limit < 0 || limit > sale.MaxUnits {
				return usageError{fmt.Errorf("--limit-per-buyer must be from 0 to %d, is %d", int64(sale.MaxUnits), limit)}
			}
			if opens != nil && closes != nil && !opens.Before(*closes) {
				return usageError{errors.New("--closes-at must be after --opens-at")}
			}
			return flags.change(c, args[0], func(s sale.Stock) (sale.Stock, error) {
				if available >= 0 {
					if s, err = s.Supply(available - s.Available); err != nil {
						return s, err
					}
				}
				if changed("limit-per-buyer") {
					s.LimitPerBuyer = limit
				}
				if changed("opens-at") {
					s.OpensAt = opens
				}
				if changed("closes-at") {
					s.ClosesAt = closes
				}
				if changed("paused") {
					s.Paused = paused
				}
				return s, s.Check()
			})
		},
	}
	c.Flags().Int64Var(&limit, "limit-per-buyer", 0, "units that one buyer may get; 0: no limit")
	c.Flags().Var(filled{&opensAt, " (none: it is open)"}, "opens-at", "when the door opens, RFC 3339; none: it is open")
	c.Flags().Var(filled{&closeAt, " (none: never)"}, "closes-at", "when the door closes, RFC 3339; none: never")
	c.Flags().BoolVar(&paused, "paused", false, "refuse orders at the door, until --paused=false")
	return c
}

// parseHour is nil for a flag that is not given, and for none.
func parseHour(flag, text string) (*time.Time, error) {
	if text == "" || text == "none" {
		return nil, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %q is not a time like 2026-12-01T18:00:00Z", flag, text)}
	}
	t = sale.Instant(t)
	return &t, nil
}

func stockAdd(flags *natsFlags) *cobra.Command {
	c := &cobra.Command{
		Use:     "add PRODUCT UNITS",
		Short:   "Put units on sale, or take unsold ones back with a negative number",
		Example: "  firstcome stock add tshirt 20\n  firstcome stock add tshirt -- -3",
		Args:    exactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			units, err := parseUnits(args[1])
			if err != nil {
				return err
			}
			return flags.change(c, args[0], func(s sale.Stock) (sale.Stock, error) { return s.Supply(units) })
		},
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return negative("firstcome stock add tshirt", err) })
	return c
}

// parseUnits reads an amount that a stock could have, or lose.
func parseUnits(text string) (int64, error) {
	units, err := strconv.ParseInt(text, 10, 64)
	if err != nil || units > sale.MaxUnits || units < -sale.MaxUnits {
		return 0, usageError{fmt.Errorf("%q is not a number of units", text)}
	}
	return units, nil
}

func (n *natsFlags) change(c *cobra.Command, name string, change func(sale.Stock) (sale.Stock, error)) error {
	product, err := parseProduct(name)
	if err != nil {
		return err
	}
	return n.withStocks(c, func(ctx context.Context, stocks *broker.Stocks) error {
		stock, err := stocks.Change(ctx, product, change)
		if err != nil {
			return err
		}
		return printStocks(c.OutOrStdout(), []sale.Stock{stock}, true)
	})
}

func stockWatch(flags *natsFlags) *cobra.Command {
	return &cobra.Command{
		Use: "watch [PRODUCT]", Short: "Print the stock at every change, until interrupted",
		Args: func(c *cobra.Command, args []string) error { return usage(cobra.MaximumNArgs(1)(c, args)) },
		RunE: func(c *cobra.Command, args []string) error {
			var only sale.ProductID
			if len(args) == 1 {
				var err error
				if only, err = parseProduct(args[0]); err != nil {
					return err
				}
			}
			conn, err := flags.open(c)
			if err != nil {
				return err
			}
			defer conn.Close()
			if only != "" {
				// A product that nobody sells would be watched in silence for ever.
				err := onStocks(c.Context(), conn, func(ctx context.Context, stocks *broker.Stocks) error {
					_, _, err := stocks.Load(ctx, only)
					return err
				})
				if err != nil {
					return err
				}
			}
			head := true
			return broker.WatchStock(c.Context(), conn, func(s sale.Stock) error {
				if only != "" && s.Product != only {
					return nil
				}
				err := printStocks(c.OutOrStdout(), []sale.Stock{s}, head)
				head = false
				return err
			})
		},
	}
}
