// Package logs writes the log of the process, in PgBouncer's format: to
// standard error, to a file and to syslog, or to some of them.
//
// The event loops log, a line for each login for instance, and must never wait
// for a disk or a pipe. So a line is only appended to a buffer, and a goroutine
// for each output writes the buffer out in batches. The buffer is bounded: what
// does not fit is counted, and the count is logged as soon as there is room.
package logs

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgweir/pgweir/pool"
)

// Options say where a Log writes before its first Configure.
type Options struct {
	// Stderr is the standard error of the process. nil means there is none,
	// as with --quiet and --daemon.
	Stderr io.Writer

	// Journal says that Stderr leads to journald (UnderJournal), which knows
	// the time and the process by itself.
	Journal bool

	// PID is the process id that each line shows.
	PID int

	// SyslogNetwork and SyslogAddress are where the system's log is. Empty is
	// where every program finds it.
	SyslogNetwork, SyslogAddress string

	// Now tells the time, in the zone that lines are to show. nil means
	// time.Now.
	Now func() time.Time
}

// Log is the log of the process. Its methods may be called from any goroutine.
// Log, Line and Printf never block and, but for Printf, never allocate in the
// long run; only a line of level Fatal is waited for.
type Log struct {
	opts Options

	// limit is the lightest level that is written.
	limit atomic.Uint32

	stderr *sink // nil if there is none
	file   atomic.Pointer[sink]
	syslog atomic.Pointer[sink]

	mu       sync.Mutex // held over Configure, Syslog and Close
	syslogTo Syslog
}

var _ pool.Logger = (*Log)(nil)

// New returns a Log that writes lines of level Info and heavier to o.Stderr. It
// must be closed.
func New(o Options) *Log {
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &Log{opts: o}
	l.limit.Store(uint32(pool.Info))
	if o.Stderr != nil {
		keepOpen := struct{ io.Writer }{o.Stderr}
		l.stderr = newSink(keepOpen, style{journal: o.Journal, pid: o.PID}, o.Now)
	}
	return l
}

// Open opens the file that logfile names, to append. It may block.
func Open(logfile string) (*os.File, error) {
	f, err := os.OpenFile(logfile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("logfile: %w", err)
	}
	return f, nil
}

// Configure applies the settings logfile and verbose, at start and on each
// reload. The file is opened anew every time, to append, so that a file that
// was rotated away is let go. If it can't be opened, nothing changes. verbose
// of 1 adds lines of level Debug, 2 those of level Noise. It may block.
func (l *Log) Configure(logfile string, verbose int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if logfile == "" {
		if s := l.file.Swap(nil); s != nil {
			s.close(Patience)
		}
	} else {
		f, err := Open(logfile)
		if err != nil {
			return err
		}
		if s := l.file.Load(); s != nil {
			s.replace(f)
		} else {
			l.file.Store(newSink(f, style{pid: l.opts.PID}, l.opts.Now))
		}
	}
	l.limit.Store(uint32(pool.Info) + uint32(max(0, min(verbose, 2))))
	return nil
}

// Enabled reports whether lines of level go anywhere.
func (l *Log) Enabled(level pool.Level) bool {
	return uint32(level) <= l.limit.Load() && (l.stderr != nil || l.file.Load() != nil || l.syslog.Load() != nil)
}

// Log writes a line with the time of now. prefix names the socket it is about,
// and is empty otherwise.
func (l *Log) Log(level pool.Level, prefix, text string) {
	if l.Enabled(level) {
		l.Line(level, l.opts.Now(), prefix, text)
	}
}

// Printf is Log with a text formatted like fmt.Sprintf's, and no prefix.
func (l *Log) Printf(level pool.Level, format string, args ...any) {
	if l.Enabled(level) {
		l.Line(level, l.opts.Now(), "", fmt.Sprintf(format, args...))
	}
}

// Line writes a line of the given time. A line of level Fatal, after which the
// process ends, is written when Line returns, or has run out of Patience.
func (l *Log) Line(level pool.Level, now time.Time, prefix, text string) {
	if uint32(level) > l.limit.Load() {
		return
	}
	if l.stderr != nil {
		l.stderr.line(level, now, prefix, text)
	}
	if s := l.file.Load(); s != nil {
		s.line(level, now, prefix, text)
	}
	if s := l.syslog.Load(); s != nil && level <= pool.Info {
		s.line(level, now, prefix, text)
	}
	if level == pool.Fatal {
		l.Flush()
	}
}

// Patience is how long Flush and Close wait for an output that takes nothing.
const Patience = 2 * time.Second

// Flush returns when every line logged before is written, or an output had no
// room for Patience.
func (l *Log) Flush() {
	if l.stderr != nil {
		l.stderr.flush(Patience)
	}
	for _, out := range []*atomic.Pointer[sink]{&l.file, &l.syslog} {
		if s := out.Load(); s != nil {
			s.flush(Patience)
		}
	}
}

// Close flushes, closes the file, and ends the goroutines. Lines logged later
// are lost.
func (l *Log) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stderr != nil {
		l.stderr.close(Patience)
	}
	for _, out := range []*atomic.Pointer[sink]{&l.file, &l.syslog} {
		if s := out.Swap(nil); s != nil {
			s.close(Patience)
		}
	}
}
