package configs

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// checkMain returns the first thing wrong with settings that are each right by
// themselves, and the key to blame; "" when nothing is. PgBouncer does not start
// with any of these.
func checkMain(m *Main) (key, text string) {
	switch {
	case m.AuthDBName == Console:
		return "auth_dbname", `cannot use the reserved "pgbouncer" database as an auth_dbname`
	case m.ClientTLSSSLMode != SSLDisable && (m.ClientTLSKeyFile == "" || m.ClientTLSCertFile == "") &&
		(m.ClientTLSKeyFile != m.ClientTLSCertFile || !m.onlyLocal()):
		return "client_tls_sslmode", "To allow TLS connections from clients, client_tls_key_file and client_tls_cert_file must be set."
	case m.ClientTLSSSLMode == SSLVerifyFull && m.ClientTLSCAFile == "":
		return "client_tls_sslmode", "verify-full requires client_tls_ca_file"
	case m.AuthType == AuthCert && m.ClientTLSSSLMode != SSLVerifyFull:
		return "auth_type", "cert requires client_tls_sslmode=verify-full"
	case m.AuthType == AuthLDAP && m.AuthLDAPOptions == "":
		return "auth_type", "ldap requires auth_ldap_options"
	case m.AuthType == AuthPAM && !hasPAM:
		return "auth_type", "this binary was built without PAM; build it with cgo and -tags pam"
	case m.AuthType == AuthPassthrough && m.ClientTLSSSLMode == SSLDisable && m.UnixSocketDir == "":
		return "auth_type", "passthrough requires client_tls_sslmode or unix_socket_dir: a password is asked for over TLS or a unix socket only"
	case !validHTTPListen(m.HTTPListen):
		return "http_listen", fmt.Sprintf("invalid value %q: must be host:port, with a port from 1 to 65535, or empty", m.HTTPListen)
	case !slices.Contains(syslogFacilities, strings.ToLower(m.SyslogFacility)):
		return "syslog_facility", fmt.Sprintf("there is no %q: must be one of %s", m.SyslogFacility, strings.Join(syslogFacilities, ", "))
	}
	return "", ""
}

// validHTTPListen reports whether s is empty or an address to listen on.
func validHTTPListen(s string) bool {
	host, port, err := net.SplitHostPort(s)
	n, bad := strconv.ParseUint(port, 10, 16)
	return s == "" || err == nil && bad == nil && n > 0 && host != ""
}

// onlyLocal reports whether nobody but this machine can connect.
func (m *Main) onlyLocal() bool {
	for _, host := range m.ListenAddr {
		addr, err := netip.ParseAddr(host)
		if host != "localhost" && (err != nil || !addr.Unmap().IsLoopback()) {
			return false
		}
	}
	return true
}

// asksForCertificates reports whether clients are asked for theirs.
func (m *Main) asksForCertificates() bool {
	return m.ClientTLSSSLMode >= SSLVerifyCA || m.ClientTLSSSLMode != SSLDisable && m.ClientTLSCAFile != ""
}

// syslogFacilities are those that syslog_facility may name.
var syslogFacilities = []string{
	"auth", "authpriv", "daemon", "user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
}

// check reports what the settings, the entries and the users mean together.
func (l *loader) check() {
	m := &l.snap.Main
	if key, text := checkMain(m); key != "" {
		l.errorAt(l.settingAt(key), key+": "+text)
	}
	if slices.ContainsFunc(l.problems, func(p Problem) bool { return p.Severity == Error }) {
		return // what follows may only be due to those
	}
	l.checkAuth(m)
	l.checkPools(m)
	if len(l.snap.Peers) > 0 && m.PeerID == 0 {
		l.warn("peer_id", "it is 0, so cancel requests are not passed on to [peers]")
	}
	if l.old == nil {
		l.checkFolders(m)
	}
	l.checkClaims()
	l.checkLimits(m, openFiles())
}

// warn warns of a setting, at the line that set it.
func (l *loader) warn(key, format string, args ...any) {
	l.warnAt(l.settingAt(key), key+": "+fmt.Sprintf(format, args...))
}

// settingAt is where a setting was last set, or else the file without a line.
func (l *loader) settingAt(key string) pos {
	return cmp.Or(l.at[key], pos{file: l.path})
}

