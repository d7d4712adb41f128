package natsd

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

func writeFile(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestListenIsHostAndPort(t *testing.T) {
	for _, listen := range []string{"", "4222", "localhost", "127.0.0.1:", "127.0.0.1:nats", "127.0.0.1:65536", "127.0.0.1:-1", "::1:4222"} {
		_, err := Start(testContext(t), Config{Listen: listen, StoreDir: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("nats listen address %q", listen)) {
			t.Errorf("Listen %q: %v, want an error that names it", listen, err)
		}
	}
}

func TestStoreDirIsRequired(t *testing.T) {
	if _, err := Start(testContext(t), Config{Listen: "127.0.0.1:0"}); err == nil {
		t.Error("Start without a store directory succeeded")
	}
	file := writeFile(t, "")
	if _, err := Start(testContext(t), Config{Listen: "127.0.0.1:0", StoreDir: file}); err == nil {
		t.Error("Start with a file as store directory succeeded")
	}
}

// Orders hold email addresses: a store that Start makes is its owner's alone.
func TestStoreIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "store")
	start(t, Config{Listen: "127.0.0.1:0", StoreDir: dir})
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if info, err := os.Stat(d); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", d, info.Mode(), err)
		}
	}
}

// A disk with room takes orders, however little was free when the server started.
func TestStoreHasNoLimitButTheDisk(t *testing.T) {
	for file, want := range map[string]int64{"": 1 << 60, "jetstream { max_file_store: 5MB }": 5 << 20} {
		opts, err := options(Config{Listen: "127.0.0.1:0", StoreDir: "s", ConfigFile: writeFile(t, file)})
		if err != nil || opts.JetStreamMaxStore != want {
			t.Errorf("%q: %d bytes, %v", file, opts.JetStreamMaxStore, err)
		}
	}
}

// The connections of clients leave the store its file descriptors.
func TestConnectionsAreBounded(t *testing.T) {
	for file, want := range map[string]int{"": 100, "max_connections: 7": 7} {
		opts, err := options(Config{Listen: "127.0.0.1:0", StoreDir: "s", MaxConnections: 100, ConfigFile: writeFile(t, file)})
		if err != nil || opts.MaxConn != want {
			t.Errorf("%q: %d connections, %v", file, opts.MaxConn, err)
		}
	}
}

// A node's name must be unique in its cluster, so none is given to all.
func TestNodesOfAClusterNameThemselves(t *testing.T) {
	opts, err := options(Config{Listen: "127.0.0.1:0", StoreDir: "s", ConfigFile: writeFile(t, `cluster { name: shop, listen: "127.0.0.1:20001" }`)})
	if err != nil || opts.ServerName != "" {
		t.Errorf("%q, %v", opts.ServerName, err)
	}
}

func TestSyncIntervalIsNotNegative(t *testing.T) {
	if _, err := options(Config{Listen: "127.0.0.1:0", StoreDir: "s", SyncInterval: -1}); err == nil {
		t.Error("it was taken")
	}
}

