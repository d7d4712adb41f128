package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"firstcome/internal/bench"
)

// benchCommand measures running instances from outside.
func benchCommand() *cobra.Command {
	var (
		cfg      bench.Config
		baseline bool
		threads  int
	)
	cmd := &cobra.Command{
		Use:   "bench --url http://127.0.0.1:4000 --buyers 64 --orders 10000",
		Short: "Measure running instances from outside, and check what they promise",
		Long: `Measure running instances over HTTP and WebSocket, and check what they promise.

  (default)          closed loop: each buyer has a socket, orders, waits for the outcome, orders again
  --rate R           open loop: R orders a second arrive, late or not; latency counts from when an order was due
  --flood            connections only, every order of a new buyer; then the backlog drains
  --expect-refusals  as --flood, on a sale that is sold out or otherwise shut: 409 answers a second;
                     an open sale is an error

A run ends after --orders or --duration, whichever comes first.`,
		Example: `  firstcome bench --buyers 64 --orders 20000 --baseline --check
  firstcome bench --flood --buyers 256 --duration 5s --baseline --json
  firstcome bench --rate 5000 --buyers 512 --duration 10s --idle 10000`,
		Args:          noArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, given := range []struct {
				flag  string
				above bool
			}{
				{"buyers", cfg.Buyers > 0}, {"orders", cfg.Orders > 0}, {"duration", cfg.Duration > 0}, {"rate", cfg.Rate > 0},
				{"timeout", cfg.Timeout > 0}, {"limit", cfg.Limit > 0}, {"threads", threads > 0},
			} {
				if flag := cmd.Flags().Lookup(given.flag); flag.Changed && !given.above { // or the default would stand in for it
					return usageError{fmt.Errorf("--%s must be above zero, is %s", flag.Name, flag.Value)}
				}
			}
			if baseline {
				self, err := os.Executable()
				if err != nil {
					return fmt.Errorf("bench: the baseline runs this program a second time: %w", err)
				}
				cfg.Baseline = []string{self, "bench", "baseline-server"}
			}
			if term.IsTerminal(int(os.Stderr.Fd())) {
				cfg.Progress = os.Stderr
			}
			// The generator shares the machine with what it measures: it keeps to
			// its threads, and spends memory rather than time on garbage.
			runtime.GOMAXPROCS(threads)
			debug.SetGCPercent(400)
			_, err := bench.Run(cmd.Context(), cfg, cmd.OutOrStdout())
			if errors.Is(err, bench.ErrConfig) {
				return usageError{err}
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&cfg.URLs, "url", []string{"http://127.0.0.1:4000"}, "instance to measure; repeat it or separate by commas for several")
	f.IntVar(&cfg.Buyers, "buyers", 64, "buyers, each with a connection (and a socket in the closed and open loop)")
	f.Int64Var(&cfg.Orders, "orders", 0, "orders in all (default 10000 in the closed and open loop without --duration)")
	f.DurationVar(&cfg.Duration, "duration", 0, "send orders for so long (default 5s with --flood or --expect-refusals without --orders)")
	textFlag(f, &cfg.Product, "product", "product to buy (default the only one)")
	f.Float64Var(&cfg.Rate, "rate", 0, "open loop: orders per second")
	f.BoolVar(&cfg.Flood, "flood", false, "flood: no sockets, a new buyer for every order, until the backlog is drained")
	f.BoolVar(&cfg.ExpectRefusals, "expect-refusals", false, "measure 409 answers of a sale that is sold out or otherwise shut; exit 1 if it is open")
	f.IntVar(&cfg.Idle, "idle", 0, "further sockets that are only held open")
	f.BoolVar(&cfg.Check, "check", false, "verify from outside what is promised; exit 1 if it is broken")
	f.BoolVar(&cfg.Shared, "shared", false, "others order meanwhile: --check allows for them")
	f.BoolVar(&baseline, "baseline", false, "measure a bare handler with the same load in the same run, and report the ratio")
	f.BoolVar(&cfg.JSON, "json", false, "print one JSON object instead of the table")
	f.DurationVar(&cfg.Timeout, "timeout", 10*time.Second, "longest wait for an answer, and for an outcome after it")
	f.DurationVar(&cfg.Limit, "limit", 10*time.Minute, "longest run")
	f.IntVar(&threads, "threads", max(1, runtime.NumCPU()/2), "threads of the generator, which shares the machine with the server")

	cmd.AddCommand(&cobra.Command{
		Use:           "baseline-server",
		Short:         "Serve the bare handler that --baseline measures, until standard input ends",
		Hidden:        true,
		Args:          noArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return bench.ServeBaseline(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout())
		},
	})
	return cmd
}
