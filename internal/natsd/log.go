package natsd

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
)

// levelTrace is for the server's protocol trace, which a configuration file
// can switch on: every message on the wire, below debug.
const levelTrace = slog.LevelDebug - 4

// serverLog writes the NATS server's log into ours. Its notices are routine
// (versions, limits, streams restored) and go to debug, so that what is seen
// at info is the program's own story.
type serverLog struct {
	out *slog.Logger
	// fatal holds the reason of a failed start, which the server reports in no
	// other way: it logs it where its own main would exit.
	fatal chan error
	// started is set when the start has succeeded and nobody reads fatal.
	started atomic.Bool
	last    atomic.Pointer[string] // error that was logged
}

func newServerLog(out *slog.Logger) *serverLog {
	return &serverLog{out: out, fatal: make(chan error, 1)}
}

func (l *serverLog) write(level slog.Level, format string, v []any) {
	ctx := context.Background() // the server logs outside of any request
	if !l.out.Enabled(ctx, level) {
		return
	}
	if msg := strings.TrimSpace(fmt.Sprintf(format, v...)); msg != "" {
		l.out.Log(ctx, level, msg)
	}
}

// Noticef implements server.Logger.
func (l *serverLog) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Warnf implements server.Logger.
func (l *serverLog) Warnf(format string, v ...any) { l.write(slog.LevelWarn, format, v) }

// Errorf implements server.Logger.
func (l *serverLog) Errorf(format string, v ...any) {
	text := strings.TrimSpace(fmt.Sprintf(format, v...))
	l.last.Store(&text)
	l.write(slog.LevelError, format, v)
}

// lastError is what the server logged as an error last.
func (l *serverLog) lastError() string {
	if text := l.last.Load(); text != nil {
		return *text
	}
	return "the server does not say why"
}

// Debugf implements server.Logger.
func (l *serverLog) Debugf(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Tracef implements server.Logger.
func (l *serverLog) Tracef(format string, v ...any) { l.write(levelTrace, format, v) }

// Fatalf implements server.Logger. It does not end the process: the first one
// of a failed start becomes the error of Start, any other is logged.
func (l *serverLog) Fatalf(format string, v ...any) {
	if !l.started.Load() {
		select {
		case l.fatal <- fmt.Errorf(format, v...):
			return
		default:
		}
	}
	l.write(slog.LevelError, format, v)
}
