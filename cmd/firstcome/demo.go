package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
)

func demoCommand() *cobra.Command {
	var (
		listen, natsListen, storeDir string
		processing                   time.Duration
	)
	stock := int64(5)
	c := &cobra.Command{
		Use:   "demo",
		Short: "Sell five t-shirts: everything in this process, NATS included",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig("", append([]string{"FIRSTCOME_LOG_LEVEL=warn"}, os.Environ()...))
			if err != nil {
				return usageError{err}
			}
			set := func(flag string, apply func()) {
				if c.Flags().Changed(flag) {
					apply()
				}
			}
			cfg.Worker.ProcessingTime = processing
			cfg.Products = []productConfig{{ID: "tshirt", Stock: stock}}
			set("listen", func() { cfg.HTTP.Listen = listen })
			set("nats-listen", func() { cfg.NATS.Embedded.Listen = natsListen })
			if cfg.NATS.URL != "" {
				return usageError{errors.New("a demo brings its own NATS: use serve with nats.url")}
			}
			if err := cfg.validate(); err != nil {
				return usageError{err}
			}
			if storeDir == "" {
				if storeDir, err = os.MkdirTemp("", "firstcome-demo-"); err != nil {
					return err
				}
				defer os.RemoveAll(storeDir) // a demo without a directory of its own leaves nothing behind
			}
			cfg.NATS.Embedded.StoreDir = storeDir
			return serve(c.Context(), cfg, newLogger(cfg.Log, c.ErrOrStderr()), serveOptions{
				demo:  true,
				ready: func(a addresses) { greet(c.OutOrStdout(), a, storeDir) },
			})
		},
	}
	f := c.Flags()
	f.StringVar(&listen, "listen", "127.0.0.1:4000", "address of the shop")
	f.StringVar(&natsListen, "nats-listen", "127.0.0.1:4222", "address of the embedded NATS server")
	f.Int64Var(&stock, "stock", stock, "units on sale, if the store is new")
	f.DurationVar(&processing, "processing-time", 2*time.Second, "imitated work per order, so that a human can watch the queue")
	f.StringVar(&storeDir, "store-dir", "", "directory to keep the sale in (default: a temporary one, removed at the end)")
	return c
}

func greet(to io.Writer, a addresses, storeDir string) {
	fmt.Fprintf(to, `
  firstcome is selling t-shirts, first come, first served.

    the shop        http://%s
    the operator    http://%s/metrics
    NATS            %s
    live statuses   nats -s %[3]s sub 'status.>'
    the store       %[4]s

  Ctrl-C ends it.

`, a.http, a.ops, a.nats, storeDir)
}
