package dyno

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pgweir/pgweir/configs"
)

// The names of the files that stand in memory.
const (
	iniName   = "(environment)"
	usersName = "(environment)/userlist.txt"
)

// text is the configuration, with each line's origin.
type text struct {
	strings.Builder
	origins []string // by line
}

// line adds a line.
func (t *text) line(origin, format string, args ...any) {
	fmt.Fprintf(t, format+"\n", args...)
	t.origins = append(t.origins, origin)
}

// Snapshot is the configuration.
func (s *Sidecar) Snapshot() (*configs.Snapshot, error) {
	plain := func(secret string) string { return secret }
	ini, err := s.ini(plain)
	if err != nil {
		return nil, err
	}
	snap, err := configs.ParseFiles(iniName, map[string]string{iniName: ini.String(), usersName: s.userlist(plain)})
	var p configs.Problem
	if errors.As(err, &p) {
		return nil, ini.blame(p)
	}
	if err != nil {
		return nil, err
	}
	for i, w := range snap.Warnings {
		snap.Warnings[i] = ini.blame(w)
	}
	return snap, nil
}

// blame has a problem of a line name the line's origin in place of the file,
// which nobody has written.
func (t *text) blame(p configs.Problem) configs.Problem {
	if p.File == iniName && p.Line > 0 && t.origins[p.Line-1] != "" {
		p.File, p.Line = t.origins[p.Line-1], 0
	}
	return p
}

// Text is the configuration as people may see it: the pgbouncer.ini with the
// userlist.txt behind it, without secrets.
func (s *Sidecar) Text() (string, error) {
	masked := func(string) string { return "********" }
	ini, err := s.ini(masked)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for line := range strings.Lines(s.userlist(masked)) {
		b.WriteString("; " + line)
	}
	return ini.String() + "\n; " + usersName + "\n" + b.String(), nil
}

// ini is the text of the pgbouncer.ini.
func (s *Sidecar) ini(secret func(string) string) (*text, error) {
	t := &text{}
	t.line("", "[databases]")
	for _, d := range s.databases {
		params, err := d.params(secret)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", d.variable, err)
		}
		t.line(d.variable, "; %s", d.variable)
		t.line(d.variable, "'%s' =%s", d.entry, params)
	}
	t.line("", "")
	t.line("", "[pgbouncer]")
	if s.unixDir == "" {
		t.line("", "listen_addr = 127.0.0.1")
	}
	t.line("", "unix_socket_dir = %s", s.unixDir)
	t.line("", "auth_file = %s", usersName)
	t.line("", "stats_users = %s", strings.Join(s.users(), ", "))
	for _, key := range slices.Sorted(maps.Keys(s.settings)) {
		set := s.settings[key]
		if strings.ContainsAny(set.value, "\n\r") {
			return nil, fmt.Errorf("%s: %s: a line break", set.origin, key)
		}
		if set.origin != "" {
			t.line(set.origin, "; %s", set.origin)
		}
		t.line(set.origin, "%s = %s", key, set.value)
	}
	return t, nil
}

// params are the connect string of an entry.
func (d *database) params(secret func(string) string) (string, error) {
	var b strings.Builder
	add := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, " %s='%s'", key, strings.ReplaceAll(value, "'", "''"))
		}
	}
	add("host", strings.Join(d.url.hosts, ","))
	add("port", strconv.Itoa(d.url.port))
	add("dbname", d.url.database)
	add("user", d.url.user)
	if d.url.password != "" {
		add("password", secret(d.url.password))
	}
	attrs := cmp.Or(d.url.option("target_session_attrs"), "any")
	if attrs == "prefer-standby" {
		return "", errAttrs
	}
	if len(d.url.hosts) > 1 {
		// libpq tries them in their order, unless told otherwise.
		order := "disable"
		if d.url.option("load_balance_hosts") == "random" {
			order = "round-robin"
		}
		add("load_balance_hosts", order)
	}
	if attrs != "any" {
		add("target_session_attrs", attrs)
	}
	return b.String(), nil
}

// users are the names of all users, each once.
func (s *Sidecar) users() (names []string) {
	for _, d := range s.databases {
		if !slices.Contains(names, d.url.user) {
			names = append(names, d.url.user)
		}
	}
	return names
}

// userlist is the text of the userlist.txt.
func (s *Sidecar) userlist(secret func(string) string) string {
	var b strings.Builder
	quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
	for _, name := range s.users() {
		i := slices.IndexFunc(s.databases, func(d *database) bool { return d.url.user == name })
		fmt.Fprintf(&b, "%s %s\n", quote(name), quote(secret(s.databases[i].password)))
	}
	return b.String()
}

// Login says how to log in to an entry, in order to see whether it serves.
type Login struct {
	Variable                 string // whose URL it is
	Database, User, Password string
	Server                   string // where it leads, for people
}

// Logins are one for each URL.
func (s *Sidecar) Logins() (logins []Login) {
	for _, d := range s.databases {
		logins = append(logins, Login{
			Variable: d.variable, Database: d.entry, User: d.url.user, Password: d.password,
			Server: fmt.Sprintf("%s:%d/%s", strings.Join(d.url.hosts, ","), d.url.port, d.url.database),
		})
	}
	return logins
}

// Environ is the environment of the app, with the pooler at host, an address or
// the folder of a unix socket, and port. Each variable NAME leads to the pooler,
// and so does NAME_PGBOUNCER, as with Heroku's buildpack; NAME_DIRECT is what
// NAME was, for migrations and for LISTEN, unless it is set already.
func (s *Sidecar) Environ(host string, port int) []string {
	env := slices.Clone(s.environ)
	set := func(name, value string) {
		env = slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
		env = append(env, name+"="+value)
	}
	for _, d := range s.databases {
		var more []param
		if s.unprepare {
			more = append(more, param{"prepared_statements", "false"})
		}
		if lookup(env, d.variable+"_DIRECT") == "" {
			set(d.variable+"_DIRECT", lookup(s.environ, d.variable))
		}
		url := d.url.to(host, port, d.url.user, d.password, d.entry, more...)
		set(d.variable, url)
		set(d.variable+"_PGBOUNCER", url)
	}
	return env
}
