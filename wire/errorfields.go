package wire

import "bytes"

// Fields is an ErrorResponse or NoticeResponse taken apart (protocol manual,
// "Error and Notice Message Fields"). Only the fields that pgweir writes or
// acts upon are kept.
type Fields struct {
	Severity string // S: ERROR, FATAL, NOTICE, ...
	Code     string // C: SQLSTATE
	Message  string // M
	Detail   string // D, may be empty
	Hint     string // H, may be empty
	Routine  string // R, the function that says it; read only
}

// AppendError appends an ErrorResponse. Empty fields are left out.
func AppendError(dst []byte, f Fields) []byte { return appendFields(dst, ErrorResponse, f) }

// AppendNotice appends a NoticeResponse. Empty fields are left out.
func AppendNotice(dst []byte, f Fields) []byte { return appendFields(dst, NoticeResponse, f) }

func appendFields(dst []byte, typ byte, f Fields) []byte {
	dst, at := Begin(dst, typ)
	for _, p := range [...]struct {
		code  byte
		value string
	}{{'S', f.Severity}, {'C', f.Code}, {'M', f.Message}, {'D', f.Detail}, {'H', f.Hint}} {
		if p.value != "" {
			dst = append(dst, p.code)
			dst = AppendString(dst, p.value)
		}
	}
	return End(append(dst, 0), at)
}

// ParseFields reads the body of an ErrorResponse or NoticeResponse. It never
// fails: a body that breaks off yields the fields before the break.
func ParseFields(body []byte) (f Fields) {
	for len(body) > 1 && body[0] != 0 {
		code := body[0]
		end := bytes.IndexByte(body[1:], 0)
		if end < 0 {
			return f
		}
		value := string(body[1 : 1+end])
		body = body[2+end:]
		switch code {
		case 'S':
			f.Severity = value
		case 'C':
			f.Code = value
		case 'M':
			f.Message = value
		case 'D':
			f.Detail = value
		case 'H':
			f.Hint = value
		case 'R':
			f.Routine = value
		}
	}
	return f
}

// CutString splits b at its first NUL. ok is false if there is none.
func CutString(b []byte) (s, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return nil, b, false
	}
	return b[:i], b[i+1:], true
}
