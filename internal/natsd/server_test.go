package natsd

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if helperProcess() {
		return
	}
	goleak.VerifyTestMain(m)
}

// patience bounds every wait in these tests; none of them takes that long.
const patience = 30 * time.Second

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := Start(testContext(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

// connect returns a JetStream client whose connection ends with the test.
func connect(t *testing.T, url string, opts ...nats.Option) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestStartIsReadyForClientsAndJetStream(t *testing.T) {
	s := start(t, Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir()})
	if strings.HasSuffix(s.ClientURL(), ":0") || !strings.HasPrefix(s.ClientURL(), "nats://127.0.0.1:") {
		t.Errorf("ClientURL() = %q, want the opened port on 127.0.0.1", s.ClientURL())
	}
	for name, js := range map[string]jetstream.JetStream{
		"tcp":        connect(t, s.ClientURL()),
		"in process": connect(t, "", nats.InProcessServer(s)),
	} {
		if _, err := js.AccountInfo(testContext(t)); err != nil {
			t.Errorf("%s: AccountInfo: %v", name, err)
		}
	}
}

func TestEveryWriteIsSyncedByDefault(t *testing.T) {
	s := start(t, Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir()})
	if !s.nats.JetStreamConfig().SyncAlways {
		t.Error("SyncAlways is off")
	}
	s = start(t, Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), SyncInterval: time.Minute})
	if got := s.nats.JetStreamConfig(); got.SyncAlways || got.SyncInterval != time.Minute {
		t.Errorf("SyncAlways %t, SyncInterval %s, want only the interval of 1m", got.SyncAlways, got.SyncInterval)
	}
}

// A full group must fit into one message. The largest order in the ledger is a
// buyer of 572 escaped bytes with about 170 bytes around it; the largest group
// that can be configured holds 1000.
func TestLargestGroupFitsIntoOneMessage(t *testing.T) {
	s := start(t, Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir()})
	js := connect(t, s.ClientURL())
	ctx := testContext(t)
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "s", bytes.Repeat([]byte("x"), 1000*(572+170))); err != nil {
		t.Errorf("publish: %v", err)
	}
}

func TestStopTwice(t *testing.T) {
	s := start(t, Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir()})
	select {
	case <-s.Done():
		t.Fatal("Done is closed before Stop")
	default:
	}
	stop(t, s)
	stop(t, s)
	select {
	case <-s.Done():
	default:
		t.Error("Done is open after Stop")
	}
	if conn, err := s.InProcessConn(); err == nil {
		conn.Close()
		t.Error("a stopped server accepted a connection")
	}
}

func TestStopReportsDeadline(t *testing.T) {
	s := start(t, Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir()})
	release := holdShutdown(t, s)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Stop(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Stop = %v, want context.Canceled", err)
	}
	release()
	stop(t, s)
}

// holdShutdown keeps s from finishing its shutdown until the returned function
// is called: the last thing that a shutdown does is to log.
func holdShutdown(t *testing.T, s *Server) (release func()) {
	t.Helper()
	gate := make(chan struct{})
	s.nats.SetLogger(gatedLog{newServerLog(slog.New(slog.DiscardHandler)), gate}, false, false)
	return func() { close(gate) }
}

type gatedLog struct {
	*serverLog
	gate <-chan struct{}
}

func (l gatedLog) Noticef(format string, v ...any) {
	if strings.HasPrefix(format, "Server Exiting") {
		<-l.gate
	}
}

func TestCancelledStartLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	cause := errors.New("told to stop")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	if _, err := Start(ctx, Config{Listen: "127.0.0.1:0", StoreDir: dir, Logger: slog.New(slog.DiscardHandler)}); !errors.Is(err, cause) {
		t.Fatalf("Start = %v, want %v", err, cause)
	}
	start(t, Config{Listen: "127.0.0.1:0", StoreDir: dir}) // the store is free again
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := t.TempDir()
	_, err = Start(testContext(t), Config{Listen: l.Addr().String(), StoreDir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("Start = %v, want an error that names %s", err, l.Addr())
	}
	start(t, Config{Listen: "127.0.0.1:0", StoreDir: dir})
}

func TestClientURLIsAnAddressToConnectTo(t *testing.T) {
	for listen, want := range map[string]string{
		"0.0.0.0:0": "nats://127.0.0.1:",
		":0":        "nats://127.0.0.1:",
		"[::]:0":    "nats://[::1]:",
	} {
		s := start(t, Config{Listen: listen, StoreDir: t.TempDir()})
		if !strings.HasPrefix(s.ClientURL(), want) {
			t.Errorf("Listen %q: ClientURL() = %q, want %s…", listen, s.ClientURL(), want)
		}
	}
}

func TestDataSurvivesRestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "start")
	ctx := testContext(t)
	s := start(t, Config{Listen: "127.0.0.1:0", StoreDir: dir})
	js := connect(t, s.ClientURL())
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "s", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	stop(t, s)

	s = start(t, Config{Listen: "127.0.0.1:0", StoreDir: dir})
	wantStored(t, connect(t, s.ClientURL()), "kept")
}

func wantStored(t *testing.T, js jetstream.JetStream, body string) {
	t.Helper()
	ctx := testContext(t)
	stream, err := js.Stream(ctx, "S")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetMsg(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if string(msg.Data) != body {
		t.Errorf("stored message is %q, want %q", msg.Data, body)
	}
}
