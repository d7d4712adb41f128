package broker_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"firstcome/internal/broker"
)

const thisEpoch, nextEpoch = "2026-03-01T08:00:00.000001Z", "2026-03-02T08:00:00Z"

func openMark(t testing.TB, path, epoch string) *broker.QueueMark {
	t.Helper()
	m, err := broker.OpenQueueMark(path, epoch)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// keep runs a mark until the returned function is called.
func keep(m *broker.QueueMark, log slog.Handler) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { m.Run(ctx, slog.New(log)) })
	return func() { cancel(); wg.Wait() }
}

func wantMark(t testing.TB, path, epoch string, seq uint64) {
	t.Helper()
	if e, s, err := broker.ReadQueueMark(path); err != nil || e != epoch || s != seq {
		t.Errorf("the mark is %d of %q, %v; want %d of %q", s, e, err, seq, epoch)
	}
}

func TestQueueMarkIsRemembered(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "queue.mark")
	wantMark(t, path, "", 0)
	m := openMark(t, path, thisEpoch)
	if seq := m.Seq(thisEpoch); seq != 0 {
		t.Errorf("it begins at %d", seq)
	}
	stop := keep(m, slog.DiscardHandler)
	for _, seq := range []uint64{3, 7, 5} { // confirmations overtake one another
		m.Note(seq)
	}
	stop() // and is written at the end
	wantMark(t, path, thisEpoch, 7)
	m = openMark(t, path, thisEpoch)
	if m.Seq(thisEpoch) != 7 || m.Seq(nextEpoch) != 0 {
		t.Errorf("it goes on at %d, and at %d in another epoch", m.Seq(thisEpoch), m.Seq(nextEpoch))
	}
	m.Note(6)
	keep(m, slog.DiscardHandler)()
	wantMark(t, path, thisEpoch, 7)

	m = openMark(t, path, nextEpoch) // the queue was made anew, or repaired
	if m.Seq(nextEpoch) != 0 || m.Seq(thisEpoch) != 0 {
		t.Errorf("another epoch begins at %d", m.Seq(nextEpoch))
	}
	m.Note(2)
	keep(m, slog.DiscardHandler)()
	wantMark(t, path, nextEpoch, 2)
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("%v are left in its directory: %v", files, err)
	}
}

// The file is written once a second at most, and only while the mark moves.
func TestQueueMarkIsWrittenRarely(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "queue.mark")
	synctest.Test(t, func(t *testing.T) {
		m := openMark(t, path, thisEpoch)
		stop := keep(m, slog.DiscardHandler)
		writes, last := 0, os.FileInfo(nil)
		look := func() {
			now, err := os.Stat(path)
			if err == nil && (last == nil || !os.SameFile(now, last)) {
				writes++
				last = now
			}
		}
		for seq := range uint64(2000) { // for 10 s
			m.Note(seq + 1)
			time.Sleep(5 * time.Millisecond)
			synctest.Wait()
			look()
		}
		if writes < 9 || writes > 10 {
			t.Errorf("it was written %d times in 10 s", writes)
		}
		time.Sleep(2 * time.Second)
		look()
		before := writes
		wantMark(t, path, thisEpoch, 2000)
		time.Sleep(time.Minute)
		look()
		stop()
		look()
		if writes != before {
			t.Errorf("it was written %d times while it stood still", writes-before)
		}
	})
}

func TestUnreadableQueueMarkIsAnError(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"garbage": "garbage", "empty": "", "cut": `{"epoch":"2026`, "another shape": `{"epoch":1}`} {
		path := filepath.Join(t.TempDir(), "queue.mark")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := broker.OpenQueueMark(path, thisEpoch); err == nil {
			t.Errorf("%s is a mark of %d", name, m.Seq(thisEpoch))
		}
		if _, seq, err := broker.ReadQueueMark(path); err == nil {
			t.Errorf("%s is read as %d", name, seq)
		}
	}
	if _, err := broker.OpenQueueMark(t.TempDir(), thisEpoch); err == nil {
		t.Error("a directory is a mark")
	}
}

// A disk that takes nothing is logged, and the mark written when it does.
func TestQueueMarkWaitsForItsDisk(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	path := filepath.Join(dir, "queue.mark")
	synctest.Test(t, func(t *testing.T) {
		log := &logged{}
		m := openMark(t, path, thisEpoch)
		stop := keep(m, log)
		m.Note(7)
		time.Sleep(1500 * time.Millisecond)
		if !log.has("the queue's mark cannot be written") {
			t.Error("nothing was logged")
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		wantMark(t, path, thisEpoch, 7)
		stop()
	})
}

// What the queue confirms to an intake moves its mark. An intake may have none.
func TestIntakeMovesTheMark(t *testing.T) {
	w := on(t, one)
	alone := broker.Grouping{MaxOrders: 1, MaxWait: ever, InFlight: 1}
	d := w.intake(t, w.sell(t, 5, "shirt"), alone)
	d.place(t, "unmarked@x.com")
	var none *broker.QueueMark
	none.Note(9)
	if none.Seq(d.epoch) != 0 {
		t.Error("no mark is one")
	}
	m := openMark(t, filepath.Join(t.TempDir(), "queue.mark"), d.epoch)
	marked := w.markedIntake(t, w.connect(t), m, alone)
	for seq := range uint64(3) {
		marked.place(t, "a@x.com")
		if got := m.Seq(d.epoch); got != seq+2 {
			t.Errorf("after message %d the mark is %d", seq+2, got)
		}
	}
}
