package logs

import (
	"bytes"
	"fmt"
	"log/syslog"
	"strings"
)

// facilities are the names that syslog_facility may have.
var facilities = map[string]syslog.Priority{
	"auth": syslog.LOG_AUTH, "authpriv": syslog.LOG_AUTHPRIV, "daemon": syslog.LOG_DAEMON, "user": syslog.LOG_USER,
	"local0": syslog.LOG_LOCAL0, "local1": syslog.LOG_LOCAL1, "local2": syslog.LOG_LOCAL2, "local3": syslog.LOG_LOCAL3,
	"local4": syslog.LOG_LOCAL4, "local5": syslog.LOG_LOCAL5, "local6": syslog.LOG_LOCAL6, "local7": syslog.LOG_LOCAL7,
}

// Syslog says how to write to the system's log. The zero value does not.
type Syslog struct {
	Facility string // syslog_facility, one of PgBouncer's names; "" is no syslog at all
	Ident    string // syslog_ident
}

// Syslog applies the settings syslog, syslog_facility and syslog_ident. Lines
// of level Info and heavier go there. A system log that doesn't answer is no
// error: the lines are lost, and when it does their number is logged. It may
// block.
func (l *Log) Syslog(to Syslog) error {
	facility, known := facilities[strings.ToLower(to.Facility)]
	if to.Facility != "" && !known {
		return fmt.Errorf("syslog_facility: there is no %q", to.Facility)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if to == l.syslogTo {
		return nil
	}
	l.syslogTo = to
	old := l.syslog.Load()
	if to.Facility == "" {
		l.syslog.Store(nil)
	} else {
		out := &syslogWriter{dial: func() (*syslog.Writer, error) {
			return syslog.Dial(l.opts.SyslogNetwork, l.opts.SyslogAddress, facility|syslog.LOG_INFO, to.Ident)
		}}
		l.syslog.Store(newSink(out, style{journal: true}, l.opts.Now))
	}
	if old != nil {
		old.close(Patience)
	}
	return nil
}

// syslogWriter takes whole lines in journald's style, which begin with their
// severities, and sends each as a message.
type syslogWriter struct {
	dial func() (*syslog.Writer, error)
	out  *syslog.Writer // nil until the system's log has answered
}

// Write implements io.Writer.
func (w *syslogWriter) Write(lines []byte) (n int, err error) {
	if w.out == nil {
		if w.out, err = w.dial(); err != nil {
			return 0, err
		}
	}
	for n < len(lines) {
		end := bytes.IndexByte(lines[n:], '\n')
		if end < 0 {
			end = len(lines) - n
		}
		if err := w.message(lines[n : n+end]); err != nil {
			return n, err
		}
		n = min(n+end+1, len(lines))
	}
	return n, nil
}

// message sends a line: "<6>text".
func (w *syslogWriter) message(line []byte) error {
	if len(line) < 3 {
		return nil // the end of a line that was cut
	}
	text := string(line[3:])
	switch line[1] {
	case '2':
		return w.out.Crit(text)
	case '3':
		return w.out.Err(text)
	case '4':
		return w.out.Warning(text)
	}
	return w.out.Info(text)
}

// Close implements io.Closer.
func (w *syslogWriter) Close() error {
	if w.out == nil {
		return nil
	}
	return w.out.Close()
}
