package main

import (
	"bytes"
	"io"
	"log/slog"
	"sync/atomic"
	"time"
)

// unblockedLog hands lines on to a writer that may stand still: a pipe whose reader does
// not read is full after 64 KiB, and a part that logs would wait for it for ever. It keeps
// keptLines; what comes above them is dropped, and the log says how much.
type unblockedLog struct {
	to    io.Writer
	says  *slog.Logger // writes to to
	lines chan []byte
	lost  atomic.Int64
	stop  chan struct{}
	ended chan struct{}
}

const (
	keptLines = 1024
	// lastWords is what a writer gets for the lines that are kept when all is over.
	lastWords = time.Second
)

func newUnblockedLog(c logConfig, to io.Writer) *unblockedLog {
	l := &unblockedLog{to: to, says: newLogger(c, to), lines: make(chan []byte, keptLines),
		stop: make(chan struct{}), ended: make(chan struct{})}
	go l.run()
	return l
}

// Write implements io.Writer. It keeps a copy, and never fails.
func (l *unblockedLog) Write(line []byte) (int, error) {
	select {
	case l.lines <- bytes.Clone(line):
	default:
		l.lost.Add(1)
	}
	return len(line), nil
}

// run ends after close, once the writer has taken what is kept.
func (l *unblockedLog) run() {
	defer close(l.ended)
	for stop := l.stop; stop != nil || len(l.lines) > 0; {
		select {
		case line := <-l.lines:
			_, _ = l.to.Write(line) // its reader may be gone
		case <-stop:
			stop = nil
		}
		if lost := l.lost.Swap(0); lost > 0 {
			l.says.Warn("the log was not read, and lines of it were dropped", "lines", lost)
		}
	}
}

// close may be called once. Lines after it are lost.
func (l *unblockedLog) close() {
	close(l.stop)
	select {
	case <-l.ended:
	case <-time.After(lastWords):
	}
}
