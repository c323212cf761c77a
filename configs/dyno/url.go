package dyno

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/configs"
)

// connection is a connection URL, taken apart.
type connection struct {
	scheme string // as it was written: postgres, postgis, postgresql+psycopg, jdbc:postgresql
	params []param
	named  bool // user and password were parameters

	hosts          []string
	port           int
	user, password string
	database       string
}

// param is an option of a URL. Both are as they were written, escapes and all.
type param struct{ key, value string }

// schemes are those that frameworks have for Postgres, without what follows a +.
var schemes = []string{"postgres", "postgresql", "postgis", "pgsql", "timescale", "timescaledb", "ecto", "jdbc:postgresql"}

// parseURL reads a URL as libpq does. What it leaves out comes from the
// variables that libpq would look at. No error tells any part of the URL but
// the names of its options.
func parseURL(text string, env func(string) string) (*connection, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	driver, _, _ := strings.Cut(scheme, "+")
	if !ok || !slices.Contains(schemes, strings.ToLower(driver)) {
		return nil, errors.New("it is not a URL that begins with postgres:// or postgresql://")
	}
	c := &connection{scheme: scheme}
	credentials, rest := cutCredentials(rest)
	rest, query, _ := strings.Cut(rest, "?")
	hosts, database, _ := strings.Cut(rest, "/")
	user, password, _ := strings.Cut(credentials, ":")
	for _, part := range []struct {
		what, text string
		to         *string
	}{{"user", user, &c.user}, {"password", password, &c.password}, {"database", database, &c.database}} {
		var err error
		if *part.to, err = unescape(part.text); err != nil {
			return nil, fmt.Errorf("%s: %w", part.what, err)
		}
	}
	var ports []string
	for host := range strings.SplitSeq(hosts, ",") {
		host, port, err := splitHost(host)
		if err != nil {
			return nil, err
		}
		if host != "" {
			c.hosts = append(c.hosts, host)
		}
		if port != "" {
			ports = append(ports, port)
		}
	}
	for pair := range strings.SplitSeq(query, "&") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			if pair == "" {
				continue
			}
			return nil, errors.New("its options must be name=value, between &")
		}
		plain, err := unescape(value)
		if err != nil {
			return nil, fmt.Errorf("option %s: %w", key, err)
		}
		switch key {
		case "user":
			c.user, c.named = plain, true
		case "password":
			c.password, c.named = plain, true
		case "host", "hostaddr":
			c.hosts = strings.Split(plain, ",")
		case "port":
			ports = strings.Split(plain, ",")
		case "dbname":
			c.database = plain
		default:
			c.params = append(c.params, param{key, value})
		}
	}
	return c, c.complete(ports, env)
}

// complete fills in what the URL left out.
func (c *connection) complete(ports []string, env func(string) string) (err error) {
	c.user = cmp.Or(c.user, env("PGUSER"), env("USER"), env("LOGNAME"))
	if c.user == "" {
		return errors.New("it names no user, nor does PGUSER")
	}
	c.password = cmp.Or(c.password, env("PGPASSWORD"))
	c.database = cmp.Or(c.database, env("PGDATABASE"), c.user)
	if len(c.hosts) == 0 {
		c.hosts = []string{cmp.Or(env("PGHOST"), "localhost")}
	}
	if len(ports) == 0 {
		ports = []string{cmp.Or(env("PGPORT"), "5432")}
	}
	for _, port := range ports {
		if port != ports[0] {
			return errors.New("its hosts have different ports, and the hosts of an entry share one")
		}
	}
	c.port, err = strconv.Atoi(ports[0])
	if err != nil || c.port < 1 || c.port > 65535 {
		return errors.New("its port is not a number from 1 to 65535")
	}
	for _, text := range append([]string{c.user, c.password, c.database}, c.hosts...) {
		if strings.ContainsAny(text, "\x00\n\r") {
			return errors.New("it has a line break or a zero byte in it")
		}
	}
	return nil
}

