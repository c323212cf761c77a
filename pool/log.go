package pool

import "github.com/pgweir/pgweir/wire"

// Level is the weight of a log line, as PgBouncer names them.
type Level uint8

// The levels, heaviest first.
const (
	Fatal Level = iota
	Error
	Warning
	Info // written "LOG"
	Debug
	Noise
)

// Name is how log lines name the client or server that h is, empty for any
// other Handler. It runs on the loop that owns h.
func Name(h wire.Handler) string {
	switch h := h.(type) {
	case *Client:
		return h.prefix()
	case *Server:
		return h.prefix()
	}
	return ""
}

// Logger takes log lines. Its methods may be called from any goroutine and
// never block: the loops call them.
type Logger interface {
	// Enabled reports whether lines of level go anywhere.
	Enabled(level Level) bool

	// Log writes a line. prefix names the socket it is about, and is empty
	// otherwise. No secret may be in either.
	Log(level Level, prefix, text string)
}
