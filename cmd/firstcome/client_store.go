package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"firstcome/internal/broker"
	"firstcome/internal/natsd"
)

// examineTimeout bounds a command that reads everything stored: a history of many
// millions of orders takes minutes.
const examineTimeout = 30 * time.Minute

// storeFlag says where an embedded server's store is, whose mark is a witness of its
// queue. Without it the configuration or the environment says.
type storeFlag struct{ config string }

func (f *storeFlag) mark() (path string, err error) {
	cfg, err := loadConfig(f.config, os.Environ())
	if err != nil {
		return "", usageError{err}
	}
	e := cfg.NATS.Embedded
	dir, err := natsd.StoreDir(natsd.Config{Listen: e.Listen, StoreDir: e.StoreDir, ConfigFile: e.Config})
	if err != nil {
		return "", usageError{fmt.Errorf("nats.embedded.config: %w", err)}
	}
	return markFile(dir), nil
}

func (f *storeFlag) add(flags *pflag.FlagSet) {
	textFlag(flags, &f.config, "config", "the configuration of an instance with its own server: where its store is")
}

// examine runs a step that reads everything stored, with the place of the queue's mark.
func (f *storeFlag) examine(c *cobra.Command, n *natsFlags, step func(ctx context.Context, conn *broker.Conn, mark string) error) error {
	mark, err := f.mark()
	if err != nil {
		return err
	}
	conn, err := n.open(c)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(c.Context(), examineTimeout)
	defer cancel()
	return conn.Permitted(ctx, func(ctx context.Context) error { return step(ctx, conn, mark) })
}