func TestConfigFileWinsWhereItSpeaks(t *testing.T) {
	cfg := Config{Listen: "127.0.0.1:4222", StoreDir: "ours", SyncInterval: time.Minute}
	type want struct {
		host     string
		port     int
		storeDir string
		always   bool
		interval time.Duration
	}
	ours := want{"127.0.0.1", 4222, "ours", false, time.Minute}
	for name, c := range map[string]struct {
		file string
		want func(w *want)
	}{
		"silent":    {"max_payload: 2MB", func(*want) {}},
		"listen":    {"listen: 127.0.0.2:5222", func(w *want) { w.host, w.port = "127.0.0.2", 5222 }},
		"port":      {"port: 5222", func(w *want) { w.port = 5222 }},
		"host":      {"host: 127.0.0.2", func(w *want) { w.host = "127.0.0.2" }},
		"any port":  {"port: -1", func(w *want) { w.port = server.RANDOM_PORT }},
		"store":     {"store_dir: theirs", func(w *want) { w.storeDir = "theirs" }},
		"jetstream": {"jetstream { store_dir: theirs, sync_interval: always }", func(w *want) { w.storeDir, w.always, w.interval = "theirs", true, 2*time.Minute }},
		"interval":  {"jetstream { sync_interval: 3s }", func(w *want) { w.interval = 3 * time.Second }},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			cfg.ConfigFile = writeFile(t, c.file)
			opts, err := options(cfg)
			if err != nil {
				t.Fatal(err)
			}
			w := ours
			c.want(&w)
			got := want{opts.Host, opts.Port, opts.StoreDir, opts.SyncAlways, opts.SyncInterval}
			if got != w {
				t.Errorf("got %+v, want %+v", got, w)
			}
			if !opts.JetStream || !opts.NoSigs || opts.HTTPPort != 0 {
				t.Errorf("JetStream %t, NoSigs %t, HTTPPort %d", opts.JetStream, opts.NoSigs, opts.HTTPPort)
			}
		})
	}
}

// Without a word about syncing in either place, every write is synced (P3).
func TestConfigFileWithoutSyncKeepsSyncAlways(t *testing.T) {
	opts, err := options(Config{Listen: "127.0.0.1:0", StoreDir: "data", ConfigFile: writeFile(t, "max_payload: 2MB")})
	if err != nil || !opts.SyncAlways {
		t.Errorf("SyncAlways %t, error %v", err == nil && opts.SyncAlways, err)
	}
}

func TestMalformedConfigFile(t *testing.T) {
	for text, want := range map[string]string{
		"port: 4222\nnope: 3\n":          "nats.conf:2:",
		"port: 4222\n\ncluster { name [": "line 3",
		"port: many":                     "nats.conf:1:",
	} {
		file := writeFile(t, text)
		_, err := Start(testContext(t), Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), ConfigFile: file})
		if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with file and %q", text, err, want)
		}
	}
	missing := filepath.Join(t.TempDir(), "missing.conf")
	_, err := Start(testContext(t), Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), ConfigFile: missing})
	if err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("missing file: %v", err)
	}
}

// Three processes form their own cluster from files alone: routes, a quorum,
// and a stream on all three.
func TestThreeNodesFormACluster(t *testing.T) {
	var nodes []*Server
	for _, file := range clusterFiles(t, 3) {
		nodes = append(nodes, start(t, Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), ConfigFile: file}))
	}
	js := connect(t, nodes[0].ClientURL())
	eventually(t, func(ctx context.Context) error {
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Replicas: 3})
		return err
	})
	eventually(t, func(ctx context.Context) error {
		_, err := js.Publish(ctx, "s", []byte("replicated"))
		return err
	})
	stop(t, nodes[0])
	js = connect(t, nodes[1].ClientURL())
	eventually(t, func(ctx context.Context) error {
		_, err := js.Publish(ctx, "s", []byte("after the loss of a node"))
		return err
	})
	wantStored(t, js, "replicated")
}

// clusterFiles writes a configuration per node. Every file names the routes of
// all nodes before any of them starts, hence the ports taken and given back.
func clusterFiles(t *testing.T, nodes int) (files []string) {
	t.Helper()
	var routes []string
	for range nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		routes = append(routes, l.Addr().String())
	}
	for i, listen := range routes {
		files = append(files, writeFile(t, fmt.Sprintf(`
			server_name: n%d
			cluster {
				name: firstcome
				listen: %q
				routes: ["nats://%s"]
			}`, i, listen, strings.Join(routes, `", "nats://`))))
	}
	return files
}

// eventually asks until the cluster has a leader who answers: a request that
// arrives before gets no reply, so each try has a short deadline of its own.
func eventually(t *testing.T, try func(context.Context) error) {
	t.Helper()
	ctx := testContext(t)
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		err := try(attempt)
		cancel()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}
