package dyno

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/configs"
)

// Options are what the command line says. It wins over the environment.
type Options struct {
	// URLs are the names of the variables that hold URLs; none: what PGWEIR_URLS
	// or PGBOUNCER_URLS names, or else DATABASE_URL.
	URLs []string

	// Settings are keys of [pgbouncer].
	Settings map[string]string

	// UnixDir is the folder for a unix socket, "" for TCP on this machine.
	UnixDir string
}

// Sidecar is a pooler for one app.
type Sidecar struct {
	// Warnings say which variables have no effect.
	Warnings []string

	environ   []string
	databases []*database
	settings  map[string]setting
	unixDir   string
	unprepare bool // PGBOUNCER_PREPARED_STATEMENTS=false
}

// database is a URL, and the entry that it has become.
type database struct {
	variable string
	url      *connection
	entry    string // its name
	password string // what the app logs in to the pooler with
}

// setting is a key of [pgbouncer] with where its value comes from, "" for here.
type setting struct{ value, origin string }

// The variables of pgweir and of Heroku's buildpack for PgBouncer: behind the
// prefix stands a setting, or one of these names.
const (
	ours   = "PGWEIR_"
	theirs = "PGBOUNCER_"
)

// Enabled reports whether the environment wants a pooler at all: PGWEIR_ENABLED
// and PGBOUNCER_ENABLED say no by 0 or false.
func Enabled(environ []string) bool {
	value := lookup(environ, ours+"ENABLED", theirs+"ENABLED")
	return value != "0" && value != "false"
}

// lookup returns the value of the first of the variables that is set and not
// empty. An empty variable counts as none, as in the buildpack.
func lookup(environ []string, names ...string) (value string) {
	for _, name := range names {
		for _, kv := range environ {
			if key, v, _ := strings.Cut(kv, "="); key == name && v != "" {
				value = v // of two, the last one counts, as in a shell
			}
		}
		if value != "" {
			break
		}
	}
	return value
}

// defaults are what a pooler beside an app is like. Logins over loopback are
// proved by the password itself: SCRAM would cost the app a millisecond for
// each connection, and whoever listens there has the app's environment anyway.
var defaults = map[string]string{
	"auth_type":          "plain",
	"client_tls_sslmode": "allow", // the app's code may insist on TLS, and here is none to verify
	"default_pool_size":  "5",
	"listen_backlog":     "1024",
	"listen_port":        "0",
	"log_connections":    "0",
	"log_disconnections": "0",
	"loops":              "1",
	"max_client_conn":    "1000",
	"pool_mode":          "transaction",
	"server_login_retry": "2",
}

// buildpack are the defaults of Heroku's buildpack where they matter to the
// server: whoever has set any of its variables counts with them.
var buildpack = map[string]string{
	"default_pool_size":  "1",
	"reserve_pool_size":  "1",
	"server_tls_sslmode": "require",
}

// aliases are further names of settings behind our prefix.
var aliases = map[string]string{"pool_size": "default_pool_size", "port": "listen_port"}

// reserved are settings that a sidecar decides by itself.
var reserved = []string{"auth_file", "conffile", "job_name", "listen_addr", "pidfile", "unix_socket_dir", "user"}

// others are the variables that are no settings. Command are those that the
// command line knows, too.
var (
	others  = []string{"CONFIG_DIR", "ENABLED", "PREPARED_STATEMENTS", "URLS"}
	command = []string{"ENABLED", "FORWARD_SIGTERM", "GRACE", "IF_DOWN", "LISTEN", "URLS", "WAIT"}
)

// New makes the pooler that environ, a list of NAME=value, and o ask for. Errors
// name variables, and tell no value that may be secret.
func New(environ []string, o Options) (*Sidecar, error) {
	s := &Sidecar{environ: environ, settings: map[string]setting{}, unixDir: o.UnixDir}
	env := func(name string) string { return lookup(environ, name) }
	s.unprepare = env(theirs+"PREPARED_STATEMENTS") == "false"
	names := o.URLs
	if len(names) == 0 {
		names = split(cmp.Or(lookup(environ, ours+"URLS", theirs+"URLS"), "DATABASE_URL"))
	}
	for _, name := range names {
		if slices.ContainsFunc(s.databases, func(d *database) bool { return d.variable == name }) {
			continue
		}
		text := env(name)
		if text == "" {
			return nil, fmt.Errorf("%s is not set; it must be the URL of a database (PGWEIR_URLS names the variables to look at)", name)
		}
		url, err := parseURL(text, env)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, option := range url.unminded() {
			s.warnf("%s: the option %s is left out: the pooler does not see to it", name, option)
		}
		s.databases = append(s.databases, &database{variable: name, url: url})
	}
	s.name()
	s.identify()
	s.collect(env)
	if err := s.serverTLS(); err != nil {
		return nil, err
	}
	s.override(ours)
	for _, key := range slices.Sorted(maps.Keys(o.Settings)) {
		if slices.Contains(reserved, key) || configs.Find(key) == nil {
			return nil, fmt.Errorf("%s can't be set: it is no setting of a pooler beside an app", key)
		}
		s.settings[key] = setting{o.Settings[key], "the command line"}
	}
	return s, nil
}

