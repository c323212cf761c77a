package admin

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/wire"
)

// oid is the object id of a Postgres type (pg_type.dat). The console knows no
// others than these.
type oid uint32

const (
	oidInt8    oid = 20
	oidInt4    oid = 23
	oidText    oid = 25
	oidNumeric oid = 1700
)

// size is the type's typlen: its bytes in binary form, -1 if that varies.
func (o oid) size() int16 {
	switch o {
	case oidInt4:
		return 4
	case oidInt8:
		return 8
	default:
		return -1
	}
}

type column struct {
	name string
	typ  oid
}

// columns reads a list as it stands in the documentation, "database t,
// cl_active i": t is text, i int4, q int8, N numeric.
func columns(list string) []column {
	var cols []column
	for item := range strings.SplitSeq(list, ",") {
		name, letter, _ := strings.Cut(strings.TrimSpace(item), " ")
		typ, ok := map[string]oid{"t": oidText, "i": oidInt4, "q": oidInt8, "N": oidNumeric}[letter]
		if !ok {
			panic("BUG: column without a type: " + item)
		}
		cols = append(cols, column{name, typ})
	}
	return cols
}

// value is one cell of a row: NULL (the zero value), a text, or a whole number.
type value struct {
	kind   valueKind
	text   string
	number int64
}

type valueKind uint8

const (
	null valueKind = iota
	textValue
	numberValue
)

type row []value

// text is s as a cell. The console promises UTF-8, and names come from clients
// that may have sent anything.
func text(s string) value {
	return value{kind: textValue, text: strings.ToValidUTF8(s, "\uFFFD")}
}

// textOrNull is NULL for the empty string.
func textOrNull(s string) value { return textUnless(s == "", s) }

// textUnless is NULL if unset.
func textUnless(unset bool, s string) value {
	if unset {
		return value{}
	}
	return text(s)
}

func number[N int | int32 | int64 | uint32 | uint64](n N) value {
	if v := int64(n); n < 0 || v >= 0 {
		return value{kind: numberValue, number: v}
	}
	return value{kind: numberValue, number: math.MaxInt64} // a uint64 beyond int64
}

// numberOrNull is NULL for 0.
func numberOrNull(n int) value {
	if n == 0 {
		return value{}
	}
	return number(n)
}

func bit(b bool) value {
	if b {
		return number(1)
	}
	return number(0)
}

// format is the encoding that a client asks for in a Bind (protocol manual,
// "Formats and Format Codes").
type format int16

const (
	formatText   format = 0
	formatBinary format = 1
)

// formatOf returns the format of column i. Like a Bind's list of codes,
// formats has none (all text), one (for all), or one for each column.
func formatOf(formats []format, i int) format {
	switch len(formats) {
	case 0:
		return formatText
	case 1:
		return formats[0]
	default:
		return formats[i]
	}
}

// appendRowDescription appends a RowDescription. The columns belong to no
// table.
func appendRowDescription(dst []byte, cols []column, formats []format) []byte {
	dst, at := wire.Begin(dst, wire.RowDescription)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(cols)))
	for i, c := range cols {
		dst = wire.AppendString(dst, c.name)
		dst = binary.BigEndian.AppendUint32(dst, 0) // table
		dst = binary.BigEndian.AppendUint16(dst, 0) // column of the table
		dst = binary.BigEndian.AppendUint32(dst, uint32(c.typ))
		dst = binary.BigEndian.AppendUint16(dst, uint16(c.typ.size()))
		dst = binary.BigEndian.AppendUint32(dst, math.MaxUint32) // no type modifier
		dst = binary.BigEndian.AppendUint16(dst, uint16(formatOf(formats, i)))
	}
	return wire.End(dst, at)
}

// appendDataRow appends a DataRow of r, which has a value for each column.
func appendDataRow(dst []byte, cols []column, r row, formats []format) []byte {
	dst, at := wire.Begin(dst, wire.DataRow)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(r)))
	for i, v := range r {
		if v.kind == null {
			dst = binary.BigEndian.AppendUint32(dst, math.MaxUint32)
			continue
		}
		length := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		if formatOf(formats, i) == formatBinary {
			dst = v.appendBinary(dst, cols[i].typ)
		} else {
			dst = v.appendText(dst)
		}
		binary.BigEndian.PutUint32(dst[length:], uint32(len(dst)-length-4))
	}
	return wire.End(dst, at)
}

func (v value) appendText(dst []byte) []byte {
	if v.kind == numberValue {
		return strconv.AppendInt(dst, v.number, 10)
	}
	return append(dst, v.text...)
}

// appendBinary appends v as the type's send function would write it. PgBouncer
// declares many counts as int4; a number that outgrew it is sent as the
// largest int4 here, and in full in text format.
func (v value) appendBinary(dst []byte, typ oid) []byte {
	switch typ {
	case oidInt4:
		n := max(math.MinInt32, min(v.number, math.MaxInt32))
		return binary.BigEndian.AppendUint32(dst, uint32(int32(n)))
	case oidInt8:
		return binary.BigEndian.AppendUint64(dst, uint64(v.number))
	case oidNumeric:
		return appendNumeric(dst, v.number)
	default:
		return v.appendText(dst)
	}
}

// appendNumeric appends n as numeric_send does (src/backend/utils/adt/numeric.c):
// four words (number of digits, weight of the first, sign, digits after the
// point), then the digits to the base of 10000.
func appendNumeric(dst []byte, n int64) []byte {
	const base, negative = 10000, 0x4000
	sign, rest := uint16(0), uint64(n)
	if n < 0 {
		sign, rest = negative, -rest
	}
	var digits [5]uint16 // 10000^5 > 2^64
	first := len(digits)
	for ; rest > 0; rest /= base {
		first--
		digits[first] = uint16(rest % base)
	}
	count := len(digits) - first
	weight := max(count-1, 0)
	last := len(digits)
	for last > first && digits[last-1] == 0 {
		last--
	}
	for _, word := range []uint16{uint16(last - first), uint16(weight), sign, 0} {
		dst = binary.BigEndian.AppendUint16(dst, word)
	}
	for _, d := range digits[first:last] {
		dst = binary.BigEndian.AppendUint16(dst, d)
	}
	return dst
}
