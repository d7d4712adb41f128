package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
)

func demoCommand() *cobra.Command {
	cfg := defaultConfig()
	cfg.Ops.Listen = "127.0.0.1:0"
	var storeDir string
	stock := int64(5)
	c := &cobra.Command{
		Use:   "demo",
		Short: "Sell five t-shirts: everything in this process, NATS included",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			cfg.Products = []productConfig{{ID: "tshirt", Stock: stock}}
			if storeDir == "" {
				if storeDir, err = os.MkdirTemp("", "firstcome-demo-"); err != nil {
					return err
				}
				defer os.RemoveAll(storeDir) // a demo without a directory of its own leaves nothing behind
			}
			cfg.NATS.Embedded.StoreDir = storeDir
			if err := cfg.validate(); err != nil {
				return usageError{err}
			}
			log := newLogger(cfg.Log, c.ErrOrStderr())
			return serve(c.Context(), cfg, log, serveOptions{loopbackOrigins: true, ready: func(a addresses) {
				fmt.Fprintf(c.OutOrStdout(), `
  firstcome is selling %d t-shirts, first come, first served.

    the shop        http://%s
    NATS            %s      nats -s %[3]s sub 'status.>'
    the operator    http://%s/metrics
    the store       %s

  Ctrl-C ends it.

`, stock, a.http, a.nats, a.ops, storeDir)
			}})
		},
	}
	f := c.Flags()
	f.StringVar(&cfg.HTTP.Listen, "listen", cfg.HTTP.Listen, "address of the shop")
	f.StringVar(&cfg.NATS.Embedded.Listen, "nats-listen", cfg.NATS.Embedded.Listen, "address of the embedded NATS server")
	f.StringVar(&cfg.Ops.Listen, "ops-listen", cfg.Ops.Listen, "address of the operator's port; 0 takes a free one")
	f.Int64Var(&stock, "stock", stock, "units on sale, if the store is new")
	f.DurationVar(&cfg.Worker.ProcessingTime, "processing-time", 2*time.Second, "imitated work per order, so that a human can watch the queue")
	f.StringVar(&storeDir, "store-dir", "", "directory to keep the sale in (default: a temporary one, removed at the end)")
	f.StringVar(&cfg.Log.Level, "log-level", "warn", "debug, info, warn or error")
	return c
}
