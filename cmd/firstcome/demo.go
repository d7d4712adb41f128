package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func demoCommand() *cobra.Command {
	var (
		listen, natsListen = "127.0.0.1:4000", "127.0.0.1:4222"
		storeDir           string
		stock              int64
		processing         time.Duration
	)
	c := &cobra.Command{
		Use:   "demo",
		Short: "Sell five t-shirts: everything in this process, NATS included",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, kept, err := demoConfig(os.Environ())
			if err != nil {
				return usageError{err}
			}
			set := func(flag string, apply func()) {
				if c.Flags().Changed(flag) {
					apply()
				}
			}
			set("processing-time", func() { cfg.Worker.ProcessingTime = processing })
			set("stock", func() {
				for i := range cfg.Products {
					cfg.Products[i].Stock = stock
				}
			})
			set("store-dir", func() { cfg.NATS.Embedded.StoreDir, kept = storeDir, true })
			set("listen", func() { cfg.HTTP.Listen = listen })
			set("nats-listen", func() { cfg.NATS.Embedded.Listen = natsListen })
			if cfg.NATS.URL != "" {
				return usageError{errors.New("a demo brings its own NATS: use serve with nats.url")}
			}
			store := &cfg.NATS.Embedded.StoreDir
			if !kept {
				if *store, err = os.MkdirTemp("", "firstcome-demo-"); err != nil {
					return err
				}
				defer os.RemoveAll(*store) // a demo without a directory of its own leaves nothing behind
			}
			if err := cfg.validate(); err != nil {
				return usageError{err}
			}
			said := newUnblockedLog(cfg.Log, c.ErrOrStderr())
			defer said.close()
			return serve(c.Context(), cfg, newLogger(cfg.Log, said), serveOptions{
				demo:  true,
				ready: func(a addresses) { greet(c.OutOrStdout(), a, cfg) },
			})
		},
	}
	f := c.Flags()
	textFlag(f, &listen, "listen", "address of the shop")
	textFlag(f, &natsListen, "nats-listen", "address of the embedded NATS server")
	f.Int64Var(&stock, "stock", demoStock, "units on sale, if the store is new")
	f.DurationVar(&processing, "processing-time", demoWork, "imitated work per order, so that a human can watch the queue")
	textFlag(f, &storeDir, "store-dir", "directory to keep the sale in (default: a temporary one, removed at the end)")
	return c
}

// What a demo sells, and how slowly, where neither flags nor the environment say.
const (
	demoStock = 5
	demoWork  = 2 * time.Second
)

// demoConfig is what environ says over what a demo is without it. A store that
// environ names is kept.
func demoConfig(environ []string) (cfg config, kept bool, err error) {
	l := newLoader()
	l.cfg.Log.Level = "warn"
	l.cfg.Worker.ProcessingTime = demoWork
	l.cfg.Products = []productConfig{{ID: "tshirt", Stock: demoStock}}
	l.environment(environ)
	_, kept = l.origin["nats.embedded.store_dir"]
	cfg, err = l.finish(unasked, pictures)
	return cfg, kept, err
}

func greet(to io.Writer, a addresses, cfg config) {
	var products []string
	for _, p := range cfg.Products {
		products = append(products, p.ID)
	}
	fmt.Fprintf(to, `
  firstcome is selling %[4]s, first come, first served.

    the shop        http://%[1]s
    the operator    http://%[2]s/metrics
    NATS            %[3]s
    live statuses   nats -s %[3]s sub 'status.>'
    the store       %[5]s

  Ctrl-C ends it.

`, a.http, a.ops, a.nats, strings.Join(products, ", "), cfg.NATS.Embedded.StoreDir)
}
