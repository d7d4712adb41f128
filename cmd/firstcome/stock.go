package main

import (
	"bytes"
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

// withHistory runs a step on the history.
func (n *natsFlags) withHistory(c *cobra.Command, step func(context.Context, *broker.Conn, *broker.History) error) error {
	conn, err := n.open(c)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(c.Context(), commandTimeout)
	defer cancel()
	return conn.Permitted(ctx, func(ctx context.Context) error { return step(ctx, conn, broker.NewHistory(conn)) })
}

func stockList(flags *natsFlags) *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List all products", Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return flags.withHistory(c, func(ctx context.Context, _ *broker.Conn, history *broker.History) error {
				links, err := newestLinks(ctx, history)
				if err != nil {
					return err
				}
				return printStocks(c.OutOrStdout(), links, true)
			})
		},
	}
}

// newestLinks are those of all products, by id. A key without a link is no product.
func newestLinks(ctx context.Context, history *broker.History) (links []broker.StoredLink, err error) {
	products, err := history.Products(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range products {
		link, err := history.Newest(ctx, p)
		if errors.Is(err, sale.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		links = append(links, link)
	}
	return links, nil
}

func printStocks(to io.Writer, links []broker.StoredLink, head bool) error {
	w := tabwriter.NewWriter(to, 10, 0, 2, ' ', 0)
	if head {
		fmt.Fprintln(w, "PRODUCT\tSTATE\tAVAILABLE\tSOLD\tSUPPLIED\tDECIDED\tLIMIT")
	}
	for i := range links {
		s := &links[i].Stock
		limit := "-"
		if s.LimitPerBuyer > 0 {
			limit = strconv.FormatInt(s.LimitPerBuyer, 10)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\n", s.Product, s.State(time.Now()), s.Available, s.Sold, s.Supplied, s.Decided, limit)
	}
	return w.Flush()
}

func stockGet(flags *natsFlags) *cobra.Command {
	var whole bool
	c := &cobra.Command{
		Use: "get PRODUCT", Short: "Print a product's newest link, without its orders", Args: exactArgs(1),
		Long: `Print a product's newest link, without its orders: the stock as it is now, and
what the next decision will hang on.`,
		RunE: func(c *cobra.Command, args []string) error {
			product, err := parseProduct(args[0])
			if err != nil {
				return err
			}
			return flags.withHistory(c, func(ctx context.Context, _ *broker.Conn, history *broker.History) error {
				link, err := history.Newest(ctx, product)
				if err != nil {
					return err
				}
				if whole {
					_, err := fmt.Fprintf(c.OutOrStdout(), "%s\n", link.Value)
					return err
				}
				return printLink(c.OutOrStdout(), link)
			})
		},
	}
	c.Flags().BoolVar(&whole, "json", false, "print it as it is stored, orders included, on one line")
	return c
}

func printLink(to io.Writer, link broker.StoredLink) error {
	short := *link.Link
	short.Orders = nil
	value := bytes.Replace(short.Encode(), []byte(`,"orders":[]`), nil, 1)
	var out bytes.Buffer
	if err := json.Indent(&out, value, "", "  "); err != nil {
		return err
	}
	_, err := fmt.Fprintln(to, out.String())
	return err
}

func stockSet(flags *natsFlags) *cobra.Command {
	var (
		desk             deskFlags
		limit            int64
		opensAt, closeAt string
		paused           bool
	)
	c := &cobra.Command{
		Use:   "set PRODUCT [AVAILABLE]",
		Short: "Set what is left of a product, its limit, its hours, or pause it",
		Long: `Set what is left of a product, its limit per buyer, its hours, or pause it. Only
what is named changes. The change is a message in the queue like an order: what was queued
before it is still decided by the old stock and limit. A pause closes the door at once.
It exits with 3 if the change was refused, and with 4 if it waits in the queue.`,
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
			if opens.At != nil && closes.At != nil && !opens.At.Before(*closes.At) {
				return usageError{errors.New("--closes-at must be after --opens-at")}
			}
			var lines []sale.DeskLine
			if available >= 0 {
				lines = append(lines, sale.DeskLine{Do: sale.DoSupply, Available: &available})
			}
			terms := sale.DeskLine{Do: sale.DoTerms}
			if changed("limit-per-buyer") {
				terms.LimitPerBuyer = &limit
			}
			if changed("opens-at") {
				terms.OpensAt = &opens
			}
			if changed("closes-at") {
				terms.ClosesAt = &closes
			}
			if changed("paused") {
				terms.Paused = &paused
			}
			if terms.Check() == nil {
				lines = append(lines, terms)
			}
			return desk.steer(c, flags, args[0], lines)
		},
	}
	c.Flags().Int64Var(&limit, "limit-per-buyer", 0, "units that one buyer may get; 0: no limit")
	c.Flags().Var(filled{&opensAt, " (none: it is open)"}, "opens-at", "when the door opens, RFC 3339; none: it is open")
	c.Flags().Var(filled{&closeAt, " (none: never)"}, "closes-at", "when the door closes, RFC 3339; none: never")
	c.Flags().BoolVar(&paused, "paused", false, "refuse orders at the door, until --paused=false")
	desk.add(c.Flags())
	return c
}

// parseHour is none for a flag that is not given, and for none.
func parseHour(flag, text string) (sale.Hour, error) {
	if text == "" || text == "none" {
		return sale.Hour{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return sale.Hour{}, usageError{fmt.Errorf("%s: %q is not a time like 2026-12-01T18:00:00Z", flag, text)}
	}
	hour, err := sale.NewHour(t)
	if err != nil {
		return hour, usageError{fmt.Errorf("%s: %q is %w", flag, text, err)}
	}
	return hour, nil
}

func stockAdd(flags *natsFlags) *cobra.Command {
	var desk deskFlags
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
			if units == 0 {
				return usageError{errors.New("0 units change nothing")}
			}
			return desk.steer(c, flags, args[0], []sale.DeskLine{{Do: sale.DoSupply, Units: &units}})
		},
	}
	desk.add(c.Flags())
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
			history := broker.NewHistory(conn)
			if only != "" {
				// A product that nobody sells would be watched in silence for ever.
				ctx, cancel := context.WithTimeout(c.Context(), commandTimeout)
				defer cancel()
				if _, err := history.Newest(ctx, only); err != nil {
					return err
				}
			}
			head := true
			return broker.WatchHistory(c.Context(), conn, func(link broker.StoredLink) error {
				if only != "" && link.Product != only {
					return nil
				}
				err := printStocks(c.OutOrStdout(), []broker.StoredLink{link}, head)
				head = false
				return err
			})
		},
	}
}
