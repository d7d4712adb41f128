package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// natsFlags are how commands that talk to NATS find it.
type natsFlags struct{ urls, creds, context string }

func (n *natsFlags) add(f *pflag.FlagSet) {
	textFlag(f, &n.urls, "nats", "NATS URL, or a comma-separated list (default nats://127.0.0.1:4222)")
	textFlag(f, &n.creds, "creds", "credentials file")
	textFlag(f, &n.context, "context", "context of the nats CLI, instead of --nats and --creds")
}

// open dials with what the flags say over what the environment says.
func (n *natsFlags) open(c *cobra.Command) (*broker.Conn, error) {
	cfg, err := loadConfig("", os.Environ())
	if err != nil {
		return nil, usageError{err}
	}
	cfg.Log.Level = "warn" // what is printed is the answer
	return n.connect(c.Context(), cfg.NATS.options(newLogger(cfg.Log, c.ErrOrStderr())))
}

// check finds what no server could have. An address without a scheme is one of
// nats://, as for the nats CLI.
func (n *natsFlags) check() error {
	if n.urls == "" {
		return nil
	}
	var r rules
	for i, server := range strings.Split(n.urls, ",") {
		server = strings.TrimSpace(server)
		if !strings.Contains(server, "://") {
			server = "nats://" + server
		}
		r.server("--nats", i+1, server)
	}
	return joined(r.broken)
}

// connect dials with what the flags say over what base says.
func (n *natsFlags) connect(ctx context.Context, base broker.Options) (*broker.Conn, error) {
	if n.context != "" && (n.urls != "" || n.creds != "") {
		return nil, usageError{errors.New("--context stands for --nats and --creds: give one or the other")}
	}
	if err := n.check(); err != nil {
		return nil, usageError{err}
	}
	base.Name = "firstcome cli"
	base.Context = n.context
	base.URLs = cmp.Or(n.urls, base.URLs, "nats://127.0.0.1:4222")
	base.Credentials = cmp.Or(n.creds, base.Credentials)
	c, err := broker.Connect(base)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	if err := c.Permitted(ctx, c.Check); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// commandTimeout bounds what a command asks of NATS at one time.
const commandTimeout = 10 * time.Second

// errRefused makes a command exit with 1 after it has said why itself.
var errRefused = errors.New("the order was not accepted")

func buyCommand() *cobra.Command {
	var (
		flags          natsFlags
		email, product string
		quantity       int
		wait           time.Duration
	)
	c := &cobra.Command{
		Use:   "buy --email a@b.c",
		Short: "Place an order over NATS and wait for its outcome",
		Long: `Place an order over NATS and wait for its outcome, which is printed as a status.
It exits with 0 if the order was accepted, and with 1 if not.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			order, err := newOrder(email, quantity)
			if err != nil {
				return usageError{err}
			}
			if wait <= 0 {
				return usageError{fmt.Errorf("--timeout must be above 0s, is %s", wait)}
			}
			var id sale.ProductID
			if product != "" {
				if id, err = parseProduct(product); err != nil {
					return usageError{fmt.Errorf("--product: %w", err)}
				}
			}
			conn, err := flags.open(c)
			if err != nil {
				return err
			}
			defer conn.Close()
			ctx, cancel := context.WithTimeout(c.Context(), wait)
			defer cancel()
			var status broker.Heard
			err = conn.Permitted(ctx, func(ctx context.Context) error {
				if id == "" {
					if id, err = onlyProduct(ctx, conn); err != nil {
						return err
					}
				}
				status, err = broker.Buy(ctx, conn, id, order)
				return err
			})
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), string(status.Body))
			if status.Outcome != sale.Accepted.String() {
				return fmt.Errorf("%w: %s", errRefused, status.Outcome)
			}
			return nil
		},
	}
	flags.add(c.Flags())
	textFlag(c.Flags(), &email, "email", "the buyer's address")
	textFlag(c.Flags(), &product, "product", "what to buy; may be left out while only one product is sold")
	c.Flags().IntVar(&quantity, "quantity", 1, "units, 1 to 1000")
	c.Flags().DurationVar(&wait, "timeout", time.Minute, "how long to wait for the outcome")
	return c
}

func newOrder(email string, quantity int) (sale.Order, error) {
	address, err := sale.ParseEmail(email)
	if err != nil {
		return sale.Order{}, fmt.Errorf("--email: %w", err)
	}
	if quantity < 1 || quantity > sale.MaxQuantity {
		return sale.Order{}, fmt.Errorf("--quantity: %w", sale.ErrQuantity)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return sale.Order{}, err
	}
	return sale.Order{ID: sale.OrderID(id), Email: address, Quantity: quantity, PlacedAt: sale.Instant(time.Now())}, nil
}

// parseProduct reads a product of the command line.
func parseProduct(name string) (sale.ProductID, error) {
	id, err := sale.ParseProductID(name)
	if err != nil {
		return "", usageError{fmt.Errorf("%q is %w", name, err)}
	}
	return id, nil
}

// onlyProduct finds the only product there is.
func onlyProduct(ctx context.Context, conn *broker.Conn) (sale.ProductID, error) {
	links, err := newestLinks(ctx, broker.NewHistory(conn))
	if err != nil {
		return "", err
	}
	var products []sale.ProductID
	for _, link := range links {
		products = append(products, link.Product)
	}
	if len(products) != 1 {
		return "", usageError{fmt.Errorf("--product is needed: one of %v", products)}
	}
	return products[0], nil
}

func provisionCommand() *cobra.Command {
	var (
		flags natsFlags
		file  string
	)
	c := &cobra.Command{
		Use:   "provision --config FILE",
		Short: "Create what is missing in JetStream: streams, bucket, products",
		Long: `Create what is missing in JetStream: the streams, the bucket, and each product's
subject, consumer and first supply. What exists with other settings is an error,
and is never changed. Run it as an admin; instances can then run with
nats.provision: false and fewer permissions.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file, os.Environ())
			if err != nil {
				return usageError{err}
			}
			layout := cfg.layout()
			conn, err := flags.connect(c.Context(), cfg.NATS.options(newLogger(cfg.Log, c.ErrOrStderr())))
			if err != nil {
				return err
			}
			defer conn.Close()
			ctx, cancel := context.WithTimeout(c.Context(), 3*commandTimeout)
			defer cancel()
			err = conn.Permitted(ctx, func(ctx context.Context) error { return broker.Provision(ctx, conn, layout) })
			if errors.Is(err, broker.ErrNoProduct) {
				return noProducts(err)
			}
			if err != nil {
				return err
			}
			for _, p := range layout.Products {
				fmt.Fprintln(c.OutOrStdout(), "ready:", p.ID)
			}
			return nil
		},
	}
	flags.add(c.Flags())
	textFlag(c.Flags(), &file, "config", "the configuration file")
	return c
}
