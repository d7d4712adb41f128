package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// QueueMark remembers, in a file beside the store, the highest sequence that the queue
// confirmed to this instance: a queue that ends before it has lost orders that buyers
// hold a 202 for (P3). It is for an embedded server, whose disk is the only witness.
type QueueMark struct {
	path string

	mu    sync.Mutex
	epoch string // of both
	high  uint64
	saved uint64 // in the file
}

// markEvery is how often the mark is written: what a crash leaves out is a second's
// orders, which the history witnesses besides.
const markEvery = time.Second

type markFile struct {
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// ErrMark is wrapped where a mark is there and cannot be read: without it a queue that
// has lost its end looks whole.
var ErrMark = errors.New("the queue's mark cannot be read; remove the file if the store is known to be sound")

// ReadQueueMark reads a mark, zero if there is none.
func ReadQueueMark(path string) (epoch string, seq uint64, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, fmt.Errorf("%w: %w", ErrMark, err)
	}
	var m markFile
	if err := json.Unmarshal(b, &m); err != nil {
		return "", 0, fmt.Errorf("%s: %w: %w", path, ErrMark, err)
	}
	return m.Epoch, m.Seq, nil
}

// OpenQueueMark goes on with the mark in a file, or begins one, for the queue of that
// epoch.
func OpenQueueMark(path, epoch string) (*QueueMark, error) {
	was, seq, err := ReadQueueMark(path)
	if err != nil {
		return nil, err
	}
	if was != epoch {
		seq = 0
	}
	return &QueueMark{path: path, epoch: epoch, high: seq, saved: seq}, nil
}

// Note notes that the queue has confirmed a sequence. It does nothing on a nil mark.
func (m *QueueMark) Note(seq uint64) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.high = max(m.high, seq)
}

// Renew begins a mark for the queue of another epoch.
func (m *QueueMark) Renew(epoch string) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.epoch != epoch {
		m.epoch, m.high, m.saved = epoch, 0, 0
	}
}

// Seq is the mark of the queue of that epoch, 0 if it is another's.
func (m *QueueMark) Seq(epoch string) uint64 {
	if m == nil {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.epoch != epoch {
		return 0
	}
	return m.high
}

// Run writes the mark once a second while it moves, and once more when ctx ends.
func (m *QueueMark) Run(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	for ended, failing := false, false; !ended; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			ended = true
		}
		err := m.save()
		if err != nil && !failing {
			log.Warn("the queue's mark cannot be written", "err", err)
		}
		failing = err != nil
	}
}

// save writes a file of its own and renames it, so that a crash leaves the one or the
// other whole.
func (m *QueueMark) save() error {
	m.mu.Lock()
	mark, saved := markFile{m.epoch, m.high}, m.saved
	m.mu.Unlock()
	if mark.Seq == saved {
		return nil
	}
	b, err := json.Marshal(mark)
	if err != nil {
		return err
	}
	next, err := os.CreateTemp(filepath.Dir(m.path), ".queue.mark-*")
	if err != nil {
		return err
	}
	_, err = next.Write(b)
	if err == nil {
		err = next.Sync()
	}
	if err = errors.Join(err, next.Close()); err == nil {
		err = os.Rename(next.Name(), m.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next.Name()))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.epoch == mark.Epoch {
		m.saved = mark.Seq
	}
	return nil
}
