package configs

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Setting describes one key of section [pgbouncer].
type Setting struct {
	Name string

	// Default is the text that stands for a key that is not given, and what
	// SHOW CONFIG prints in its default column. Null means there is no default:
	// the key is unset, and SHOW CONFIG prints NULL.
	Default string
	Null    bool

	// Restart means that the key takes effect only at start: RELOAD and SET
	// leave it as it is, and SHOW CONFIG says changeable=no.
	Restart bool

	// Meaning is one line for docs/settings.md.
	Meaning string

	// min and max bound an int. Below min counts as min, with a warning, since
	// PgBouncer takes any number; above max, where it is not 0, is an error.
	min, max int

	// octal marks the one int that is usually written in octal.
	octal bool

	// field returns the address of the field of m, and thereby the type.
	field func(m *Main) any
}

// Find returns the setting of that name in Table, or nil. Names are exact.
func Find(name string) *Setting {
	if i, ok := tableIndex[name]; ok {
		return &Table[i]
	}
	return nil
}

var tableIndex = func() map[string]int {
	index := make(map[string]int, len(Table))
	for i := range Table {
		index[Table[i].Name] = i
	}
	return index
}()

// Type returns how the value is written: str, list, int, uint, bool, sec, or
// the names of an enumeration.
func (s *Setting) Type() string {
	switch f := s.field(new(Main)).(type) {
	case *string:
		return "str"
	case *[]string:
		return "list"
	case *int:
		return "int"
	case *uint32:
		return "uint"
	case *bool:
		return "bool"
	case *time.Duration:
		return "sec"
	case enum:
		return f.names().String()
	}
	panic("BUG: configs: setting " + s.Name + " has a field of a type that can't be read")
}

// set reads text into the field of m and returns it as SHOW CONFIG prints it.
// note is set when the value means something else than it seems to. On an error
// m is unchanged.
func (s *Setting) set(m *Main, text string) (shown, note string, err error) {
	switch f := s.field(m).(type) {
	case *string:
		*f = text
		return text, s.quoteNote(text), nil
	case *[]string:
		*f = splitList(text)
		return text, s.quoteNote(text), nil
	case *int:
		n, err := parseInt(text, 31)
		if err == nil && s.max != 0 && n > s.max {
			err = fmt.Errorf("must be at most %d", s.max)
		}
		if err != nil {
			return "", "", s.badValue(text, err)
		}
		if note = s.octalNote(text, n); n < s.min {
			note = fmt.Sprintf("%s = %d counts as %d", s.Name, n, s.min)
		}
		*f = max(n, s.min)
		return strconv.Itoa(n), note, nil
	case *uint32:
		n, err := parseInt(text, 32)
		if err == nil && n < 0 {
			err = errors.New("must not be negative")
		}
		if err != nil {
			return "", "", s.badValue(text, err)
		}
		*f = uint32(n)
		return strconv.Itoa(n), "", nil
	case *bool:
		n, err := parseInt(text, 31)
		if err != nil {
			return "", "", s.badValue(text, errors.New("must be 0 or 1"))
		}
		*f = n != 0
		return strconv.Itoa(n), "", nil
	case *time.Duration:
		sec, err := parseSeconds(text)
		if err != nil {
			return "", "", s.badValue(text, err)
		}
		*f = seconds(sec)
		return formatG(f.Seconds()), "", nil
	case enum:
		if !f.parse(text) {
			return "", "", s.badValue(text, errors.New("must be "+f.names().String()))
		}
		return f.String(), "", nil
	}
	panic("BUG: configs: setting " + s.Name + " has a field of a type that can't be read")
}

// quoteNote tells that quotes mean nothing at this level.
func (s *Setting) quoteNote(text string) string {
	if last := len(text) - 1; last > 0 && text[0] == text[last] && (text[0] == '\'' || text[0] == '"') {
		return s.Name + ": the quotes are part of the value; leave them out"
	}
	return ""
}

// octalNote tells that a number means another one than it seems to.
func (s *Setting) octalNote(text string, n int) string {
	octal := len(text) > 1 && text[0] == '0' && text[1]|0x20 != 'x'
	switch {
	case octal && !s.octal && n > 7:
		return fmt.Sprintf("%s = %s is octal because it begins with 0; it is %d", s.Name, text, n)
	case s.octal && n > 7 && text[0] != '0':
		return fmt.Sprintf("%s = %s is decimal; write 0%s for the permissions %s", s.Name, text, text, text)
	}
	return ""
}

// clear makes the field of m unset.
func (s *Setting) clear(m *Main) {
	switch f := s.field(m).(type) {
	case *string:
		*f = ""
	case *int:
		*f = 0
	default:
		panic("BUG: configs: setting " + s.Name + " can't be NULL")
	}
}

func (s *Setting) badValue(text string, why error) error {
	return fmt.Errorf("%s: invalid value %q: %w", s.Name, text, why)
}

// parseInt reads an int as C's strtol does with base 0: 0x begins a hexadecimal
// number, another leading 0 an octal one. Unlike there, it must fit: its
// magnitude has at most that many bits.
func parseInt(s string, bits int) (int, error) {
	digits := strings.TrimLeft(s, isspace)
	negative := strings.HasPrefix(digits, "-")
	if negative || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	base := 10
	switch {
	case strings.HasPrefix(digits, "0x"), strings.HasPrefix(digits, "0X"):
		digits, base = digits[2:], 16
	case strings.HasPrefix(digits, "0"):
		base = 8
	}
	n, err := strconv.ParseUint(digits, base, bits)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("must be at most %d", 1<<bits-1)
	case err != nil && base == 8:
		return 0, errors.New("must be a whole number; one with a leading 0 is read as octal")
	case err != nil:
		return 0, errors.New("must be a whole number, without a unit")
	case negative:
		return -int(n), nil
	}
	return int(n), nil
}

// parseSeconds reads a time in seconds, with a fraction if need be.
func parseSeconds(s string) (float64, error) {
	sec, err := strconv.ParseFloat(strings.TrimLeft(s, isspace), 64)
	if err != nil || math.IsNaN(sec) || strings.Contains(s, "_") {
		return 0, errors.New("must be a number of seconds, without a unit")
	}
	if sec < 0 {
		return 0, errors.New("must not be negative")
	}
	return sec, nil
}

// seconds is sec to the microsecond, at most Never.
func seconds(sec float64) time.Duration {
	if sec >= Never.Seconds() {
		return Never
	}
	return time.Duration(math.Round(sec*1e6)) * time.Microsecond
}

// formatG prints v as C's %g does: six significant digits.
func formatG(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }
