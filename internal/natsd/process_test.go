package natsd

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// helperEnv carries the store directory to this test binary when it is started
// a second time, as another process.
const helperEnv = "NATSD_TEST_STORE"

// helperProcess, in the second process, starts a server, stores one message,
// says what came of it on standard output and waits to be killed.
func helperProcess() bool {
	dir, ok := os.LookupEnv(helperEnv)
	if !ok {
		return false
	}
	if err := storeOne(dir); err != nil {
		fmt.Println("error:", err)
		return true
	}
	fmt.Println("stored")
	select {}
}

func storeOne(dir string) error {
	ctx := context.Background()
	s, err := Start(ctx, Config{Listen: "127.0.0.1:0", StoreDir: dir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		return err
	}
	_, err = js.Publish(ctx, "s", []byte("acknowledged"))
	return err
}

// secondProcess starts the helper on dir and returns the first line it says.
func secondProcess(t *testing.T, dir string) (line string, kill func()) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(testContext(t), exe)
	cmd.Env = append(os.Environ(), helperEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scan := bufio.NewScanner(out)
	if !scan.Scan() {
		t.Errorf("the second process said nothing: %v", scan.Err())
	}
	return scan.Text(), func() {
		// Killed or already ended: either way only its end matters here.
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

func TestStoreBelongsToOneProcess(t *testing.T) {
	dir := t.TempDir()
	start(t, Config{Listen: "127.0.0.1:0", StoreDir: dir})
	want := fmt.Sprintf("store directory %q is in use by another process", dir)

	line, kill := secondProcess(t, dir)
	kill()
	if line != "error: "+want {
		t.Errorf("second process: %q, want %q", line, want)
	}
	_, err := Start(testContext(t), Config{Listen: "127.0.0.1:0", StoreDir: dir})
	if err == nil || err.Error() != want {
		t.Errorf("second server of this process: %v, want %q", err, want)
	}
}

// P3 for a killed process: what was acknowledged is there, and the lock of the
// dead process does not keep the next one out.
func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	line, kill := secondProcess(t, dir)
	kill()
	if line != "stored" {
		t.Fatalf("second process: %s", strings.TrimPrefix(line, "error: "))
	}
	s := start(t, Config{Listen: "127.0.0.1:0", StoreDir: dir})
	wantStored(t, connect(t, s.ClientURL()), "acknowledged")
}
