package logs

import (
	"strconv"
	"strings"
	"time"

	"github.com/pgweir/pgweir/pool"
)

// style is how the lines of one output look. Another format, JSON say, would
// be another style.
type style struct {
	journal bool
	pid     int
}

// names are PgBouncer's words for the levels.
var names = [...]string{
	pool.Fatal: "FATAL", pool.Error: "ERROR", pool.Warning: "WARNING",
	pool.Info: "LOG", pool.Debug: "DEBUG", pool.Noise: "NOISE",
}

// severities are the levels as journald reads them at the start of a line
// (sd-daemon(3)).
var severities = [...]string{
	pool.Fatal: "<2>", pool.Error: "<3>", pool.Warning: "<4>",
	pool.Info: "<6>", pool.Debug: "<7>", pool.Noise: "<7>",
}

// append appends a line:
//
//	2026-11-20 10:00:00.000 UTC [4711] LOG C-0x1: db/user@host:port text
//
// For journald the severity replaces time and process id. A line break in text
// is followed by a tab, so that no text can pass for a line of its own.
func (s style) append(dst []byte, level pool.Level, now time.Time, prefix, text string) []byte {
	if s.journal {
		dst = append(dst, severities[level]...)
	} else {
		dst = now.AppendFormat(dst, "2006-01-02 15:04:05.000 MST")
		dst = append(dst, " ["...)
		dst = strconv.AppendInt(dst, int64(s.pid), 10)
		dst = append(dst, "] "...)
	}
	dst = append(dst, names[level]...)
	dst = append(dst, ' ')
	if prefix != "" {
		dst = s.appendText(dst, level, prefix)
		if !strings.HasSuffix(prefix, " ") {
			dst = append(dst, ' ')
		}
	}
	dst = s.appendText(dst, level, text)
	return append(dst, '\n')
}

func (s style) appendText(dst []byte, level pool.Level, text string) []byte {
	for {
		before, after, found := strings.Cut(text, "\n")
		dst = append(dst, before...)
		if !found {
			return dst
		}
		dst = append(dst, '\n')
		if s.journal {
			dst = append(dst, severities[level]...)
		}
		dst = append(dst, '\t')
		text = after
	}
}