// splitHost splits host:port. A host may be an IPv6 address in brackets, or the
// escaped folder of a unix socket.
func splitHost(s string) (host, port string, err error) {
	if strings.HasPrefix(s, "[") {
		host, rest, ok := strings.Cut(s[1:], "]")
		if !ok || rest != "" && rest[0] != ':' {
			return "", "", errors.New("its IPv6 address must stand in brackets")
		}
		return host, strings.TrimPrefix(rest, ":"), nil
	}
	host, port, _ = strings.Cut(s, ":")
	if host, err = unescape(host); err != nil {
		return "", "", fmt.Errorf("host: %w", err)
	}
	return host, port, nil
}

// option returns the value of an option, "" if the URL doesn't have it.
func (c *connection) option(key string) string {
	for _, p := range c.params {
		if p.key == key {
			value, _ := unescape(p.value) // it was unescaped before
			return value
		}
	}
	return ""
}

// servers are the options that concern the server's end. The pooler minds them,
// and the app's URL goes without. Those that it can't see to are named in a
// warning.
var servers = map[string]bool{ // whether the pooler minds them
	"sslmode": true, "sslrootcert": true, "sslcert": true, "sslkey": true, "ssl": true,
	"sslnegotiation": true, "sslsni": true, "sslcompression": true,
	"target_session_attrs": true, "targetServerType": false, "load_balance_hosts": true,
	"gssencmode": true, "krbsrvname": false, "gsslib": false, "gssdelegation": false,
	"channel_binding": false, "require_auth": false, "requirepeer": false, "requiressl": false,
	"sslcrl": false, "sslcrldir": false, "sslpassword": false, "sslcertmode": true,
	"ssl_min_protocol_version": false, "ssl_max_protocol_version": false,
	"passfile": false, "service": false,
}

// harmless are values of such options that ask for nothing.
var harmless = []string{"", "disable", "prefer", "allow"}

// unminded names the options that nobody will see to.
func (c *connection) unminded() (names []string) {
	for _, p := range c.params {
		if minded, known := servers[p.key]; known && !minded && !slices.Contains(harmless, p.value) {
			names = append(names, p.key)
		}
	}
	return names
}

// to returns the URL with the pooler at host and port in the server's place: as
// it was but for what concerns the server, which has become the pooler's
// business.
func (c *connection) to(host string, port int, user, password, database string, more ...param) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s://", c.scheme)
	if !c.named {
		fmt.Fprintf(&b, "%s:%s@", escape(user), escape(password))
	}
	fmt.Fprintf(&b, "%s:%d/%s", escape(host), port, escape(database))
	var params []param
	if c.named {
		params = append(params, param{"user", escape(user)}, param{"password", escape(password)})
	}
	for _, p := range c.params {
		if _, ofServer := servers[p.key]; !ofServer {
			params = append(params, p)
		}
	}
	if c.knowsSSLMode() {
		params = append(params, param{"sslmode", "disable"}) // it is this machine
	}
	for i, p := range append(params, more...) {
		b.WriteByte("?&"[min(i, 1)])
		b.WriteString(p.key + "=" + p.value)
	}
	return b.String()
}

// knowsSSLMode reports whether the app's driver takes the option sslmode:
// libpq's friends do, and whoever got it so far.
func (c *connection) knowsSSLMode() bool {
	_, driver, named := strings.Cut(c.scheme, "+")
	return !named || strings.HasPrefix(driver, "psycopg") || c.option("sslmode") != ""
}

// sslMode is what the URL asks of the connection to the server, "" for nothing.
func (c *connection) sslMode() string {
	mode := c.option("sslmode")
	if ssl := c.option("ssl"); mode == "" && ssl != "" && ssl != "false" && ssl != "0" {
		mode = configs.SSLRequire.String()
	}
	return mode
}

// cutCredentials cuts what stands before the @ off. In there may be a question
// mark, and behind it, in the options, another @.
func cutCredentials(s string) (credentials, rest string) {
	before, _, _ := strings.Cut(s, "/")
	credentials, host, ok := strings.Cut(before, "@")
	if !ok {
		return "", s
	}
	host, _, _ = strings.Cut(host, "?")
	end := len(credentials)
	if last := strings.LastIndexByte(host, '@'); last >= 0 {
		end += 1 + last
	}
	return s[:end], s[end+1:]
}

// unescape undoes %XX. A plus sign is a plus sign.
func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", errors.New("a % is not followed by two hexadecimal digits")
		}
		n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", errors.New("a % is not followed by two hexadecimal digits")
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String(), nil
}

// escape escapes all that may mean something anywhere in a URL.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
