package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"firstcome/internal/broker"
	"firstcome/internal/sale"
)

// deskFlags say by whom a change is made, why, and how long to wait for it.
type deskFlags struct {
	by, why string
	wait    time.Duration
}

func (d *deskFlags) add(f *pflag.FlagSet) {
	textFlag(f, &d.by, "by", "your name, as the history keeps it (default: that of the user)")
	textFlag(f, &d.why, "why", "the reason, as the history keeps it")
	f.DurationVar(&d.wait, "timeout", commandTimeout, "how long to wait for the decision")
}

// errLineRefused makes a command exit with 3.
var errLineRefused = errors.New("the change was refused")

// steer puts the lines before the product's worker and shows what became of them.
func (d *deskFlags) steer(c *cobra.Command, flags *natsFlags, name string, lines []sale.DeskLine) error {
	product, err := parseProduct(name)
	if err != nil {
		return err
	}
	if d.wait <= 0 {
		return usageError{fmt.Errorf("--timeout must be above 0s, is %s", d.wait)}
	}
	if d.by == "" {
		d.by = userName()
	}
	for i := range lines {
		id, err := uuid.NewV7()
		if err != nil {
			return err
		}
		lines[i].ID, lines[i].By, lines[i].Why = sale.OrderID(id), d.by, d.why
		if err := lines[i].Check(); err != nil {
			return usageError{err}
		}
	}
	conn, err := flags.open(c)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(c.Context(), d.wait)
	defer cancel()
	var steered broker.Steered
	err = conn.Permitted(ctx, func(ctx context.Context) (err error) {
		steered, err = broker.Steer(ctx, conn, product, lines)
		return err
	})
	if err != nil {
		return err
	}
	return printSteered(c.OutOrStdout(), steered)
}

// userName is who runs the command, as far as a link can hold it.
func userName() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	name := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, u.Username)
	for len(name) > sale.MaxBy {
		name = name[:len(name)-1]
	}
	return strings.ToValidUTF8(name, "")
}

// printSteered shows what the change did, before and after it.
func printSteered(to io.Writer, s broker.Steered) error {
	after := &s.After.Stock
	before := after // unknown, so nothing is said of it
	if s.Before.Link != nil {
		before = &s.Before.Stock
	}
	fmt.Fprintf(to, "%s, link %d, revision %d\n", after.Product, s.After.N, s.After.Revision)
	for _, row := range []struct{ name, before, after string }{
		{"available", strconv.FormatInt(before.Available, 10), strconv.FormatInt(after.Available, 10)},
		{"supplied", strconv.FormatInt(before.Supplied, 10), strconv.FormatInt(after.Supplied, 10)},
		{"limit_per_buyer", strconv.FormatInt(before.LimitPerBuyer, 10), strconv.FormatInt(after.LimitPerBuyer, 10)},
		{"opens_at", hourText(before.OpensAt), hourText(after.OpensAt)},
		{"closes_at", hourText(before.ClosesAt), hourText(after.ClosesAt)},
		{"paused", strconv.FormatBool(before.Paused), strconv.FormatBool(after.Paused)},
	} {
		if row.before != row.after {
			fmt.Fprintf(to, "  %s: %s → %s\n", row.name, row.before, row.after)
		}
	}
	var refused error
	for _, line := range s.After.Desk {
		if line.Refused != "" {
			refused = fmt.Errorf("%w: %s", errLineRefused, line.Refused)
		}
	}
	if refused == nil && len(s.After.Desk) == 0 { // such lines are checked before they are sent
		return fmt.Errorf("the queue's message %d holds no line that could be read", s.After.Queue.Seq)
	}
	return refused
}

func hourText(t *time.Time) string {
	if t == nil {
		return "none"
	}
	return t.Format(time.RFC3339Nano)
}
