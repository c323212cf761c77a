package dial

import (
	"encoding/binary"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/wire"
)

// RoleQuery asks a server what it is, as far as attrs ask for it, also one that
// doesn't report it by itself, as those before version 14. A session may have
// made itself read-only; the value to which RESET would go back is the server's
// own. To find that takes a millisecond, so it is asked for only if need be.
func RoleQuery(attrs configs.SessionAttrs) string {
	switch attrs {
	case configs.SessionReadWrite, configs.SessionReadOnly:
		return "SELECT pg_catalog.pg_is_in_recovery()," +
			" (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only')"
	}
	return "SELECT pg_catalog.pg_is_in_recovery(), 'off'"
}

// The parameters in which a server reports what it is.
const (
	paramStandby  = "in_hot_standby"
	paramReadOnly = "default_transaction_read_only"
)

// ParseRole reads the DataRow, without its header, that answers RoleQuery. ok
// is false if it is no such row.
func ParseRole(body []byte) (standby, readOnly, ok bool) {
	if len(body) < 2 || binary.BigEndian.Uint16(body) != 2 {
		return false, false, false
	}
	body = body[2:]
	var columns [2]string
	for i := range columns {
		if len(body) < 4 {
			return false, false, false
		}
		n := uint64(binary.BigEndian.Uint32(body))
		if body = body[4:]; n > uint64(len(body)) {
			return false, false, false
		}
		columns[i], body = string(body[:n]), body[n:]
	}
	return columns[0] == "t", columns[1] == "on", len(body) == 0
}

// fit checks that the server is what attrs ask for. It takes its leave if not.
func (l *login) fit(attrs configs.SessionAttrs) *LoginError {
	if attrs == configs.SessionAny {
		return nil
	}
	standby, knowsStandby := l.reported(paramStandby)
	readOnly, knowsReadOnly := l.reported(paramReadOnly)
	if !knowsStandby || !knowsReadOnly {
		var failed *LoginError
		if standby, readOnly, failed = l.askRole(attrs); failed != nil {
			return failed
		}
	}
	if attrs.Admit(standby, readOnly) {
		l.session.Standby = standby
		return nil
	}
	_, _ = l.conn.Write([]byte{wire.Terminate, 0, 0, 0, 4}) // the close follows in any case
	return &LoginError{Kind: Unfit, Reason: UnfitReason(attrs)}
}

// UnfitReason is why a server is left that is not what attrs ask for.
func UnfitReason(attrs configs.SessionAttrs) string {
	if attrs == configs.SessionPreferStandby {
		attrs = configs.SessionStandby
	}
	return "server is not " + attrs.String()
}

// reported is whether the server reported the parameter, and as on.
func (l *login) reported(name string) (on, known bool) {
	for _, p := range l.session.Params {
		if p.Name == name {
			on, known = p.Value == "on", true
		}
	}
	return on, known
}

// askRole asks the server by RoleQuery.
func (l *login) askRole(attrs configs.SessionAttrs) (standby, readOnly bool, failed *LoginError) {
	if _, err := l.conn.Write(wire.AppendQuery(nil, RoleQuery(attrs))); err != nil {
		return false, false, crashed(err)
	}
	known := false
	for {
		typ, body, err := l.next()
		if err != nil {
			return false, false, err
		}
		switch typ {
		case wire.DataRow:
			standby, readOnly, known = ParseRole(body)
		case wire.ErrorResponse:
			return false, false, refused(wire.ParseFields(body))
		case wire.ParameterStatus:
			if err := l.parameter(body); err != nil {
				return false, false, err
			}
		case wire.ReadyForQuery:
			if !known {
				return false, false, &LoginError{Kind: Protocol, Reason: reasonUnknown, Detail: "the server does not say what it is"}
			}
			return standby, readOnly, nil
		}
	}
}
