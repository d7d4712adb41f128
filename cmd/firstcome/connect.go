package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"firstcome/internal/broker"
	"firstcome/internal/natsd"
)

// connect starts the embedded server, or waits for the cluster to be there.
func (in *instance) connect(ctx context.Context, failed context.CancelCauseFunc) (err error) {
	options := in.cfg.NATS.options(in.log)
	if in.cfg.NATS.URL == "" {
		if err := in.embed(ctx); err != nil {
			return err
		}
		in.running.Go(func() {
			<-in.nats.Done()
			failed(errors.New("the embedded NATS server ended"))
		})
		options.InProcess = in.nats
	}
	return in.untilThere(ctx, "NATS", func(ctx context.Context) error {
		if in.conn == nil {
			if in.conn, err = broker.Connect(options); err != nil {
				return err
			}
		}
		layout, err := in.cfg.layout()
		if err != nil {
			return permanent{err}
		}
		return in.conn.Permitted(ctx, func(ctx context.Context) error {
			if err := in.conn.Check(ctx); err != nil {
				return err
			}
			if in.cfg.NATS.Provision {
				return in.provision(ctx, layout)
			}
			return broker.Verify(ctx, in.conn, layout)
		})
	})
}

// embed starts the embedded server. What is wrong with it names the key.
func (in *instance) embed(ctx context.Context) (err error) {
	e := in.cfg.NATS.Embedded
	if e.Config == "" { // whose word on where to listen would win
		if err := vacant("nats.embedded.listen", e.Listen); err != nil {
			return err
		}
	}
	in.nats, err = natsd.Start(ctx, natsd.Config{Listen: e.Listen, StoreDir: e.StoreDir,
		SyncInterval: e.syncInterval(), ConfigFile: e.Config, Logger: in.log.With("part", "nats-server")})
	if errors.Is(err, natsd.ErrConfigFile) {
		return usageError{fmt.Errorf("nats.embedded.config: %w", err)}
	}
	return err
}

// vacant fails, with the key, if nobody could listen on address. It leaves it free:
// who listens before it can answer keeps callers hanging.
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
func (in *instance) provision(ctx context.Context, layout broker.Layout) error {
	none := broker.Provision(ctx, in.conn, layout)
	if !errors.Is(none, broker.ErrNoProduct) {
		return none
	}
	stocks, err := broker.OpenStocks(ctx, in.conn)
	if errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if err != nil { // there is no bucket
		return noProducts(none)
	}
	products, err := stocks.Products(ctx)
	if err != nil {
		return err
	}
	if len(products) == 0 {
		return noProducts(none)
	}
	return broker.Verify(ctx, in.conn, layout)
}

// noProducts is the configuration's fault, and says where it may come from.
func noProducts(err error) error {
	return usageError{fmt.Errorf("products: %w (FIRSTCOME_PRODUCTS, also when it is empty, overrides the file)", err)}
}

// permanent is an error that waiting does not mend.
type permanent struct{ error }

// sayAgain is how often a log that waits says what for.
const sayAgain = 10 * time.Second

// untilThere repeats step while the cluster is merely not there yet. It says that it
// waits, and when that is over.
func (in *instance) untilThere(ctx context.Context, what string, step func(context.Context) error) error {
	begun := time.Now()
	for said := (time.Time{}); ; {
		attempt, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := step(attempt)
		cancel()
		var final permanent
		switch {
		case err == nil:
			if !said.IsZero() {
				in.log.Info("no longer waiting for "+what, "after", time.Since(begun).Round(time.Millisecond))
			}
			return nil
		case errors.As(err, &final), broker.Final(err), ctx.Err() != nil:
			return err
		}
		if time.Since(said) > sayAgain {
			in.log.Warn("waiting for "+what, "err", err)
			said = time.Now()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}
