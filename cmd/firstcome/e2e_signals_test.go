//go:build unix

package main

import (
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Every signal that ends a Go process by default ends the sale in order.
func TestSignalsEndTheSaleWell(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT, "SIGHUP": syscall.SIGHUP} {
		if signal.Ignored(s) {
			t.Logf("%s is ignored here, and by what is started here", name)
			continue
		}
		shop := open(t, t.TempDir(), "worker: { processing_time: 300ms }")
		shop.buy("ann@example.com", 1).order(t)
		if err := shop.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		shop.await(`msg=stopping\n`)
		for again := time.NewTicker(10 * time.Millisecond); s == syscall.SIGHUP; { // a terminal that closes sends it more than once
			select {
			case <-again.C:
				_ = shop.cmd.Process.Signal(s) // fails only if it has ended
				continue
			case <-shop.done:
			}
			again.Stop()
			break
		}
		if code := shop.exit(); code != 0 {
			t.Errorf("%s: exit code %d\n%s", name, code, shop.said)
		}
	}
}

// What started the sale with nohup outlives its terminal.
func TestNohupIsObeyed(t *testing.T) {
	t.Parallel()
	cmd := with(command(t, "serve"), "FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_PRODUCTS=tshirt=5",
		"FIRSTCOME_NATS_EMBEDDED_LISTEN=127.0.0.1:0", "FIRSTCOME_NATS_EMBEDDED_STORE_DIR="+t.TempDir())
	cmd.Args = append([]string{"sh", "-c", `trap "" HUP; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	s := serving(begin(t, cmd))
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.buy("ann@example.com", 1).order(t)
	s.stop()
}

// The readers of log and output go away: the sale goes on, and ends well when it is
// told to.
func TestSaleOutlivesTheReadersOfItsOutput(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"serve"},
		{"demo", "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0"},
	} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := with(command(t, args...), "FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_PRODUCTS=tshirt=5", "FIRSTCOME_WORKER_PROCESSING_TIME=0s",
			"FIRSTCOME_NATS_EMBEDDED_LISTEN=127.0.0.1:0", "FIRSTCOME_NATS_EMBEDDED_STORE_DIR="+t.TempDir(), "FIRSTCOME_LOG_LEVEL=debug")
		cmd.Stdout, cmd.Stderr = write, write
		p := &process{t: t, cmd: cmd, said: newTranscript(), done: make(chan struct{})}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		write.Close()
		go func() {
			defer close(p.done)
			_ = cmd.Wait() // its exit code is in ProcessState
		}()
		t.Cleanup(p.kill)
		copied := make(chan struct{})
		go func() {
			defer close(copied)
			_, _ = io.Copy(p.said, read) // until it is closed
		}()
		at := p.await(`(?:msg=ready http=|the shop +http://)(\S+)(?:(?s:.*)the operator +http://|\s+ops=)([^/\s]+)`)
		read.Close()
		<-copied
		s := visit(p, at[1], at[2], "")
		for range 3 { // each writes to the log, at level debug
			k := s.follow("ann@example.com")
			k.outcome(s.buy("ann@example.com", 1).order(t).ID)
			k.close()
		}
		if a := s.buy("not an address", 1); a.code != 400 {
			t.Errorf("%v: %d", args, a.code)
		}
		s.terminate()
		if code := s.exit(); code != 0 {
			t.Errorf("%v: exit code %d", args, code)
		}
	}
}

// What asks nobody for a password beyond this machine is warned of at every start.
func TestOpenPortsAreWarnedOf(t *testing.T) {
	t.Parallel()
	store := t.TempDir()
	start := func(environ ...string) string {
		t.Helper()
		s := serving(begin(t, with(command(t, "serve"), append(environ, "FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_PRODUCTS=tshirt=5",
			"FIRSTCOME_NATS_EMBEDDED_STORE_DIR="+store)...)))
		s.stop()
		return s.said.String()
	}
	opsWarns, natsWarns := regexp.MustCompile(`level=WARN .*ops\.listen=`), regexp.MustCompile(`level=WARN .*nats\.embedded\.listen=`)
	for range 2 {
		said := start("FIRSTCOME_OPS_LISTEN=0.0.0.0:0", "FIRSTCOME_NATS_EMBEDDED_LISTEN=:0")
		if !opsWarns.MatchString(said) || !natsWarns.MatchString(said) {
			t.Errorf("no warning:\n%s", said)
		}
	}
	said := start("FIRSTCOME_OPS_LISTEN=localhost:0", "FIRSTCOME_NATS_EMBEDDED_LISTEN=127.0.0.1:0")
	if strings.Contains(said, "level=WARN") {
		t.Errorf("a warning for nothing:\n%s", said)
	}
}

// The operator's port answers to its own names alone.
func TestTheOperatorsPortHasNames(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir(), "ops: { listen: 127.0.0.1:0, hosts: [firstcome-1] }")
	_, port, _ := strings.Cut(s.ops, ":")
	for host, want := range map[string]int{
		"127.0.0.1:" + port: 200, "localhost:" + port: 200, "firstcome-1:" + port: 200,
		"evil.example:" + port: 421, "evil.example": 421,
	} {
		for _, path := range []string{"/livez", "/metrics", "/debug/pprof/cmdline"} {
			a, err := s.ask("GET", "http://"+s.ops+path, "", "Host", host)
			if err != nil {
				t.Fatal(err)
			}
			if a.code != want {
				t.Errorf("%s at %s: %d, want %d", path, host, a.code, want)
			}
			if want == 421 && !strings.Contains(a.problem(t, 421), "ops.hosts") {
				t.Errorf("%s", a.body)
			}
		}
	}
}
