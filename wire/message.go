package wire

import "encoding/binary"

// The functions of this file append whole messages to dst and return it, as
// append does. Strings must hold no NUL byte; what follows one would be read
// as the next field.

// Begin appends the header of a message of type typ with its length left
// open; End fills it in. at is the value for End.
func Begin(dst []byte, typ byte) (out []byte, at int) {
	return append(dst, typ, 0, 0, 0, 0), len(dst)
}

// End completes the message that Begin opened at at.
func End(dst []byte, at int) []byte {
	binary.BigEndian.PutUint32(dst[at+1:], uint32(len(dst)-at-1))
	return dst
}

// AppendString appends s and the NUL that ends it.
func AppendString(dst []byte, s string) []byte {
	return append(append(dst, s...), 0)
}

// AppendParameterStatus appends a ParameterStatus.
func AppendParameterStatus(dst []byte, name, value string) []byte {
	dst, at := Begin(dst, ParameterStatus)
	dst = AppendString(dst, name)
	dst = AppendString(dst, value)
	return End(dst, at)
}

// AppendReadyForQuery appends a ReadyForQuery.
func AppendReadyForQuery(dst []byte, s TxStatus) []byte {
	return append(dst, ReadyForQuery, 0, 0, 0, 5, byte(s))
}

// AppendAuthOk appends an AuthenticationOk.
func AppendAuthOk(dst []byte) []byte {
	return append(dst, Authentication, 0, 0, 0, 8, 0, 0, 0, 0)
}

// AppendBackendKeyData appends a BackendKeyData with an eight-byte key: the
// process id and the secret.
func AppendBackendKeyData(dst []byte, key CancelKey) []byte {
	dst = append(dst, BackendKeyData, 0, 0, 0, 12)
	return append(dst, key[:]...)
}

// AppendQuery appends a simple Query.
func AppendQuery(dst []byte, sql string) []byte {
	dst, at := Begin(dst, Query)
	return End(AppendString(dst, sql), at)
}

// AppendCommandComplete appends a CommandComplete.
func AppendCommandComplete(dst []byte, tag string) []byte {
	dst, at := Begin(dst, CommandComplete)
	return End(AppendString(dst, tag), at)
}

// AppendNegotiateProtocolVersion appends a NegotiateProtocolVersion for
// protocol 3.0 that names the options not understood.
func AppendNegotiateProtocolVersion(dst []byte, options []string) []byte {
	dst, at := Begin(dst, NegotiateProtocolVersion)
	dst = binary.BigEndian.AppendUint32(dst, Version30)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(options)))
	for _, o := range options {
		dst = AppendString(dst, o)
	}
	return End(dst, at)
}

// AppendStartup appends a StartupMessage of protocol 3.0.
func AppendStartup(dst []byte, params [][2]string) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, Version30)
	for _, p := range params {
		dst = AppendString(dst, p[0])
		dst = AppendString(dst, p[1])
	}
	dst = append(dst, 0)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	return dst
}

// AppendSSLRequest appends an SSLRequest.
func AppendSSLRequest(dst []byte) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 0, 0, 0, 8), CodeSSL)
}

// AppendCancelRequest appends a CancelRequest. key is the body of a
// BackendKeyData.
func AppendCancelRequest(dst, key []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(8+len(key)))
	dst = binary.BigEndian.AppendUint32(dst, CodeCancel)
	return append(dst, key...)
}
