package auth

import "github.com/pgweir/pgweir/wire"

// checkedExchange asks for the password in clear, for somebody else to check.
type checkedExchange struct {
	outcome
	check   func(password string) bool
	refusal string

	// Set while Busy.
	password Secret
	right    bool
}

// NewChecked begins the login of a client whose password only somebody else
// can check, an LDAP server say. check is called by Work, so it may block. A
// login that it does not let in is rejected with reason.
func NewChecked(check func(password string) bool, reason string) Exchange {
	return &checkedExchange{check: check, refusal: reason}
}

func (e *checkedExchange) Start(dst []byte) []byte {
	dst, at := beginAuth(dst, authCleartext)
	return wire.End(dst, at)
}

func (e *checkedExchange) Step(dst, body []byte) ([]byte, Verdict) {
	switch {
	case e.over:
		return dst, e.reject("")
	case e.password.kind == KindNone:
		password, reason := readPassword(body)
		if reason != "" {
			return dst, e.reject(reason)
		}
		e.password = Plain(string(password))
		return dst, Busy
	case !e.right:
		return dst, e.reject(e.refusal)
	}
	return dst, e.accept(Result{Password: e.password})
}

func (e *checkedExchange) Work() { e.right = e.check(e.password.text) }
