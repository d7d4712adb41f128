// Command firstcome sells limited stock strictly first come, first served, and
// tells every buyer the outcome the moment it is decided.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"firstcome/internal/broker"
)

func main() {
	ending := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // by nohup
		ending = append(ending, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ending...)
	context.AfterFunc(ctx, func() { // a second signal ends the process at once
		signal.Ignore(syscall.SIGHUP) // but that: a terminal that closes sends it more than once
		stop()
	})
	err := rootCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "firstcome:", err)
		os.Exit(exitCode(err))
	}
}

// usageError is a command line that cannot be meant; it exits with 2.
type usageError struct{ error }

// Unwrap is for errors.Is.
func (u usageError) Unwrap() error { return u.error }

func exitCode(err error) int {
	var usage usageError
	switch {
	case errors.As(err, &usage), errors.Is(err, broker.ErrSettings):
		return 2
	case errors.Is(err, errLineRefused):
		return 3
	case errors.Is(err, broker.ErrUndecided):
		return 4
	}
	return 1
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "firstcome",
		Short:         "Sell limited stock strictly first come, first served, and tell every buyer the outcome in real time",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(demoCommand(), serveCommand(), buyCommand(), stockCommand(), auditCommand(),
		benchCommand(), provisionCommand(), repairCommand(), healthCommand(), versionCommand())
	root.InitDefaultHelpCmd() // it would show the help of whatever it finds on the way to an unknown command
	if help, _, err := root.Find([]string{"help"}); err == nil {
		help.Args = func(_ *cobra.Command, topic []string) error {
			about, unknown, err := root.Find(topic)
			if err != nil {
				return usageError{err}
			}
			return noArgs(about, unknown)
		}
	}
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), "firstcome", version())
			return err
		},
	}
}

// version is what the build knows of itself: the module's version, or the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version + " " + info.GoVersion
}

// noArgs refuses arguments as a usage error.
func noArgs(c *cobra.Command, args []string) error { return usage(cobra.NoArgs(c, args)) }

// exactArgs wants n arguments.
func exactArgs(n int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error { return usage(cobra.ExactArgs(n)(c, args)) }
}

func usage(err error) error {
	if err != nil {
		return usageError{err}
	}
	return nil
}