// checkAuth warns where nobody, or somebody in particular, can't get in.
func (l *loader) checkAuth(m *Main) {
	if m.AuthType == AuthAny {
		for d := range l.snap.entries() {
			if d.User == "" {
				l.warnAt(l.databaseAt[d.Name], fmt.Sprintf("database %s: auth_type any needs a forced user (user=); every login is refused", d.Name))
			}
		}
	}
	switch m.AuthType {
	case AuthPassthrough:
		if m.ClientTLSSSLMode == SSLDisable && len(m.ListenAddr) > 0 {
			l.warn("auth_type", "passthrough needs TLS (client_tls_sslmode) or a unix socket; over TCP nobody can log in")
		}
		for d := range l.snap.entries() {
			if d.User != "" {
				l.warnAt(l.databaseAt[d.Name], fmt.Sprintf("database %s: auth_type passthrough tries the client's password on the server, and user= has servers logged in to as another one; only users in auth_file can log in", d.Name))
			}
		}
		return
	case AuthTrust, AuthPlain, AuthMD5, AuthSCRAM:
		if m.AuthFile == "" {
			if !l.asks(m) {
				l.warn("auth_type", "%v knows users from the auth_file and by auth_query, and there is no auth_file and no auth_user; nobody can log in", m.AuthType)
			}
			return
		}
	default:
		return
	}
	if info, err := os.Stat(m.AuthFile); err == nil && info.Mode().Perm()&0o004 != 0 {
		l.warn("auth_file", "%s can be read by everyone on this machine; chmod 640 %[1]s", m.AuthFile)
	}
	if l.snap.Auth.Len() == 0 {
		return // the auth_file is missing or empty: one warning is enough
	}
	for d := range l.snap.entries() {
		if _, known := l.snap.Auth.Lookup(d.User); d.User != "" && d.Password == "" && d.PasswordCommand == "" && !known {
			l.warnAt(l.databaseAt[d.Name], fmt.Sprintf("database %s: user %s has no password here nor in auth_file; the server must ask for none", d.Name, d.User))
		}
	}
	for _, list := range []struct {
		key   string
		users []string
	}{{"admin_users", m.AdminUsers}, {"stats_users", m.StatsUsers}} {
		for _, user := range list.users {
			if _, known := l.snap.Auth.Lookup(user); !known && (m.AuthUser == "" || m.AuthDBName == "") {
				l.warn(list.key, "%s is not in auth_file and can't log in", user)
			}
		}
	}
}

// asks reports whether auth_query is asked for any database.
func (l *loader) asks(m *Main) bool {
	if m.AuthUser != "" {
		return true
	}
	for d := range l.snap.entries() {
		if d.AuthUser != "" {
			return true
		}
	}
	return false
}

// checkFolders warns where a file is to be written into a folder that isn't
// there, which would end the process at start.
func (l *loader) checkFolders(m *Main) {
	for _, f := range []struct{ key, folder string }{
		{"logfile", folder(m.LogFile)},
		{"pidfile", folder(m.PidFile)},
		{"unix_socket_dir", m.UnixSocketDir},
	} {
		if f.folder == "" || strings.HasPrefix(f.folder, "@") {
			continue
		}
		if info, err := os.Stat(f.folder); err != nil || !info.IsDir() {
			l.warn(f.key, "the folder %s doesn't exist", f.folder)
		}
	}
}

// folder is where the file at path lies, "" for no file.
func folder(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Dir(path)
}

// checkPools warns of entries that can't work, and sizes that mean nothing.
func (l *loader) checkPools(m *Main) {
	if len(l.snap.Databases) == 0 && l.snap.AutoDB == nil {
		l.warnAt(pos{file: l.path}, "no database is defined: section [databases] is missing or empty")
	}
	if m.ReservePoolSize > 0 && m.ReservePoolTimeout == 0 {
		l.warn("reserve_pool_size", "the reserve is never used, because reserve_pool_timeout is 0")
	}
	if m.DefaultPoolSize > 0 && m.MinPoolSize > m.DefaultPoolSize {
		l.warn("min_pool_size", "%d is more than default_pool_size, %d; pools stop at that", m.MinPoolSize, m.DefaultPoolSize)
	}
	for d := range l.snap.entries() {
		at, entry := l.databaseAt[d.Name], "database "+d.Name
		if len(d.Hosts) == 0 {
			l.warnAt(at, entry+": has no host, and unix_socket_dir is empty; it can't be reached")
		}
		size := firstSet(d.PoolSize, given(d.terms().PoolSize, m.DefaultPoolSize))
		if d.MinPoolSize > size && size > 0 {
			l.warnAt(at, fmt.Sprintf("%s: min_pool_size %d is more than its pool size, %d; pools stop at that", entry, d.MinPoolSize, size))
		}
		if d.ReservePoolSize > 0 && m.ReservePoolTimeout == 0 {
			l.warnAt(at, entry+": the reserve is never used, because reserve_pool_timeout is 0")
		}
	}
}

// checkLimits warns when there may be more connections than open files.
func (l *loader) checkLimits(m *Main, files uint64) {
	const others = 32 // listeners, logs, epoll and the like
	servers := 0
	for _, d := range l.snap.Databases {
		size := l.snap.ForPool(d, d.User).PoolSize
		if most := cmp.Or(d.MaxDBConnections, m.MaxDBConnections); most > 0 {
			size = min(size, most)
		}
		servers += size
	}
	if need := uint64(m.MaxClientConn + servers + others); need > files {
		l.warn("max_client_conn", "%d clients and %d servers need about %d open files, and the process may have %d (ulimit -n)", m.MaxClientConn, servers, need, files)
	}
	if len(m.ListenAddr) == 0 && m.UnixSocketDir == "" {
		l.warn("listen_addr", "nowhere to listen on: it is empty, and so is unix_socket_dir")
	}
}
