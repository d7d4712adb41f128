package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// lone is one nats-server process whose address and store outlive it.
type lone struct {
	*process
	t             testing.TB
	address, file string
}

func newLone(t *testing.T) *lone {
	t.Helper()
	return &lone{t: t, address: fmt.Sprintf("127.0.0.1:%d", freePort(t, rand.New(rand.NewPCG(rand.Uint64(), 0)))),
		file: filepath.Join(t.TempDir(), "nats.conf")}
}

func (l *lone) url() string { return "nats://" + l.address }

// start runs the server with these lines besides its address.
func (l *lone) start(lines ...string) {
	l.t.Helper()
	path, err := brokerBinary()
	if err != nil {
		l.t.Fatal(err)
	}
	text := strings.Join(append(lines, fmt.Sprintf("listen: %q", l.address)), "\n")
	if err := os.WriteFile(l.file, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	l.process = begin(l.t, exec.Command(path, "-c", l.file))
	l.await(`Server is ready`)
}

// jetStream keeps the streams beside the configuration.
func (l *lone) jetStream() string {
	return fmt.Sprintf("jetstream { store_dir: %q, sync_interval: always }", filepath.Join(filepath.Dir(l.file), "store"))
}

// serve starts an instance on the server.
func (l *lone) serve(environ ...string) *process {
	return begin(l.t, with(command(l.t, "serve"), append([]string{"FIRSTCOME_NATS_URL=" + l.url(), "FIRSTCOME_HTTP_LISTEN=127.0.0.1:0",
		"FIRSTCOME_PRODUCTS=tshirt=5"}, environ...)...))
}

func login(name, secret string) []string {
	return []string{"FIRSTCOME_NATS_USER=" + name, "FIRSTCOME_NATS_PASSWORD=" + secret}
}

// An instance waits for a server that is not there yet, sells, says that it has
// lost it, and goes on when it is back, also when its password was wrong for a
// while. What it may not do it logs with the subject.
func TestInstanceOutlivesItsServer(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it restarts a server three times")
	}
	l := newLone(t)
	account := func(secret string) string {
		return fmt.Sprintf(`authorization { users: [ { user: app, password: %q, permissions: { publish: { deny: ["dead.*"] } } } ] }`, secret)
	}
	p := l.serve(login("app", "right")...)
	p.await(`waiting for NATS.*no servers available`)
	l.start(l.jetStream(), account("right"))
	p.await(`level=INFO msg="no longer waiting for NATS" after=`)
	s := serving(p)
	s.buy("ann@example.com", 1).order(t)
	s.sold(1)
	connected := func() bool {
		metrics, err := s.ask("GET", "http://"+s.ops+"/metrics", "")
		return err == nil && strings.Contains(string(metrics.body), "firstcome_nats_connected 1\n")
	}
	ready := func() bool {
		a, err := s.ask("GET", "http://"+s.ops+"/readyz", "")
		return err == nil && a.code == 200
	}
	if !connected() || !ready() {
		t.Error("an instance that sells is not ready")
	}

	l.kill()
	s.await(`lost NATS`)
	eventually(t, "the loss is seen", func() bool { return !connected() && !ready() })
	a := s.buy("bob@example.com", 1)
	if a.problem(t, 503); a.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	if a := s.get("http://" + s.ops + "/livez"); a.code != 200 {
		t.Errorf("livez answered %d", a.code)
	}
	l.start(l.jetStream(), account("wrong"))
	eventually(t, "both connections were refused again", func() bool { // a client that gives up does so at the second time
		return strings.Count(l.said.String(), "authentication error") > 4
	})
	l.kill()
	l.start(l.jetStream(), account("right"))
	eventually(t, "it is ready again", func() bool { return connected() && ready() })
	s.await(`back at NATS`)
	eventually(t, "it sells again", func() bool { return s.buy("eve@example.com", 1).code == 202 })
	s.sold(2)
	if a := s.get("/orders?email=bob@example.com"); string(a.body) != `{"orders":[]}` {
		t.Errorf("what was published without a server came back: %s", a.body)
	}

	nc, err := nats.Connect(l.url(), nats.UserInfo("app", "right"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.Publish("orders.tshirt", []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	s.await(`level=ERROR msg="NATS refuses".*Permissions Violation for Publish to \\"dead.tshirt\\"`)
}

// A start that waiting cannot mend ends with an error that says why.
func TestStartEndsWithTheReason(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it starts servers")
	}
	ends := func(p *process, code int, texts ...string) {
		t.Helper()
		result{code: p.exit(), stdout: p.said.String()}.want(t, code, texts...)
	}
	refuses := func(p *process, texts ...string) {
		t.Helper()
		ends(p, 1, texts...)
	}
	l := newLone(t)
	l.start(`authorization { token: "open sesame" }`)
	refuses(l.serve("FIRSTCOME_NATS_TOKEN=open sesame"), "JetStream is not enabled")
	l.kill()
	l.start(l.jetStream(), `authorization { token: "open sesame" }`)
	refuses(l.serve("FIRSTCOME_NATS_TOKEN=sesame"), "Authorization Violation")
	refuses(l.serve(), "Authorization Violation")
	ends(l.serve("FIRSTCOME_NATS_CREDENTIALS=/nowhere/app.creds"), 2, "/nowhere/app.creds")
	ends(l.serve("FIRSTCOME_NATS_TOKEN=open sesame", "FIRSTCOME_NATS_TLS_CA="+l.file), 2, "failed to parse root certificate")
	serving(l.serve("FIRSTCOME_NATS_TOKEN=open sesame")).stop()

	l.kill()
	l.start(l.jetStream())
	_, js := jet(t, l.url())
	stream, err := js.Stream(bounded(t), "DEAD")
	if err != nil {
		t.Fatal(err)
	}
	drifted := stream.CachedInfo().Config
	drifted.MaxAge = time.Hour
	if _, err := js.UpdateStream(bounded(t), drifted); err != nil {
		t.Fatal(err)
	}
	for _, provision := range []string{"true", "false"} {
		refuses(l.serve("FIRSTCOME_NATS_PROVISION="+provision), "stream DEAD", "max_age is 1h0m0s, not 0s")
	}
	if err := js.DeleteStream(bounded(t), "DEAD"); err != nil {
		t.Fatal(err)
	}
	late := l.serve("FIRSTCOME_NATS_PROVISION=false")
	late.await("waiting for NATS.*DEAD")
	drifted.MaxAge, drifted.Discard = 0, jetstream.DiscardOld
	if _, err := js.CreateStream(bounded(t), drifted); err != nil {
		t.Fatal(err)
	}
	serving(late).stop()
}

// A password that came with a URL is nobody's to see.
func TestNoPasswordIsShown(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it starts a server")
	}
	l := newLone(t)
	l.start(l.jetStream(), `authorization { user: app, password: s3cret }`)
	through := func(password string) string { return "nats://app:" + password + "@" + l.address }
	p := l.serve("FIRSTCOME_NATS_URL=" + through("s3cret"))
	if s := serving(p); s.nats != l.url() {
		t.Errorf("the log names %s, not %s", s.nats, l.url())
	}
	buy := []string{"buy", "--email", "ann@example.com", "--nats"}
	said := cli(t, append(buy, through("s3cret"))...).want(t, 0, "accepted")
	for urls, code := range map[string]int{through("s3cret!"): 1, "nats://app:s3cret@a b": 2, "nats://app:s3/cret@a": 2, "app:s3cret@:x": 2} {
		r := cli(t, append(buy, urls)...).want(t, code)
		said.stdout, said.stderr = said.stdout+r.stdout, said.stderr+r.stderr
	}
	p.stop()
	if all := p.said.String() + said.stdout + said.stderr; strings.Contains(all, "s3") {
		t.Errorf("somebody shows the password\n%s", all)
	}
}

// greeter is a server as far as a client's first words.
type greeter struct {
	ln    net.Listener
	heard chan map[string]any
	conns sync.WaitGroup
}

func newGreeter(t *testing.T, version string) *greeter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &greeter{ln: ln, heard: make(chan map[string]any, 64)}
	g.conns.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			g.conns.Go(func() { g.greet(conn, version) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		g.conns.Wait()
	})
	return g
}

