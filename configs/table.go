package configs

import "runtime"

// Table describes every key of section [pgbouncer], in the order of SHOW
// CONFIG: PgBouncer's own, then pgweir's. It must not be changed.
var Table = []Setting{
	{
		Name: "admin_users", Default: "",
		Meaning: "Users with all rights on the console, separated by commas.",
		field:   func(m *Main) any { return &m.AdminUsers },
	},
	{
		Name: "application_name_add_host", Default: "0",
		Meaning: "Adds the client's address and port to its application_name at login.",
		field:   func(m *Main) any { return &m.ApplicationNameAddHost },
	},
	{
		Name: "auth_dbname", Null: true,
		Meaning: "Database entry in which auth_query runs; not set: the one that the client asks for.",
		field:   func(m *Main) any { return &m.AuthDBName },
	},
	{
		Name: "auth_file", Null: true,
		Meaning: "Path of the file with user names and secrets; read at start and on RELOAD.",
		field:   func(m *Main) any { return &m.AuthFile },
	},
	{
		Name: "auth_hba_file", Default: "",
		Meaning: "Path of the HBA file, used with auth_type hba.",
		field:   func(m *Main) any { return &m.AuthHBAFile },
	},
	{
		Name: "auth_ident_file", Null: true,
		Meaning: "Path of the user name maps that the HBA file refers to.",
		field:   func(m *Main) any { return &m.AuthIdentFile },
	},
	{
		Name: "auth_ldap_options", Null: true,
		Meaning: "LDAP servers and how to ask them, required with auth_type ldap.",
		field:   func(m *Main) any { return &m.AuthLDAPOptions },
	},
	{
		Name: "auth_query", Default: defaultAuthQuery,
		Meaning: "Query that looks up the secret of a user who is not in auth_file; $1 is the name, the result's columns are name and secret.",
		field:   func(m *Main) any { return &m.AuthQuery },
	},
	{
		Name: "auth_type", Default: "md5",
		Meaning: "How clients prove who they are.",
		field:   func(m *Main) any { return &m.AuthType },
	},
	{
		Name: "auth_user", Null: true,
		Meaning: "User that runs auth_query; not set: users who are not in auth_file are not looked up.",
		field:   func(m *Main) any { return &m.AuthUser },
	},
	{
		Name: "autodb_idle_timeout", Default: "3600",
		Meaning: "An entry made from the * template is dropped, with its statistics, after so long without use; 0: never.",
		field:   func(m *Main) any { return &m.AutoDBIdleTimeout },
	},
	{
		Name: "cancel_wait_timeout", Default: "10",
		Meaning: "How long a cancel request may wait for a connection to the server; 0: without limit.",
		field:   func(m *Main) any { return &m.CancelWaitTimeout },
	},
	{
		Name: "client_idle_timeout", Default: "0",
		Meaning: "A client that has no server and sent nothing for so long is disconnected; 0: never.",
		field:   func(m *Main) any { return &m.ClientIdleTimeout },
	},
	{
		Name: "client_login_timeout", Default: "60",
		Meaning: "How long a login may take, waiting for the pool's first server included; 0: without limit.",
		field:   func(m *Main) any { return &m.ClientLoginTimeout },
	},
	{
		Name: "client_tls13_ciphers", Null: true,
		Meaning: "Cipher suites of TLS 1.3, separated by colons; empty: all. A list without one of the three common suites leaves TLS 1.3 out.",
		field:   func(m *Main) any { return &m.ClientTLS13Ciphers },
	},
	{
		Name: "client_tls_ca_file", Default: "",
		Meaning: "Certificates that sign clients' certificates; empty: the system's.",
		field:   func(m *Main) any { return &m.ClientTLSCAFile },
	},
	{
		Name: "client_tls_cert_file", Default: "",
		Meaning: "Certificate shown to clients; without one, and where only this machine can connect, one that nobody can verify is made in memory.",
		field:   func(m *Main) any { return &m.ClientTLSCertFile },
	},
	{
		Name: "client_tls_ciphers", Default: "default",
		Meaning: "Cipher suites up to TLS 1.2, in OpenSSL's notation; default, secure, normal and fast are the built-in list.",
		field:   func(m *Main) any { return &m.ClientTLSCiphers },
	},
	{
		Name: "client_tls_dheparams", Default: "auto",
		Meaning: "Key exchange by DHE: auto or none. There is none in any case.",
		field:   func(m *Main) any { return &m.ClientTLSDHEParams },
	},
	{
		Name: "client_tls_ecdhcurve", Default: "auto",
		Meaning: "Curve for key exchange by ECDHE: auto, or its name.",
		field:   func(m *Main) any { return &m.ClientTLSECDHCurve },
	},
	{
		Name: "client_tls_key_file", Default: "",
		Meaning: "Private key of client_tls_cert_file.",
		field:   func(m *Main) any { return &m.ClientTLSKeyFile },
	},
	{
		Name: "client_tls_protocols", Default: "secure",
		Meaning: "TLS versions, separated by commas: tlsv1.0 to tlsv1.3, all, or secure, which is 1.2 and 1.3; ! takes one out.",
		field:   func(m *Main) any { return &m.ClientTLSProtocols },
	},
	{
		Name: "client_tls_sslmode", Default: "disable",
		Meaning: "Whether clients may or must use TLS, and how far their certificates are verified.",
		field:   func(m *Main) any { return &m.ClientTLSSSLMode },
	},
	{
		Name: "conffile", Null: true,
		Meaning: "Path of this file; SET makes the next RELOAD read another one.",
		field:   func(m *Main) any { return &m.ConfFile },
	},
	{
		Name: "default_pool_size", Default: "20",
		Meaning: "Server connections of each pool, which is a pair of database and user; 0: without limit.",
		field:   func(m *Main) any { return &m.DefaultPoolSize },
	},
	{
		Name: "disable_pqexec", Default: "0", Restart: true,
		Meaning: "Refuses the simple query protocol, and with it several statements in one query.",
		field:   func(m *Main) any { return &m.DisablePQExec },
	},
	{
		Name: "dns_max_ttl", Default: "15",
		Meaning: "How long the answer to a name lookup is used.",
		field:   func(m *Main) any { return &m.DNSMaxTTL },
	},
	{
		Name: "dns_nxdomain_ttl", Default: "15",
		Meaning: "How long a failed name lookup is remembered.",
		field:   func(m *Main) any { return &m.DNSNXDomainTTL },
	},
	{
		Name: "dns_zone_check_period", Default: "0",
		Meaning: "How often zones' serial numbers are compared to notice changed names; 0: never.",
		field:   func(m *Main) any { return &m.DNSZoneCheckPeriod },
	},
	{
		Name: "idle_transaction_timeout", Default: "0",
		Meaning: "A client idle in a transaction for so long is disconnected, its server closed; 0: never.",
		field:   func(m *Main) any { return &m.IdleTransactionTimeout },
	},
	{
		Name: "ignore_startup_parameters", Default: "",
		Meaning: "Startup parameters that are dropped instead of set on the servers, separated by commas, in exact case; options drops what is not tracked inside options.",
		field:   func(m *Main) any { return &m.IgnoreStartupParameters },
	},
	{
		Name: "job_name", Default: "pgbouncer", Restart: true,
		Meaning: "Name of the Windows service; accepted and shown.",
		field:   func(m *Main) any { return &m.JobName },
	},
	{
		Name: "listen_addr", Default: "", Restart: true,
		Meaning: "Addresses to listen on, separated by commas; * is every address, empty no TCP at all.",
		field:   func(m *Main) any { return &m.ListenAddr },
	},
	{
		Name: "listen_backlog", Default: "128", Restart: true,
		Meaning: "How many connections the kernel may hold that aren't accepted yet, as in listen(2).",
		field:   func(m *Main) any { return &m.ListenBacklog },
	},
	{
		Name: "listen_port", Default: "6432", Restart: true, max: 65535,
		Meaning: "TCP port, and the number in the name of the unix socket.",
		field:   func(m *Main) any { return &m.ListenPort },
	},
	{
		Name: "log_connections", Default: "1",
		Meaning: "Logs logins and new server connections.",
		field:   func(m *Main) any { return &m.LogConnections },
	},
	{
		Name: "log_disconnections", Default: "1",
		Meaning: "Logs disconnects with their reasons.",
		field:   func(m *Main) any { return &m.LogDisconnections },
	},
	{
		Name: "log_pooler_errors", Default: "1",
		Meaning: "Logs the errors that the pooler sends to clients.",
		field:   func(m *Main) any { return &m.LogPoolerErrors },
	},
	{
		Name: "log_stats", Default: "1",
		Meaning: "Logs a line of statistics every stats_period.",
		field:   func(m *Main) any { return &m.LogStats },
	},
	{
		Name: "logfile", Default: "",
		Meaning: "Path of the log file, opened again on RELOAD; stderr is written as well unless -q or -d is given.",
		field:   func(m *Main) any { return &m.LogFile },
	},
	{
		Name: "login_notify_message", Default: "",
		Meaning: "Text of a notice that clients get at login; empty: none.",
		field:   func(m *Main) any { return &m.LoginNotifyMessage },
	},
	{
		Name: "max_client_conn", Default: "100",
		Meaning: "Client connections altogether, but for those to the console.",
		field:   func(m *Main) any { return &m.MaxClientConn },
	},
	{
		Name: "max_db_client_connections", Default: "0",
		Meaning: "Client connections to each database entry; 0: without limit.",
		field:   func(m *Main) any { return &m.MaxDBClientConnections },
	},
	{
		Name: "max_db_connections", Default: "0",
		Meaning: "Server connections of each database entry over all users; 0: without limit.",
		field:   func(m *Main) any { return &m.MaxDBConnections },
	},
	{
		Name: "max_packet_size", Default: "2147483647",
		Meaning: "Bytes of the longest message; a longer one ends its connection.",
		field:   func(m *Main) any { return &m.MaxPacketSize },
	},
	{
		Name: "max_prepared_statements", Default: "200",
		Meaning: "Prepared statements kept on each server connection in transaction and statement mode; 0: not tracked.",
		field:   func(m *Main) any { return &m.MaxPreparedStatements },
	},
	{
		Name: "max_user_client_connections", Default: "0",
		Meaning: "Client connections of each user; 0: without limit.",
		field:   func(m *Main) any { return &m.MaxUserClientConnections },
	},
	{
		Name: "max_user_connections", Default: "0",
		Meaning: "Server connections of each server-side user over all databases; 0: without limit.",
		field:   func(m *Main) any { return &m.MaxUserConnections },
	},
	{
		Name: "min_pool_size", Default: "0",
		Meaning: "Server connections that each pool in use keeps open.",
		field:   func(m *Main) any { return &m.MinPoolSize },
	},
	{
		Name: "peer_id", Default: "0", max: 65535,
		Meaning: "Number of this process among its peers; 0: it has none.",
		field:   func(m *Main) any { return &m.PeerID },
	},
	{
		Name: "pidfile", Default: "", Restart: true,
		Meaning: "Path of the file with the process id; required by -d.",
		field:   func(m *Main) any { return &m.PidFile },
	},
	{
		Name: "pkt_buf", Default: "4096", Restart: true,
		Meaning: "Bytes of a buffer for each active socket; accepted and shown, buffers are shared here.",
		field:   func(m *Main) any { return &m.PktBuf },
	},
	{
		Name: "pool_mode", Default: "session",
		Meaning: "When a server goes back to its pool.",
		field:   func(m *Main) any { return &m.PoolMode },
	},
	{
		Name: "pool_idle_timeout", Default: "0",
		Meaning: "A pool is dropped, with its statistics, after so long without clients and servers; 0: never.",
		field:   func(m *Main) any { return &m.PoolIdleTimeout },
	},
	{
		Name: "query_timeout", Default: "0",
		Meaning: "A query that runs for so long is ended with its connection; 0: never.",
		field:   func(m *Main) any { return &m.QueryTimeout },
	},
	{
		Name: "query_wait_notify", Default: "5",
		Meaning: "A client that waits for longer than so many whole seconds is told so by a notice; 0: never.",
		field:   func(m *Main) any { return &m.QueryWaitNotify },
	},
	{
		Name: "query_wait_timeout", Default: "120",
		Meaning: "How long a query may wait for a server; 0: without limit.",
		field:   func(m *Main) any { return &m.QueryWaitTimeout },
	},
	{
		Name: "reserve_pool_size", Default: "0",
		Meaning: "Further servers of a pool for clients that wait longer than reserve_pool_timeout; 0: none.",
		field:   func(m *Main) any { return &m.ReservePoolSize },
	},
	{
		Name: "reserve_pool_timeout", Default: "5",
		Meaning: "How long a client waits before the reserve is used; 0: the reserve is never used.",
		field:   func(m *Main) any { return &m.ReservePoolTimeout },
	},
	{
		Name: "resolv_conf", Default: "", Restart: true,
		Meaning: "Path of a resolv.conf instead of the system's.",
		field:   func(m *Main) any { return &m.ResolvConf },
	},
	{
		Name: "sbuf_loopcnt", Default: "5",
		Meaning: "Rounds of reading for one socket before the next one has its turn; accepted and shown, turns are bounded by bytes here.",
		field:   func(m *Main) any { return &m.SBufLoopCnt },
	},
	{
		Name: "scram_iterations", Default: "4096", min: 1,
		Meaning: "Iterations of SCRAM for users whose secret is stored as plain text.",
		field:   func(m *Main) any { return &m.ScramIterations },
	},
	{
		Name: "server_check_delay", Default: "30",
		Meaning: "A server unused for longer is checked before it is used again; 0: checked at each release.",
		field:   func(m *Main) any { return &m.ServerCheckDelay },
	},
	{
		Name: "server_check_query", Default: NoCheckQuery,
		Meaning: "The query of that check; <empty>: one without a statement; empty: no check.",
		field:   func(m *Main) any { return &m.ServerCheckQuery },
	},
	{
		Name: "server_connect_timeout", Default: "15",
		Meaning: "How long a connection to a server and its login may take; 0: without limit.",
		field:   func(m *Main) any { return &m.ServerConnectTimeout },
	},
	{
		Name: "server_fast_close", Default: "0",
		Meaning: "In session mode, servers that are to be closed are closed at the end of the transaction, and their clients with them.",
		field:   func(m *Main) any { return &m.ServerFastClose },
	},
	{
		Name: "server_idle_timeout", Default: "600",
		Meaning: "Servers unused for so long are closed; 0: never.",
		field:   func(m *Main) any { return &m.ServerIdleTimeout },
	},
	{
		Name: "server_lifetime", Default: "3600",
		Meaning: "Servers that are older are closed when unused; 0: each is used once.",
		field:   func(m *Main) any { return &m.ServerLifetime },
	},
	{
		Name: "server_login_retry", Default: "15",
		Meaning: "Time between a failed login to the server and the next attempt.",
		field:   func(m *Main) any { return &m.ServerLoginRetry },
	},
	{
		Name: "server_reset_query", Default: "DISCARD ALL",
		Meaning: "Query run on a server before its next client, in session mode; empty: none.",
		field:   func(m *Main) any { return &m.ServerResetQuery },
	},
	{
		Name: "server_reset_query_always", Default: "0",
		Meaning: "Runs server_reset_query in every mode.",
		field:   func(m *Main) any { return &m.ServerResetQueryAlways },
	},
	{
		Name: "server_round_robin", Default: "0",
		Meaning: "Uses the idle server that waited longest instead of the one released last.",
		field:   func(m *Main) any { return &m.ServerRoundRobin },
	},
	{
		Name: "server_tls13_ciphers", Null: true,
		Meaning: "Cipher suites of TLS 1.3, separated by colons; empty: all. A list without one of the three common suites leaves TLS 1.3 out.",
		field:   func(m *Main) any { return &m.ServerTLS13Ciphers },
	},
	{
		Name: "server_tls_ca_file", Default: "",
		Meaning: "Certificates that sign servers' certificates; empty: the system's.",
		field:   func(m *Main) any { return &m.ServerTLSCAFile },
	},
	{
		Name: "server_tls_cert_file", Default: "",
		Meaning: "Certificate shown to servers.",
		field:   func(m *Main) any { return &m.ServerTLSCertFile },
	},
	{
		Name: "server_tls_ciphers", Default: "default",
		Meaning: "Cipher suites up to TLS 1.2, in OpenSSL's notation; default, secure, normal and fast are the built-in list.",
		field:   func(m *Main) any { return &m.ServerTLSCiphers },
	},
	{
		Name: "server_tls_key_file", Default: "",
		Meaning: "Private key of server_tls_cert_file.",
		field:   func(m *Main) any { return &m.ServerTLSKeyFile },
	},
	{
		Name: "server_tls_protocols", Default: "secure",
		Meaning: "TLS versions, written as in client_tls_protocols.",
		field:   func(m *Main) any { return &m.ServerTLSProtocols },
	},
	{
		Name: "server_tls_sslmode", Default: "prefer",
		Meaning: "Whether servers are asked for TLS, and how far their certificates are verified; never on unix sockets.",
		field:   func(m *Main) any { return &m.ServerTLSSSLMode },
	},
	{
		Name: "so_reuseport", Default: "0", Restart: true,
		Meaning: "Lets several processes listen on the same address and port.",
		field:   func(m *Main) any { return &m.SOReusePort },
	},
	{
		Name: "stats_period", Default: "60", min: 1,
		Meaning: "Seconds between two lines of statistics, and the span of averages.",
		field:   func(m *Main) any { return &m.StatsPeriod },
	},
	{
		Name: "stats_users", Default: "",
		Meaning: "Users who may only look on the console, separated by commas.",
		field:   func(m *Main) any { return &m.StatsUsers },
	},
	{
		Name: "suspend_timeout", Default: "10",
		Meaning: "Limit of the SUSPEND command, which is gone as in PgBouncer 1.26; accepted and shown.",
		field:   func(m *Main) any { return &m.SuspendTimeout },
	},
	{
		Name: "syslog", Default: "0",
		Meaning: "Logs to syslog.",
		field:   func(m *Main) any { return &m.Syslog },
	},
	{
		Name: "syslog_facility", Default: "daemon",
		Meaning: "Facility of syslog: auth, authpriv, daemon, user, local0 to local7.",
		field:   func(m *Main) any { return &m.SyslogFacility },
	},
	{
		Name: "syslog_ident", Default: "pgbouncer",
		Meaning: "Name under which to log to syslog.",
		field:   func(m *Main) any { return &m.SyslogIdent },
	},
	{
		Name: "tcp_defer_accept", Default: deferAcceptDefault,
		Meaning: "Linux: a connection is accepted when its first bytes are there (TCP_DEFER_ACCEPT).",
		field:   func(m *Main) any { return &m.TCPDeferAccept },
	},
	{
		Name: "tcp_keepalive", Default: "1",
		Meaning: "Lets the kernel notice dead connections (SO_KEEPALIVE).",
		field:   func(m *Main) any { return &m.TCPKeepalive },
	},
	{
		Name: "tcp_keepcnt", Default: "0",
		Meaning: "Probes before a connection counts as dead (TCP_KEEPCNT); 0: as the system has it.",
		field:   func(m *Main) any { return &m.TCPKeepCnt },
	},
	{
		Name: "tcp_keepidle", Default: "0",
		Meaning: "Seconds of silence before the first probe (TCP_KEEPIDLE); 0: as the system has it.",
		field:   func(m *Main) any { return &m.TCPKeepIdle },
	},
	{
		Name: "tcp_keepintvl", Default: "0",
		Meaning: "Seconds between probes (TCP_KEEPINTVL); 0: as the system has it.",
		field:   func(m *Main) any { return &m.TCPKeepIntvl },
	},
	{
		Name: "tcp_socket_buffer", Default: "0",
		Meaning: "Bytes of the kernel's buffers in both directions (SO_SNDBUF, SO_RCVBUF); 0: as the system has it.",
		field:   func(m *Main) any { return &m.TCPSocketBuffer },
	},
	{
		Name: "tcp_user_timeout", Default: "0",
		Meaning: "Linux: milliseconds that sent bytes may stay unacknowledged (TCP_USER_TIMEOUT); 0: as the system has it.",
		field:   func(m *Main) any { return &m.TCPUserTimeout },
	},
	{
		Name: "track_extra_parameters", Default: "default_transaction_read_only, IntervalStyle, scram_iterations, search_path, session_authorization", Restart: true,
		Meaning: "Parameters kept for each client besides PgBouncer's own, separated by commas; the default ones are kept in any case.",
		field:   func(m *Main) any { return &m.TrackExtraParameters },
	},
	{
		Name: "transaction_timeout", Default: "0",
		Meaning: "A transaction that lasts for so long is ended with its connection; 0: never.",
		field:   func(m *Main) any { return &m.TransactionTimeout },
	},
	{
		Name: "unix_socket_dir", Default: "/tmp", Restart: true,
		Meaning: "Directory of the unix socket, @name for an abstract one, empty: none; also where servers are looked for when an entry names no host.",
		field:   func(m *Main) any { return &m.UnixSocketDir },
	},
	{
		Name: "unix_socket_group", Default: "", Restart: true,
		Meaning: "Group that owns the unix socket, by name or number.",
		field:   func(m *Main) any { return &m.UnixSocketGroup },
	},
	{
		Name: "unix_socket_mode", Default: "0777", Restart: true, octal: true,
		Meaning: "Permissions of the unix socket; octal when it begins with 0.",
		field:   func(m *Main) any { return &m.UnixSocketMode },
	},
	{
		Name: "user", Null: true, Restart: true,
		Meaning: "System user to become after start.",
		field:   func(m *Main) any { return &m.User },
	},
	{
		Name: "verbose", Null: true,
		Meaning: "1 logs more, 2 much more; not set: as -v says.",
		field:   func(m *Main) any { return &m.Verbose },
	},

	// pgweir's own.
	{
		Name: "auth_query_cache", Default: "1",
		Meaning: "How long what auth_query said about a user is believed, so that many logins ask once; a login that fails has the next one ask anew; 0: each login asks.",
		field:   func(m *Main) any { return &m.AuthQueryCache },
	},
	{
		Name: "auth_passthrough_cache", Default: "60",
		Meaning: "How long a password that the database took is believed with auth_type passthrough; after that the next login is tried on the database again; 0: each login is.",
		field:   func(m *Main) any { return &m.AuthPassthroughCache },
	},
	{
		Name: "client_buffer", Default: "262144",
		Meaning: "Bytes of an answer kept for a client that reads slowly, so that its server can go on; more than that is held back at the server.",
		field:   func(m *Main) any { return &m.ClientBuffer },
	},
	{
		Name: "http_listen", Default: "", Restart: true,
		Meaning: "Address, as host:port, that answers /metrics, /healthz and /readyz over HTTP, to anybody who can reach it; * as the host is every address; empty: none.",
		field:   func(m *Main) any { return &m.HTTPListen },
	},
	{
		Name: "loops", Default: "0", Restart: true,
		Meaning: "Event loops; 0: one less than the processors in use, at least one.",
		field:   func(m *Main) any { return &m.Loops },
	},
	{
		Name: "max_client_prepared_statements", Default: "5000",
		Meaning: "Names of prepared statements that one client may have where they are tracked; 0: without limit.",
		field:   func(m *Main) any { return &m.MaxClientPreparedStatements },
	},
	{
		Name: "max_login_concurrency", Default: "4", min: 1,
		Meaning: "Logins to servers under way at once for each pool.",
		field:   func(m *Main) any { return &m.MaxLoginConcurrency },
	},
	{
		Name: "plan", Default: "",
		Meaning: "Plan whose connections all entries share that name no other: a preset such as heroku:standard-0, a name of section [plans], or auto, which goes by what the server says.",
		field:   func(m *Main) any { return &m.Plan },
	},
	{
		Name: "plan_processes", Default: "1", min: 1,
		Meaning: "Processes such as dynos that share the server connections of each plan; this one opens at most its part.",
		field:   func(m *Main) any { return &m.PlanProcesses },
	},
	{
		Name: "sigterm_grace", Default: "25",
		Meaning: "How long a drain may take (sigterm_mode, SHUTDOWN DRAIN); then the clients that are left are cut.",
		field:   func(m *Main) any { return &m.SigtermGrace },
	},
	{
		Name: "sigterm_mode", Default: "wait_for_clients",
		Meaning: "What the first SIGTERM does: the SHUTDOWN of that name. drain closes each client between two transactions, within sigterm_grace.",
		field:   func(m *Main) any { return &m.SigtermMode },
	},
}

const defaultAuthQuery = "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid WHERE rolname=$1 AND rolcanlogin"

// deferAcceptDefault is on where the kernel can do it.
var deferAcceptDefault = map[bool]string{true: "1", false: "0"}[runtime.GOOS == "linux"]
