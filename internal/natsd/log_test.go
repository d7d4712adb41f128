package natsd

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestServerLogKeepsLevels(t *testing.T) {
	var out bytes.Buffer
	l := newServerLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: levelTrace})))
	l.started.Store(true)
	l.Tracef("trace %d", 1)
	l.Debugf("debug %d", 2)
	l.Noticef("  notice %d", 3)
	l.Noticef("")
	l.Warnf("warn %d", 4)
	l.Errorf("error %d", 5)
	l.Fatalf("fatal %d", 6)
	var got []string
	for line := range strings.Lines(out.String()) {
		_, line, _ = strings.Cut(line, "level=")
		got = append(got, strings.TrimSpace(line))
	}
	want := []string{
		`DEBUG-4 msg="trace 1"`,
		`DEBUG msg="debug 2"`,
		`DEBUG msg="notice 3"`,
		`WARN msg="warn 4"`,
		`ERROR msg="error 5"`,
		`ERROR msg="fatal 6"`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What a demo shows at info is the sale; the server adds nothing while it is
// well.
func TestRoutineIsSilentAtInfo(t *testing.T) {
	var out bytes.Buffer
	s := start(t, Config{Listen: "127.0.0.1:0", StoreDir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&out, nil))})
	stop(t, s)
	if out.Len() != 0 {
		t.Errorf("logged:\n%s", out.String())
	}
}
