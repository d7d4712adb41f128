package main

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

// A duration is read by people in either format: it comes with its unit.
func TestLoggedDurationsHaveAUnit(t *testing.T) {
	for format, want := range map[string]string{"text": ` after=40.152s `, "json": `"after":"40.152s",`} {
		var said bytes.Buffer
		newLogger(logConfig{Level: "info", Format: format}, &said).Info("over", "after", 40152*time.Millisecond, "n", 1)
		if !strings.Contains(said.String(), want) {
			t.Errorf("%s: %s does not say %s", format, &said, want)
		}
	}
}

// A log whose reader stands still holds nobody up. What it missed is counted, and what is
// kept comes when it reads again.
func TestLogThatNobodyReads(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	said := newUnblockedLog(logConfig{Level: "info", Format: "text"}, write)
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		log := slog.New(slog.NewTextHandler(said, nil))
		for n := range 20_000 {
			log.Info("a line that is long enough to fill a pipe at last", "n", n)
		}
	}()
	select {
	case <-logged:
	case <-time.After(patience):
		t.Fatal("the log holds up its writer")
	}
	all := make(chan string)
	go func() {
		b, _ := io.ReadAll(read)
		all <- string(b)
	}()
	said.close()
	write.Close()
	if text := <-all; !strings.Contains(text, " n=0\n") || !strings.Contains(text, "lines of it were dropped") {
		t.Errorf("%d bytes came", len(text))
	}
}