func (s *Sidecar) warnf(format string, args ...any) {
	s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...))
}

// split splits a list at commas and white space.
func split(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(", \t\n\r", r) })
}

// name gives each database its entry: the name that it has on its server, if no
// other has it and it can be one.
func (s *Sidecar) name() {
	taken := map[string]bool{configs.Console: true, "*": true}
	for i, d := range s.databases {
		d.entry = d.url.database
		if taken[d.entry] || strings.Contains(d.entry, "'") || len(d.entry) > configs.MaxDatabaseName {
			d.entry = fmt.Sprintf("db%d", i+1)
		}
		taken[d.entry] = true
	}
}

// identify gives each user the password of its first URL. A user who has none
// gets one for here: a port of this machine is open to all who are on it.
func (s *Sidecar) identify() {
	passwords := map[string]string{}
	for _, d := range s.databases {
		user := d.url.user
		if passwords[user] == "" {
			passwords[user] = cmp.Or(d.url.password, rand.Text())
		}
		d.password = passwords[user]
	}
}

// collect takes the defaults, and what the buildpack's variables say.
func (s *Sidecar) collect(env func(string) string) {
	for key, value := range defaults {
		s.settings[key] = setting{value: value}
	}
	if s.unixDir != "" { // its port is but a part of a file's name, and nobody else's file is in that folder
		s.settings["listen_port"] = setting{value: "5432"}
	}
	if env("DYNO") != "" {
		s.settings["server_tls_sslmode"] = setting{value: buildpack["server_tls_sslmode"]}
	}
	if slices.ContainsFunc(s.environ, func(kv string) bool {
		name, value, _ := strings.Cut(kv, "=")
		return value != "" && strings.HasPrefix(name, theirs) && !s.isURL(name)
	}) {
		for key, value := range buildpack {
			s.settings[key] = setting{value: value}
		}
	}
	s.override(theirs)
}

func (s *Sidecar) isURL(variable string) bool {
	return slices.ContainsFunc(s.databases, func(d *database) bool { return d.variable == variable })
}

// override takes the settings from the variables that have the prefix, and
// names those that are none.
func (s *Sidecar) override(prefix string) {
	known := others
	if prefix == ours {
		known = command
	}
	for _, kv := range slices.Sorted(slices.Values(s.environ)) {
		name, value, _ := strings.Cut(kv, "=")
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok || value == "" || slices.Contains(known, rest) || s.isURL(name) {
			continue
		}
		key := strings.ToLower(rest)
		if prefix == ours {
			key = cmp.Or(aliases[key], key)
		}
		switch {
		case slices.Contains(reserved, key):
			s.warnf("%s has no effect: a pooler beside an app decides that by itself", name)
		case configs.Find(key) == nil || strings.ToUpper(rest) != rest:
			s.warnf("%s has no effect: there is no such setting", name)
		default:
			s.settings[key] = setting{value, name}
		}
	}
}

// serverTLS takes how to encrypt connections to servers from the URLs, unless a
// variable has said so. All entries of a pooler share that.
func (s *Sidecar) serverTLS() error {
	for _, o := range []struct {
		key   string
		value func(c *connection) string
	}{
		{"server_tls_sslmode", (*connection).sslMode},
		{"server_tls_ca_file", func(c *connection) string { return ca(c.option("sslrootcert")) }},
		{"server_tls_cert_file", func(c *connection) string { return c.option("sslcert") }},
		{"server_tls_key_file", func(c *connection) string { return c.option("sslkey") }},
	} {
		for _, d := range s.databases {
			value, set := o.value(d.url), s.settings[o.key]
			switch {
			case value == "":
			case strings.HasPrefix(set.origin, theirs) && !s.isURL(set.origin): // the buildpack heeds no option of URLs
			case s.isURL(set.origin) && set.value != value && lookup(s.environ, ours+strings.ToUpper(o.key)) == "":
				return fmt.Errorf("%s and %s want different TLS (%s), and a pooler has one for all: set %s%s",
					set.origin, d.variable, o.key, ours, strings.ToUpper(o.key))
			default:
				s.settings[o.key] = setting{value, d.variable}
			}
		}
	}
	return nil
}

// ca is sslrootcert as a file; the system's certificates need none.
func ca(value string) string {
	if value == "system" {
		return ""
	}
	return value
}

// errAttrs is about a value of target_session_attrs that entries don't have.
var errAttrs = errors.New("target_session_attrs=prefer-standby can't be had here; standby and any can")
