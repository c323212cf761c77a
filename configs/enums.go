package configs

import "strings"

// PoolMode says when a server goes back to its pool (pool_mode).
type PoolMode uint8

const (
	// PoolInherit, the zero value, stands in a Database or a User that sets no
	// mode of its own. It is never the outcome of ForPool.
	PoolInherit     PoolMode = iota
	PoolSession              // when the client disconnects
	PoolTransaction          // at the end of each transaction
	PoolStatement            // after each statement; transaction blocks are refused
)

var poolModes = names{PoolSession: "session", PoolTransaction: "transaction", PoolStatement: "statement"}

// String returns the name in the configuration, "" for PoolInherit.
func (m PoolMode) String() string { return poolModes.name(uint8(m)) }

func (m *PoolMode) parse(s string) bool { return poolModes.parse(s, (*uint8)(m)) }
func (m *PoolMode) names() names        { return poolModes }

// AuthType says how clients prove who they are (auth_type).
type AuthType uint8

const (
	AuthAny    AuthType = iota + 1 // any name; the database entry must force a user
	AuthTrust                      // any client that names a known user
	AuthPlain                      // password in clear text
	AuthMD5                        // md5, or SCRAM for a user whose secret is a SCRAM one
	AuthCert                       // TLS client certificate
	AuthHBA                        // the method that auth_hba_file says
	AuthLDAP                       // password checked by an LDAP server
	AuthPAM                        // password checked by PAM
	AuthSCRAM                      // scram-sha-256
	AuthPeer                       // the system's user at the other end of a unix socket; only in an HBA file
	AuthReject                     // nobody; only in an HBA file

	AuthPassthrough // password that the database itself is asked about
)

var authTypes = names{
	AuthAny: "any", AuthTrust: "trust", AuthPlain: "plain", AuthMD5: "md5", AuthCert: "cert",
	AuthHBA: "hba", AuthLDAP: "ldap", AuthPAM: "pam", AuthSCRAM: "scram-sha-256",
	AuthPassthrough: "passthrough",
}

// String returns the name in the configuration.
func (t AuthType) String() string { return authTypes.name(uint8(t)) }

// Listed reports whether users must be known, from auth_file or by auth_query.
// Where they need not, somebody else knows them, or the database entry forces
// one.
func (t AuthType) Listed() bool {
	switch t {
	case AuthAny, AuthLDAP, AuthPAM, AuthPassthrough:
		return false
	}
	return true
}

func (t *AuthType) parse(s string) bool { return authTypes.parse(s, (*uint8)(t)) }
func (t *AuthType) names() names        { return authTypes }

// SSLMode says whether TLS is used and what is verified (client_tls_sslmode,
// server_tls_sslmode), with libpq's names.
type SSLMode uint8

const (
	SSLDisable SSLMode = iota + 1
	SSLAllow           // as SSLPrefer
	SSLPrefer          // TLS if the other side wants it, nothing verified
	SSLRequire         // TLS or nothing, nothing verified
	SSLVerifyCA
	SSLVerifyFull
)

var sslModes = names{
	SSLDisable: "disable", SSLAllow: "allow", SSLPrefer: "prefer", SSLRequire: "require",
	SSLVerifyCA: "verify-ca", SSLVerifyFull: "verify-full",
}

// String returns the name in the configuration.
func (m SSLMode) String() string { return sslModes.name(uint8(m)) }

// Required reports whether a connection without TLS must be refused.
func (m SSLMode) Required() bool { return m >= SSLRequire }

func (m *SSLMode) parse(s string) bool { return sslModes.parse(s, (*uint8)(m)) }
func (m *SSLMode) names() names        { return sslModes }

// LoadBalanceHosts says which host of a list a new server connection tries
// first (load_balance_hosts).
type LoadBalanceHosts uint8

const (
	HostsRoundRobin LoadBalanceHosts = iota // the next one for each connection
	HostsDisable                            // the same one until it fails
)

var hostOrders = names{HostsRoundRobin: "round-robin", HostsDisable: "disable"}

// String returns the name in the configuration.
func (l LoadBalanceHosts) String() string { return hostOrders.name(uint8(l)) }

func (l *LoadBalanceHosts) parse(s string) bool { return hostOrders.parse(s, (*uint8)(l)) }
func (l *LoadBalanceHosts) names() names        { return hostOrders }

// enum is a pointer to a typed enumeration.
type enum interface {
	parse(s string) bool // ignores case; changes nothing when it reports false
	names() names
	String() string
}

// SessionAttrs says which servers of a host list will do
// (target_session_attrs), with libpq's names.
type SessionAttrs uint8

const (
	SessionAny           SessionAttrs = iota // every server
	SessionReadWrite                         // no standby, and transactions may write by default
	SessionReadOnly                          // the others
	SessionPrimary                           // no standby
	SessionStandby                           // a hot standby
	SessionPreferStandby                     // a hot standby, or else any
)

var sessionAttrs = names{
	SessionAny: "any", SessionReadWrite: "read-write", SessionReadOnly: "read-only",
	SessionPrimary: "primary", SessionStandby: "standby", SessionPreferStandby: "prefer-standby",
}

// String returns the name in the configuration.
func (a SessionAttrs) String() string { return sessionAttrs.name(uint8(a)) }

func (a *SessionAttrs) parse(s string) bool { return sessionAttrs.parse(s, (*uint8)(a)) }
func (a *SessionAttrs) names() names        { return sessionAttrs }

// Admit reports whether a server will do that is a standby or not, and whose
// transactions are read-only by default or not. If none is found that
// SessionPreferStandby admits, others will do.
func (a SessionAttrs) Admit(standby, readOnly bool) bool {
	switch a {
	case SessionReadWrite:
		return !standby && !readOnly
	case SessionReadOnly:
		return standby || readOnly
	case SessionPrimary:
		return !standby
	case SessionStandby, SessionPreferStandby:
		return standby
	}
	return true
}

// names are the names of an enumeration by value; "" is a value without one.
type names []string

func (n names) name(v uint8) string {
	if int(v) < len(n) {
		return n[v]
	}
	return ""
}

func (n names) parse(s string, v *uint8) bool {
	for i, name := range n {
		if name != "" && strings.EqualFold(name, s) {
			*v = uint8(i)
			return true
		}
	}
	return false
}

// String lists the names: "a, b or c".
func (n names) String() string {
	var list []string
	for _, name := range n {
		if name != "" {
			list = append(list, name)
		}
	}
	last := len(list) - 1
	return strings.Join(list[:last], ", ") + " or " + list[last]
}

// SigtermMode says what the first SIGTERM does (sigterm_mode).
type SigtermMode uint8

const (
	SigtermWaitForClients SigtermMode = iota + 1 // SHUTDOWN WAIT_FOR_CLIENTS, as in PgBouncer
	SigtermWaitForServers                        // SHUTDOWN WAIT_FOR_SERVERS
	SigtermDrain                                 // SHUTDOWN DRAIN
)

var sigtermModes = names{
	SigtermWaitForClients: "wait_for_clients", SigtermWaitForServers: "wait_for_servers", SigtermDrain: "drain",
}

// String returns the name in the configuration.
func (m SigtermMode) String() string { return sigtermModes.name(uint8(m)) }

func (m *SigtermMode) parse(s string) bool { return sigtermModes.parse(s, (*uint8)(m)) }
func (m *SigtermMode) names() names        { return sigtermModes }
