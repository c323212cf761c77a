package configs

import (
	"slices"
	"strings"
	"time"
)

// Main holds the settings of section [pgbouncer], one field for each key in the
// order of [Table], which documents them. In a duration 0 means what its
// setting says it means, mostly "off"; none is negative or longer than Never.
// The slices must not be changed.
type Main struct {
	AdminUsers               []string
	ApplicationNameAddHost   bool
	AuthDBName               string
	AuthFile                 string
	AuthHBAFile              string
	AuthIdentFile            string
	AuthLDAPOptions          string
	AuthQuery                string
	AuthType                 AuthType
	AuthUser                 string
	AutoDBIdleTimeout        time.Duration
	CancelWaitTimeout        time.Duration
	ClientIdleTimeout        time.Duration
	ClientLoginTimeout       time.Duration
	ClientTLS13Ciphers       string
	ClientTLSCAFile          string
	ClientTLSCertFile        string
	ClientTLSCiphers         string
	ClientTLSDHEParams       string
	ClientTLSECDHCurve       string
	ClientTLSKeyFile         string
	ClientTLSProtocols       string
	ClientTLSSSLMode         SSLMode
	ConfFile                 string
	DefaultPoolSize          int
	DisablePQExec            bool
	DNSMaxTTL                time.Duration
	DNSNXDomainTTL           time.Duration
	DNSZoneCheckPeriod       time.Duration
	IdleTransactionTimeout   time.Duration
	IgnoreStartupParameters  []string
	JobName                  string
	ListenAddr               []string
	ListenBacklog            int
	ListenPort               int
	LogConnections           bool
	LogDisconnections        bool
	LogPoolerErrors          bool
	LogStats                 bool
	LogFile                  string
	LoginNotifyMessage       string
	MaxClientConn            int
	MaxDBClientConnections   int
	MaxDBConnections         int
	MaxPacketSize            uint32 // bytes, the type byte included
	MaxPreparedStatements    int
	MaxUserClientConnections int
	MaxUserConnections       int
	MinPoolSize              int
	PeerID                   int
	PidFile                  string
	PktBuf                   int // bytes
	PoolMode                 PoolMode
	PoolIdleTimeout          time.Duration
	QueryTimeout             time.Duration
	QueryWaitNotify          int // seconds
	QueryWaitTimeout         time.Duration
	ReservePoolSize          int
	ReservePoolTimeout       time.Duration
	ResolvConf               string
	SBufLoopCnt              int
	ScramIterations          int
	ServerCheckDelay         time.Duration
	ServerCheckQuery         string
	ServerConnectTimeout     time.Duration
	ServerFastClose          bool
	ServerIdleTimeout        time.Duration
	ServerLifetime           time.Duration
	ServerLoginRetry         time.Duration
	ServerResetQuery         string
	ServerResetQueryAlways   bool
	ServerRoundRobin         bool
	ServerTLS13Ciphers       string
	ServerTLSCAFile          string
	ServerTLSCertFile        string
	ServerTLSCiphers         string
	ServerTLSKeyFile         string
	ServerTLSProtocols       string
	ServerTLSSSLMode         SSLMode
	SOReusePort              bool
	StatsPeriod              int // seconds
	StatsUsers               []string
	SuspendTimeout           time.Duration
	Syslog                   bool
	SyslogFacility           string
	SyslogIdent              string
	TCPDeferAccept           bool
	TCPKeepalive             bool
	TCPKeepCnt               int
	TCPKeepIdle              int // seconds
	TCPKeepIntvl             int // seconds
	TCPSocketBuffer          int // bytes
	TCPUserTimeout           int // milliseconds
	TrackExtraParameters     []string
	TransactionTimeout       time.Duration
	UnixSocketDir            string
	UnixSocketGroup          string
	UnixSocketMode           int
	User                     string
	Verbose                  int

	AuthPassthroughCache time.Duration
	AuthQueryCache       time.Duration
	ClientBuffer         int // bytes
	HTTPListen           string
	Loops                int
	MaxLoginConcurrency  int

	MaxClientPreparedStatements int
	Plan                        string
	PlanProcesses               int

	SigtermGrace time.Duration
	SigtermMode  SigtermMode
}

// Never is the longest duration a setting can have, about a hundred years:
// longer ones are cut to it, so that adding one to a time can't overflow.
const Never = 100 * 365 * 24 * time.Hour

// NoCheckQuery, as server_check_query, asks for a query without any statement.
// An empty server_check_query asks for no check at all.
const NoCheckQuery = "<empty>"

// alwaysTracked are the parameters that Postgres reports and a client may set,
// which PgBouncer 1.26 tracks for each client without being told to.
var alwaysTracked = []string{
	"application_name", "client_encoding", "DateStyle", "default_transaction_read_only", "IntervalStyle",
	"scram_iterations", "search_path", "session_authorization", "standard_conforming_strings", "TimeZone",
}

// TrackedParameters returns the names of the parameters that are kept for each
// client: PgBouncer 1.26's, then those that track_extra_parameters adds. Names
// match without regard to case, and none is listed twice.
func (m *Main) TrackedParameters() []string {
	tracked := slices.Clone(alwaysTracked)
	for _, name := range m.TrackExtraParameters {
		if !slices.ContainsFunc(tracked, func(t string) bool { return strings.EqualFold(t, name) }) {
			tracked = append(tracked, name)
		}
	}
	return tracked
}

// EventLoops returns how many event loops to run when procs is
// runtime.GOMAXPROCS(0): what the setting loops says, or else one less than
// procs and at least one, which leaves a processor to what may block.
func (m *Main) EventLoops(procs int) int {
	if m.Loops > 0 {
		return m.Loops
	}
	return max(1, procs-1)
}