// greet answers until the client leaves.
func (g *greeter) greet(conn net.Conn, version string) {
	defer conn.Close()
	fmt.Fprintf(conn, "INFO {\"server_id\":\"g\",\"version\":%q,\"max_payload\":1048576,\"headers\":true,\"proto\":1,\"nonce\":\"n0nce\"}\r\n", version)
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		switch verb, rest, _ := strings.Cut(lines.Text(), " "); verb {
		case "CONNECT":
			said := map[string]any{}
			_ = json.Unmarshal([]byte(rest), &said) // what is missing then fails the test
			g.heard <- said
		case "PING":
			fmt.Fprint(conn, "PONG\r\n")
		}
	}
}

// wants compares what a client's two connections said.
func (g *greeter) wants(t *testing.T, want map[string]string) {
	t.Helper()
	for range 2 { // one for orders, one for what is broadcast
		said := <-g.heard
		for key, want := range want {
			if said[key] != want {
				t.Errorf("the server heard %s %v, want %s", key, said[key], want)
			}
		}
		if signed := said["sig"] != nil; signed != (want["jwt"] != "") {
			t.Errorf("signed is %v, want %v", signed, want["jwt"] != "")
		}
	}
}

// A server older than 2.12 ends the start, whatever way in was used. What each
// way says to the server is what was configured.
func TestOldServerAndCredentials(t *testing.T) {
	t.Parallel()
	creds := filepath.Join(t.TempDir(), "app.creds")
	// A seed that signs nonces and opens nothing.
	const text = `-----BEGIN NATS USER JWT-----
the.users.jwt
------END NATS USER JWT------
-----BEGIN USER NKEY SEED-----
SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY
------END USER NKEY SEED------
`
	if err := os.WriteFile(creds, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newGreeter(t, "2.11.9")
	for _, c := range []struct {
		environ []string
		want    map[string]string
	}{
		{login("app", "secret"), map[string]string{"user": "app", "pass": "secret"}},
		{[]string{"FIRSTCOME_NATS_TOKEN=secret"}, map[string]string{"auth_token": "secret"}},
		{[]string{"FIRSTCOME_NATS_CREDENTIALS=" + creds}, map[string]string{"jwt": "the.users.jwt"}},
	} {
		dead := newLone(t) // the first of the list is not there
		cmd := with(command(t, "serve"), append(c.environ, "FIRSTCOME_HTTP_LISTEN=127.0.0.1:0", "FIRSTCOME_PRODUCTS=tshirt=5",
			"FIRSTCOME_NATS_URL="+dead.url()+",nats://"+g.ln.Addr().String())...)
		finish(t, cmd).want(t, 1, "2.11.9", "2.12 or later is needed")
		g.wants(t, c.want)
		args := []string{"stock", "ls", "--nats", "nats://" + g.ln.Addr().String()}
		if c.want["jwt"] != "" { // by flag this time
			args, c.environ = append(args, "--creds", creds), nil
		}
		finish(t, with(command(t, args...), c.environ...)).want(t, 1, "2.11.9", "2.12 or later is needed")
		g.wants(t, c.want)
	}
}
