package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"firstcome/internal/broker"
	"firstcome/internal/natsd"
	"firstcome/internal/web"
)

// Of the file descriptors that are not for buyers NATS clients may take half and the
// operator's port a quarter; what is left is the store's.
func natsConnections() int { return web.KeptBack() / 2 }
func opsConnections() int  { return web.KeptBack() / 4 }

// embed starts the embedded server. What is wrong with it names the key.
func embed(ctx context.Context, e embeddedConfig, log *slog.Logger) (*natsd.Server, error) {
	if e.Config == "" { // whose word on where to listen would win
		if err := vacant("nats.embedded.listen", e.Listen); err != nil {
			return nil, err
		}
	}
	server, err := natsd.Start(ctx, natsd.Config{Listen: e.Listen, StoreDir: e.StoreDir,
		SyncInterval: e.syncInterval(), MaxConnections: natsConnections(), ConfigFile: e.Config, Logger: log.With("part", "nats-server")})
	if errors.Is(err, natsd.ErrConfigFile) {
		return nil, usageError{fmt.Errorf("nats.embedded.config: %w", err)}
	}
	return server, err
}

// vacant fails, with the key, if nobody could listen on address. It leaves it free: a
// listener that does not answer yet keeps callers hanging.
func vacant(key, address string) error {
	probe, err := net.Listen("tcp", address)
	if err == nil {
		err = probe.Close()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// provision creates what is missing. An instance that names no product sells what
// the store has.
func provision(ctx context.Context, conn *broker.Conn, layout broker.Layout) error {
	err := broker.Provision(ctx, conn, layout)
	if !errors.Is(err, broker.ErrNoProduct) {
		return err
	}
	switch err := broker.ProvisionSold(ctx, conn); {
	case errors.Is(err, broker.ErrNoProduct):
		return noProducts(err)
	case err != nil:
		return err
	}
	return broker.Verify(ctx, conn, layout)
}

// noProducts is the configuration's fault, and says where it may come from.
func noProducts(err error) error {
	return usageError{fmt.Errorf("products: %w (FIRSTCOME_PRODUCTS, also when it is empty, overrides the file)", err)}
}

// sayAgain is how often a log that waits says what for.
const sayAgain = 10 * time.Second

// missingFor is how long something that only an admin makes may be missing: while a store
// is restored its parts appear one after another.
const missingFor = 10 * time.Second

// untilThere repeats step while the cluster is merely not there yet. It says that it
// waits, and when that is over.
func untilThere(ctx context.Context, log *slog.Logger, what string, step func(context.Context) error) error {
	begun, missing := time.Now(), time.Time{}
	for said := (time.Time{}); ; {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := step(attempt)
		cancel()
		if !errors.Is(err, broker.ErrMissing) {
			missing = time.Time{}
		} else if missing.IsZero() {
			missing = time.Now()
		}
		restoring := !missing.IsZero() && time.Since(missing) < missingFor
		switch {
		case err == nil:
			if !said.IsZero() {
				log.Info("no longer waiting for "+what, "after", time.Since(begun).Round(time.Millisecond))
			}
			return nil
		case broker.Final(err) && !restoring, ctx.Err() != nil:
			return err
		}
		if time.Since(said) > sayAgain {
			log.Warn("waiting for "+what, "err", err)
			said = time.Now()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}
