package natsd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A stream that cannot open its next block never writes again until a restart. The server
// says so once that has lasted, with the reason; limits are no such thing.
func TestBrokenStoreIsSaid(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Listen: "127.0.0.1:0", StoreDir: dir})
	js := connect(t, s.ClientURL())
	ctx := testContext(t)
	for _, config := range []jetstream.StreamConfig{
		{Name: "S", Subjects: []string{"s"}},
		{Name: "FULL", Subjects: []string{"full"}, MaxMsgs: 1, Discard: jetstream.DiscardNew},
	} {
		if _, err := js.CreateStream(ctx, config); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := js.Publish(ctx, "full", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(ctx, "full", nil); err == nil {
		t.Error("a full stream took a message")
	}
	blocks := filepath.Join(dir, "jetstream", "$G", "streams", "S", "msgs")
	if err := os.RemoveAll(blocks); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blocks, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 20 { // a block is 8 MiB at most; the message that needs a new one gets no answer
		if err := js.Conn().Publish("s", make([]byte, 1<<20-100)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-s.Broken():
		if took := time.Since(began); took < brokenAfter {
			t.Errorf("said after %v", took)
		}
		for _, word := range []string{"'$G > S'", blocks, "not a directory"} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("the reason is %q, want %q in it", err, word)
			}
		}
	case <-ctx.Done():
		t.Fatal("nothing says that the store is broken")
	}
}
