//go:build unix

package main

import (
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// withFiles is the command under a limit of open files.
func withFiles(cmd *exec.Cmd, limit int) *exec.Cmd {
	script := fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, limit)
	inner := exec.Command("sh", append([]string{"-c", script, cmd.Path}, cmd.Args[1:]...)...)
	inner.Env = cmd.Env
	return inner
}

// A crowd that takes as many connections as it gets, at every port, leaves the descriptors
// that the store needs: orders on an open connection go on, and new ones when the crowd is gone.
func TestSaleOutlivesMoreConnectionsThanFiles(t *testing.T) {
	t.Parallel()
	s := serving(begin(t, withFiles(with(command(t, "serve"), "FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_PRODUCTS=tshirt=1000",
		"FIRSTCOME_NATS_EMBEDDED_LISTEN=127.0.0.1:0", "FIRSTCOME_NATS_EMBEDDED_STORE_DIR="+t.TempDir()), 200)))
	s.await(`level=INFO msg="as many connections of buyers fit .*" connections=100\n`)
	s.buy("early@example.com", 1).order(t) // its connection stays open

	const crowd = 300
	var all []net.Conn
	for port, n := range map[string]int{s.ops: 50, s.nats: 100} {
		for range n {
			c, err := net.Dial("tcp", strings.TrimPrefix(port, "nats://"))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
	}
	leave := func() {
		for _, c := range all {
			c.Close()
		}
		all = nil
	}
	defer leave()
	for i := range crowd {
		c, err := net.Dial("tcp", s.http)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		if i%2 == 0 { // the others say nothing
			_, _ = fmt.Fprintf(c, "GET /ws?email=b%d@example.com HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", i, s.http) // it may be refused
		}
		if i%10 == 0 {
			s.buy("early@example.com", 1).order(t)
		}
	}
	for range 20 {
		s.buy("early@example.com", 1).order(t)
	}
	leave()
	eventually(t, "the rest of the crowd was refused", func() bool {
		return s.metric("firstcome_connections_refused_total") >= crowd-100
	})
	late := visit(s.process, s.http, s.ops, s.nats)
	began := time.Now()
	var o status
	eventually(t, "a new connection sells", func() bool {
		a, err := late.tryBuy("late@example.com", 1)
		if err != nil || a.code != 202 {
			return false
		}
		o = a.order(t)
		return true
	})
	eventually(t, "and the order is decided", func() bool { return late.look(o).Status == "accepted" })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it sold again after %s", took)
	}
	cli(t, "audit", "--nats", s.nats).want(t, 0)
	s.stop()
}

// metric is a figure without labels.
func (s *shop) metric(name string) float64 {
	s.t.Helper()
	found := regexp.MustCompile(`(?m)^` + name + ` (\S+)$`).FindSubmatch(s.get("http://" + s.ops + "/metrics").body)
	if found == nil {
		s.t.Fatalf("there is no %s", name)
	}
	n, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}
