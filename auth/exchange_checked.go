package auth

import "github.com/pgweir/pgweir/wire"

// Judged is the login of a client whose password somebody else judges. It asks
// for the password in clear. Its first Step answers Busy; Judge comes before
// the next one.
type Judged struct {
	outcome
	refusal string

	// Set while Busy.
	password Secret
	right    bool
}

// NewJudged begins a login whose password is not judged here. One that is not
// let in is rejected with reason.
func NewJudged(reason string) *Judged { return &Judged{refusal: reason} }

// Password is what the client has sent, as KindPlain, once Step has answered
// Busy.
func (e *Judged) Password() Secret { return e.password }

// Judge says whether the password is right. Without it, it is not.
func (e *Judged) Judge(right bool) { e.right = right }

// Start implements Exchange.
func (e *Judged) Start(dst []byte) []byte {
	dst, at := beginAuth(dst, authCleartext)
	return wire.End(dst, at)
}

// Step implements Exchange.
func (e *Judged) Step(dst, body []byte) ([]byte, Verdict) {
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

// checkedExchange is a Judged that Work judges.
type checkedExchange struct {
	Judged
	check func(password string) bool
}

// NewChecked begins the login of a client whose password only somebody else
// can check, an LDAP server say. check is called by Work, so it may block. A
// login that it does not let in is rejected with reason.
func NewChecked(check func(password string) bool, reason string) Exchange {
	return &checkedExchange{Judged{refusal: reason}, check}
}

func (e *checkedExchange) Work() { e.Judge(e.check(e.password.text)) }
