package natsd

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

// options turns cfg into the server's own, with the configuration file, if
// there is one, taking precedence.
func options(cfg Config) (*server.Options, error) {
	opts := &server.Options{}
	if cfg.ConfigFile != "" {
		var err error
		if opts, err = server.ProcessConfigFile(cfg.ConfigFile); err != nil {
			return nil, fmt.Errorf("%w %q: %s", ErrConfigFile, cfg.ConfigFile, strings.TrimSpace(err.Error()))
		}
	}
	if opts.Host == "" || opts.Port == 0 {
		host, port, err := splitListen(cfg.Listen)
		if err != nil {
			return nil, err
		}
		if opts.Host == "" {
			opts.Host = host
		}
		if opts.Port == 0 {
			opts.Port = port
		}
	}
	if opts.StoreDir == "" {
		opts.StoreDir = cfg.StoreDir
	}
	if opts.StoreDir == "" {
		return nil, errors.New("nats server: no store directory given")
	}
	if cfg.SyncInterval < 0 {
		return nil, fmt.Errorf("nats server: sync interval %s is negative", cfg.SyncInterval)
	}
	if !opts.SyncAlways && opts.SyncInterval == 0 {
		opts.SyncAlways = cfg.SyncInterval == 0
		opts.SyncInterval = cfg.SyncInterval // zero: the server's default, next to SyncAlways unused
	}
	if opts.ServerName == "" && opts.Cluster.Port == 0 {
		opts.ServerName = "firstcome" // in a cluster a name must be unique
	}
	opts.JetStream = true
	if opts.JetStreamMaxStore == 0 {
		// The server's own default is three quarters of what was free when it started:
		// it would refuse orders on a disk that has room.
		opts.JetStreamMaxStore = 1 << 60
	}
	if opts.MaxConn == 0 {
		opts.MaxConn = cfg.MaxConnections
	}
	opts.NoSigs = true // else the server calls os.Exit on SIGTERM, amid our own shutdown
	opts.NoLog = false
	opts.DisableJetStreamBanner = true
	return opts, nil
}

// StoreDir is where a server of that configuration keeps its streams.
func StoreDir(cfg Config) (string, error) {
	opts, err := options(cfg)
	if err != nil {
		return "", err
	}
	return opts.StoreDir, nil
}

// splitListen reads host:port; port 0 becomes the server's mark for "any".
func splitListen(listen string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("nats listen address %q is not host:port: %w", listen, err)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("nats listen address %q: port %q is not a number from 0 to 65535", listen, text)
	}
	if n == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(n), nil
}
