package dial

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/wire"
	"github.com/pgweir/pgweir/wire/secure"
)

// Kind says what went wrong with a login, as far as the pool has to know.
type Kind uint8

// The kinds of failures. Only Refused and BadSecret concern the clients that
// wait; for the rest they go on waiting.
const (
	ConnectFailed Kind = iota + 1 // nobody listens there, or no way there
	DNSFailed                     // the name has no address
	Timeout                       // the time for connecting was over
	Canceled                      // the caller's context was cancelled
	ServerCrashed                 // the connection broke during the login
	Refused                       // Postgres sent an ErrorResponse
	BadSecret                     // our secret can't answer the server, or the server doesn't know it
	Protocol                      // the server sent what it must not
	TLSFailed                     // the server has no TLS, or not as it is wanted
	Unfit                         // the server is not what Attrs ask for
	CommandFailed                 // the password command has not told a password
)

func (k Kind) String() string {
	switch k {
	case ConnectFailed:
		return "connect failed"
	case DNSFailed:
		return "DNS failed"
	case Timeout:
		return "timeout"
	case Canceled:
		return "canceled"
	case ServerCrashed:
		return "server crashed"
	case Refused:
		return "refused"
	case BadSecret:
		return "bad secret"
	case Protocol:
		return "protocol"
	case TLSFailed:
		return "TLS failed"
	case Unfit:
		return "unfit"
	case CommandFailed:
		return "command failed"
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// PgBouncer's reasons for closing a server connection.
const (
	reasonConnect  = "connect failed"
	reasonDNS      = "server DNS lookup failed"
	reasonTimeout  = "connect timeout"
	reasonCanceled = "server connection closed"
	reasonCrashed  = "server conn crashed?"
	reasonUnknown  = "unknown pkt from server"
	reasonHeader   = "bad pkt header"
	reasonParam    = "broken ParameterStatus packet"
	reasonKey      = "bad cancel key"
	reasonNoSSL    = "server refused SSL"
	reasonSSL      = "bad sslreq answer"
	reasonEarly    = "received unencrypted data after SSL response"
	reasonTLS      = "TLS startup failed"
	reasonCommand  = "password_command failed" // pgweir's own
)

// The SQLSTATEs of a server that does not take the secret, or the user.
const (
	invalidAuthorization = "28000"
	invalidPassword      = "28P01"
)

// The SQLSTATEs of a server that starts up, shuts down, or recovers. The first
// two meet a login that has begun before.
const (
	adminShutdown    = "57P01"
	crashShutdown    = "57P02"
	cannotConnectNow = "57P03"

	tooManyConnections = "53300"
)

// LoginError is why Connect failed. It holds no secret.
type LoginError struct {
	Kind    Kind
	Reason  string      // PgBouncer's words, for "closing because: ..." and the cached error
	Detail  string      // more for the log, may be empty
	Host    string      // the host it happened with
	Server  wire.Fields // Refused: what Postgres said
	Granted bool        // the server had taken the secret before
}

// Error is the text for the log: PgBouncer's, then the detail.
func (e *LoginError) Error() string {
	if e.Kind == Refused {
		return "server login failed: " + e.Server.Severity + " " + e.Server.Message
	}
	if e.Detail == "" {
		return e.Reason
	}
	return e.Reason + ": " + e.Detail
}

// AsLoginError returns the LoginError in err's tree, nil if there is none.
func AsLoginError(err error) *LoginError {
	var e *LoginError
	errors.As(err, &e)
	return e
}

// Answered reports whether the server was there and would not have us: Postgres
// refused, or the secret is of no use. Then clients that wait for a server, and
// have none connected to hope for, are told Fields. For all other failures they
// go on waiting, and also while StartingUp.
func (e *LoginError) Answered() bool { return e.Kind == Refused || e.Kind == BadSecret }

// WrongSecret reports whether another secret might have helped: the server does
// not let in the user with this one, or asks for it in a way that it can't
// answer.
func (e *LoginError) WrongSecret() bool {
	switch e.Kind {
	case BadSecret:
		return true
	case Refused:
		return e.Server.Code == invalidAuthorization || e.Server.Code == invalidPassword
	}
	return false
}

// StartingUp reports whether Postgres said that it can't be connected to right
// now (SQLSTATE 57P01 to 57P03): it starts up, shuts down, or recovers.
func (e *LoginError) StartingUp() bool {
	if e.Kind != Refused {
		return false
	}
	switch e.Server.Code {
	case adminShutdown, crashShutdown, cannotConnectNow:
		return true
	}
	return false
}

// Full reports whether Postgres said that it has too many connections, of the
// server, a role or a database (SQLSTATE 53300). Others may leave, so clients
// go on waiting.
func (e *LoginError) Full() bool { return e.Kind == Refused && e.Server.Code == tooManyConnections }

// Fields is the error for clients: SQLSTATE and message of Postgres if it
// Refused, else PgBouncer's 08P01 and Reason.
func (e *LoginError) Fields() wire.Fields {
	if e.Kind == Refused {
		return wire.Fields{Severity: "FATAL", Code: e.Server.Code, Message: e.Server.Message}
	}
	return wire.Fields{Severity: "FATAL", Code: "08P01", Message: e.Reason}
}

// tryNext reports whether another host may do better.
func (e *LoginError) tryNext() bool {
	switch e.Kind {
	case ConnectFailed, DNSFailed, Timeout, ServerCrashed, TLSFailed, Unfit:
		return true
	case Refused:
		return e.StartingUp()
	case Canceled, BadSecret, Protocol, CommandFailed:
	}
	return false
}

// because puts the end of ctx in the place of what broke when it ended.
func (e *LoginError) because(ctx context.Context) *LoginError {
	if e.Kind == ServerCrashed || e.Kind == ConnectFailed || e.Kind == DNSFailed || e.Kind == TLSFailed {
		if over := ended(ctx); over != nil {
			return over
		}
	}
	return e
}

// ended is the end of ctx, nil if it has not ended.
func ended(ctx context.Context) *LoginError {
	switch err := ctx.Err(); {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return &LoginError{Kind: Timeout, Reason: reasonTimeout}
	}
	return &LoginError{Kind: Canceled, Reason: reasonCanceled}
}

// connectError is a failure of dialing.
func connectError(ctx context.Context, err error) *LoginError {
	e := &LoginError{Kind: ConnectFailed, Reason: reasonConnect, Detail: err.Error()}
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		e.Kind, e.Reason = DNSFailed, reasonDNS
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		// The dialer has the context's deadline too, and may be first.
		e.Kind, e.Reason = Timeout, reasonTimeout
	}
	return e.because(ctx)
}

// crashed is a failure of a connection that was there. In TLS 1.3 a server that
// does not like our certificate says so only now.
func crashed(err error) *LoginError {
	if secure.IsAlert(err) {
		return &LoginError{Kind: TLSFailed, Reason: reasonTLS, Detail: err.Error()}
	}
	return &LoginError{Kind: ServerCrashed, Reason: reasonCrashed, Detail: err.Error()}
}

// refused is an ErrorResponse.
func refused(f wire.Fields) *LoginError {
	if f.Code == "" || f.Message == "" {
		return &LoginError{Kind: Protocol, Reason: reasonUnknown, Detail: "ErrorResponse without code or message"}
	}
	return &LoginError{Kind: Refused, Reason: f.Message, Server: f}
}

// authError is a failure of a ServerExchange, whose error begins with what it
// wraps.
func authError(err error) *LoginError {
	kind, reason := Protocol, auth.ErrAuthRequest
	for _, known := range []error{auth.ErrWrongPasswordType, auth.ErrNoMechanism, auth.ErrServerSignature} {
		if errors.Is(err, known) {
			kind, reason = BadSecret, known
		}
	}
	detail := strings.TrimPrefix(err.Error(), reason.Error())
	return &LoginError{Kind: kind, Reason: reason.Error(), Detail: strings.TrimPrefix(detail, ": ")}
}
