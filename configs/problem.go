package configs

import "fmt"

// Severity tells whether a Problem keeps a configuration from being used.
type Severity uint8

const (
	// Warning: the configuration works, though perhaps not as its author
	// believes.
	Warning Severity = iota
	// Error: the configuration is not used.
	Error
)

func (s Severity) String() string {
	if s == Error {
		return "error"
	}
	return "warning"
}

// Problem is one thing wrong with a configuration. As an error it reads
// "file:line: text".
type Problem struct {
	File     string // as named on the command line, by %include, or by auth_file
	Line     int    // from 1; 0 when no single line is to blame
	Severity Severity
	Text     string // names the key; never holds a password
}

func (p Problem) Error() string {
	switch {
	case p.File == "":
		return p.Text
	case p.Line == 0:
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// pos is a line of a file.
type pos struct {
	file string
	line int
}
