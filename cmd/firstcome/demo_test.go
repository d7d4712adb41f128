package main

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

func TestDemoConfig(t *testing.T) {
	want := defaultConfig()
	want.Log.Level = "warn"
	want.Worker.ProcessingTime = 2 * time.Second
	want.Products = []productConfig{{ID: "tshirt", Stock: 5}}
	if got, kept, err := demoConfig(nil); err != nil || kept || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, kept %v, %v\nwant %+v", got, kept, err, want)
	}
	want.Log.Level = "error"
	want.Worker.ProcessingTime = 0
	want.Products = []productConfig{{ID: "mug", Stock: 3}, {ID: "cap"}}
	want.NATS.Embedded.StoreDir = "here"
	got, kept, err := demoConfig([]string{"FIRSTCOME_LOG_LEVEL=error", "FIRSTCOME_WORKER_PROCESSING_TIME=0s",
		"FIRSTCOME_PRODUCTS=mug=3,cap=0", "FIRSTCOME_NATS_EMBEDDED_STORE_DIR=here"})
	if err != nil || !kept || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, kept %v, %v\nwant %+v", got, kept, err, want)
	}
}

// A flag of the demo wins over the environment, the environment over the demo.
func TestDemoObeysFlagsThenEnvironment(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "kept")
	environ := []string{"FIRSTCOME_NATS_EMBEDDED_STORE_DIR=" + store, "FIRSTCOME_WORKER_PROCESSING_TIME=0s", "FIRSTCOME_PRODUCTS=mug=3,cap=4"}
	free := []string{"demo", "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0"}
	demo := func(more ...string) *process {
		t.Helper()
		p := begin(t, with(command(t, append(free, more...)...), environ...))
		p.await(`selling mug, cap, first come(?s:.*)Ctrl-C`)
		return p
	}
	p := demo("--stock", "7")
	cli(t, "stock", "ls", "--nats", p.await(`NATS +(\S+)`)[1]).want(t, 0, "mug       open      7 ", "cap       open      7 ")
	p.stop()
	if _, err := os.Stat(filepath.Join(store, "jetstream")); err != nil {
		t.Errorf("the store that the environment names: %v", err)
	}

	other := filepath.Join(t.TempDir(), "other")
	p = demo("--store-dir", other, "--processing-time", "1h")
	url := p.await(`NATS +(\S+)`)[1]
	cli(t, "stock", "ls", "--nats", url).want(t, 0, "mug       open      3 ")
	r := cli(t, "buy", "--email", "ann@example.com", "--product", "mug", "--timeout", "1s", "--nats", url)
	r.want(t, 1, "no outcome came") // an hour's work
	p.kill()
	if _, err := os.Stat(filepath.Join(other, "jetstream")); err != nil {
		t.Errorf("the store that the flag names: %v", err)
	}

	environ = append(environ[1:], "TMPDIR="+t.TempDir())
	p = demo()
	gone := p.await(`the store +(\S+)`)[1]
	p.stop()
	if _, err := os.Stat(gone); !os.IsNotExist(err) {
		t.Errorf("a store that nobody names is still there: %v", err)
	}
}
