package wire

import (
	"encoding/binary"
	"errors"
)

// HeaderLen is the length of a typed message's header: the type byte and the
// four-byte length, which counts itself and the body.
const HeaderLen = 5

// ErrMalformed is a header that can't be the start of a message. The stream
// can't be resynchronised: the connection must be closed.
var ErrMalformed = errors.New("bad packet header")

// Peek reads the header of the first message in b without consuming it. ok is
// true if and only if all five header bytes are present; the body may be
// missing. size counts the header and the body. A length below 4, or a size
// above limit, is ErrMalformed.
func Peek(b []byte, limit int) (typ byte, size int, ok bool, err error) {
	if len(b) < HeaderLen {
		return 0, 0, false, nil
	}
	n := binary.BigEndian.Uint32(b[1:])
	if n < 4 || uint64(n)+1 > uint64(limit) {
		return b[0], 0, true, ErrMalformed
	}
	return b[0], int(n) + 1, true, nil
}

// Message types sent by a frontend (protocol manual, "Message Formats").
const (
	Bind         = 'B'
	Close        = 'C'
	CopyData     = 'd' // both ways
	CopyDone     = 'c' // both ways
	CopyFail     = 'f'
	Describe     = 'D'
	Execute      = 'E'
	Flush        = 'H'
	FunctionCall = 'F'
	Parse        = 'P'
	Password     = 'p' // also SASLInitialResponse, SASLResponse
	Query        = 'Q'
	Sync         = 'S'
	Terminate    = 'X'
)

// Message types sent by a backend.
const (
	Authentication           = 'R'
	BackendKeyData           = 'K'
	BindComplete             = '2'
	CloseComplete            = '3'
	CommandComplete          = 'C'
	CopyBothResponse         = 'W'
	CopyInResponse           = 'G'
	CopyOutResponse          = 'H'
	DataRow                  = 'D'
	EmptyQueryResponse       = 'I'
	ErrorResponse            = 'E'
	FunctionCallResponse     = 'V'
	NegotiateProtocolVersion = 'v'
	NoData                   = 'n'
	NoticeResponse           = 'N'
	NotificationResponse     = 'A'
	ParameterDescription     = 't'
	ParameterStatus          = 'S'
	ParseComplete            = '1'
	PortalSuspended          = 's'
	ReadyForQuery            = 'Z'
	RowDescription           = 'T'
)

// TxStatus is the transaction status of a ReadyForQuery.
type TxStatus byte

// The values of TxStatus.
const (
	TxIdle   TxStatus = 'I' // outside a transaction
	TxOpen   TxStatus = 'T' // inside a transaction
	TxFailed TxStatus = 'E' // inside a failed transaction, until it ends
)

// Valid reports whether s is one of the three the protocol knows.
func (s TxStatus) Valid() bool { return s == TxIdle || s == TxOpen || s == TxFailed }
