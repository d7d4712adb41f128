package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthTimeout bounds a probe: above what an instance takes for its own questions.
const healthTimeout = 5 * time.Second

func healthCommand() *cobra.Command {
	var file, url, probe string
	c := &cobra.Command{
		Use:   "health",
		Short: "Ask an instance for its health: exit 0 if the probe answers 200",
		Long: `Ask an instance for its health: it exits with 0 if the probe answers 200, and else
with 1. For images without a shell, as in HEALTHCHECK. The address is that of
ops.listen, as the configuration or the environment says.`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if probe != "readyz" && probe != "livez" && probe != "sellz" {
				return usageError{fmt.Errorf("--probe must be readyz, livez or sellz, is %q", probe)}
			}
			if url == "" {
				cfg, err := loadConfig(file, os.Environ())
				if err != nil {
					return usageError{err}
				}
				url = "http://" + reachable(cfg.Ops.Listen)
			}
			ctx, cancel := context.WithTimeout(c.Context(), healthTimeout)
			defer cancel()
			return askHealth(ctx, c.OutOrStdout(), strings.TrimSuffix(url, "/")+"/"+probe)
		},
	}
	textFlag(c.Flags(), &file, "config", "the instance's configuration file")
	textFlag(c.Flags(), &url, "url", "the operator's port, such as http://127.0.0.1:4001 (default: that of ops.listen)")
	probe = "readyz"
	textFlag(c.Flags(), &probe, "probe", "readyz: takes requests; livez: answers; sellz: orders of every product can be queued and decided")
	return c
}

// reachable is where somebody on this machine finds a listener: one on every address is
// found on loopback.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if ip, parseErr := netip.ParseAddr(host); err == nil && (host == "" || parseErr == nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
		if ip.Is6() {
			host = "::1"
		}
		return net.JoinHostPort(host, port)
	}
	return listen
}

func askHealth(ctx context.Context, to io.Writer, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return usageError{fmt.Errorf("--url: %w", err)}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy: the instance is near
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return err
	}
	fmt.Fprintln(to, strings.TrimSpace(string(body)))
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, answer.Status)
	}
	return nil
}
