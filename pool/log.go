package pool

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

// Logger takes log lines. Its methods may be called from any goroutine and
// never block: the loops call them.
type Logger interface {
	// Enabled reports whether lines of level go anywhere.
	Enabled(level Level) bool

	// Log writes a line. prefix names the socket it is about, and is empty
	// otherwise. No secret may be in either.
	Log(level Level, prefix, text string)
}
