package pool

import "github.com/pgweir/pgweir/wire"

// reasonConfig is what a client is told of mistakes that are none of its
// business.
const reasonConfig = "bouncer config error"

// What ends those who wait, in PgBouncer's words.
const (
	reasonQueryWait      = "query_wait_timeout"
	reasonQueryTimeout   = "query_timeout"
	reasonServerDown     = "client_login_timeout (server down)"
	reasonStopping       = "pooler is shutting down"
	reasonServerStopping = "server shutting down"
)

// forStranger is what of f somebody hears who has not proved who it is: that
// time is over, or the pooler. What else keeps a server from being had names
// auth_user, servers or limits, and is in the log.
func forStranger(f wire.Fields) wire.Fields {
	switch f.Message {
	case reasonQueryWait, reasonQueryTimeout, reasonServerDown, reasonStopping, reasonServerStopping, goodbye.Message:
		return wire.Fields{Severity: f.Severity, Code: f.Code, Message: f.Message}
	}
	return wire.Fields{Severity: "FATAL", Code: codeProtocol, Message: reasonConfig}
}
