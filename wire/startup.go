package wire

import (
	"encoding/binary"
	"errors"
)

// Codes that stand where a StartupMessage has its protocol version.
const (
	Version30  = 3 << 16
	CodeCancel = 80877102
	CodeSSL    = 80877103
	CodeGSSENC = 80877104
)

// MaxStartup is the longest first packet that is taken. The first two bytes of
// its length must be zero, as in PgBouncer, so that nothing sent before
// authentication makes a large buffer.
const MaxStartup = 1<<16 - 1

// CancelKey is the key of a session as a CancelRequest names it: process id
// and secret, four bytes each.
type CancelKey [8]byte

// FirstKind says what an untyped first packet asks for.
type FirstKind uint8

// The kinds of first packets.
const (
	FirstStartup FirstKind = iota + 1 // protocol 3.x
	FirstCancel                       // CancelRequest
	FirstSSL                          // SSLRequest
	FirstGSSENC                       // GSSENCRequest
	FirstOld                          // protocol 2, refused
)

// First is a first packet taken apart.
type First struct {
	Kind  FirstKind
	Minor uint16    // FirstStartup: minor version asked for
	Body  []byte    // FirstStartup: the parameters, for Params
	Key   CancelKey // FirstCancel
}

// ErrStartupLayout is a StartupMessage whose parameters do not end with the
// one terminator that must be its last byte.
var ErrStartupLayout = errors.New("invalid startup packet layout: expected terminator as last byte")

// PeekFirst reads the first packet in b without consuming it. size is its
// length once four bytes are there, 0 before; ok is true if and only if the
// packet is complete, and only then is f. f.Body lies in b. ErrMalformed is
// anything that can't be a first packet, noticed as soon as the first byte,
// the length or the code shows it; f and size are zero then.
func PeekFirst(b []byte) (f First, size int, ok bool, err error) {
	if len(b) > 0 && b[0] != 0 || len(b) > 1 && b[1] != 0 {
		return f, 0, false, ErrMalformed
	}
	if len(b) < 4 {
		return f, 0, false, nil
	}
	size = int(binary.BigEndian.Uint32(b))
	if size < 8 {
		return f, 0, false, ErrMalformed
	}
	if len(b) < 8 {
		return f, size, false, nil
	}
	switch code := binary.BigEndian.Uint32(b[4:]); {
	case code>>16 == 3:
		f.Kind, f.Minor = FirstStartup, uint16(code)
	case code>>16 == 2:
		f.Kind = FirstOld
	case code == CodeSSL && size == 8:
		f.Kind = FirstSSL
	case code == CodeGSSENC && size == 8:
		f.Kind = FirstGSSENC
	case code == CodeCancel && size == 8+len(f.Key):
		f.Kind = FirstCancel
	default:
		return f, 0, false, ErrMalformed
	}
	if len(b) < size {
		return f, size, false, nil
	}
	f.Body = b[8:size]
	if f.Kind == FirstCancel {
		copy(f.Key[:], f.Body)
	}
	return f, size, true, nil
}

// Params calls each with every name and value of a StartupMessage's body, in
// order, until each returns false. The slices are only valid during the call.
func (f First) Params(each func(name, value []byte) bool) error {
	b := f.Body
	for {
		name, rest, ok := CutString(b)
		if !ok {
			return ErrStartupLayout
		}
		if len(name) == 0 {
			if len(rest) != 0 {
				return ErrStartupLayout
			}
			return nil
		}
		value, rest, ok := CutString(rest)
		if !ok {
			return ErrStartupLayout
		}
		if !each(name, value) {
			return nil
		}
		b = rest
	}
}
