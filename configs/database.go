package configs

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// MaxDatabaseName is the length in bytes of the longest database name, as in
// Postgres (NAMEDATALEN less the terminator).
const MaxDatabaseName = 63

// Console is the name of the console's database. It can't be an entry.
const Console = "pgbouncer"

// Inherit in a number of a Database or a User means that the setting comes from
// further up; see ForPool and ForClient.
const Inherit = -1

// Database is an entry of section [databases]: what clients ask for, and which
// server and database that is.
type Database struct {
	Name   string // what clients ask for; "*" in the template
	DBName string // the database on the server; "" only in the template
	Auto   bool   // made from the template by Snapshot.Auto

	// Host is the text of host=, "" when there is none. Hosts are the hosts in
	// it, or else unix_socket_dir: names, IPv4 or IPv6 addresses, directories
	// of unix sockets (/dir) or abstract ones (@name). Hosts is empty when
	// there is neither.
	Host             string
	Hosts            []string
	Port             int
	LoadBalanceHosts LoadBalanceHosts

	// TargetSessionAttrs is what a server must be to serve the entry.
	TargetSessionAttrs SessionAttrs

	// User is the forced user, as whom every client's queries run; "" lets each
	// client's own name through. Password is its password, "" when it is to be
	// looked up in the auth_file.
	User     string
	Password string

	// PasswordCommand is a shell command that prints the password of whoever is
	// to be logged in to the server; "" for none. There is no Password then.
	PasswordCommand string

	AuthUser, AuthQuery, AuthDBName string // "" inherits

	PoolMode               PoolMode
	PoolSize               int           // Inherit or, from 0 on, set
	MinPoolSize            int           // likewise
	ReservePoolSize        int           // likewise
	MaxDBConnections       int           // 0 inherits
	MaxDBClientConnections int           // 0 inherits
	ServerLifetime         time.Duration // 0 inherits
	QueryWaitTimeout       time.Duration // Inherit or, from 0 on, set

	// Plan is the plan that the entry's connections count against: its own, or
	// else the one of section [pgbouncer]; nil for none.
	Plan *Plan

	ConnectQuery string // run once on each new server; "" for none

	// Sent to the server in the StartupMessage; "" when not given.
	ClientEncoding, DateStyle, TimeZone, ApplicationName string

	plan string // the name given on the entry; "" inherits
}

// String returns the name and nothing else: the password stays out of logs.
func (d *Database) String() string { return d.Name }

// GoString is String, for %#v.
func (d *Database) GoString() string { return d.Name }

// SameServers reports whether servers opened for old, an earlier version of the
// entry, may go on serving d. If not they are to be closed (close_needed), as
// PgBouncer does when dbname, host, port, user, connect_query, auth_dbname,
// auth_query or load_balance_hosts change, and when target_session_attrs does.
func (d *Database) SameServers(old *Database) bool {
	return d.DBName == old.DBName && slices.Equal(d.Hosts, old.Hosts) && d.Port == old.Port &&
		d.User == old.User && d.ConnectQuery == old.ConnectQuery && d.AuthDBName == old.AuthDBName &&
		d.AuthQuery == old.AuthQuery && d.LoadBalanceHosts == old.LoadBalanceHosts &&
		d.TargetSessionAttrs == old.TargetSessionAttrs
}

func newDatabase(name string) *Database {
	return &Database{Name: name, Port: 5432, PoolSize: Inherit, MinPoolSize: Inherit, ReservePoolSize: Inherit, QueryWaitTimeout: Inherit}
}

// param describes one key of a connect string.
type param[T any] struct {
	name, def, meaning string
	set                func(t *T, value string) (note string, err error)
}

// parseParams reads a connect string into t.
func parseParams[T any](t *T, table []param[T], s string) (notes []string, err error) {
	pairs, notes, err := parseConnString(s)
	if err != nil {
		return nil, err
	}
	for _, p := range pairs {
		i := slices.IndexFunc(table, func(q param[T]) bool { return q.name == p.key })
		if i < 0 {
			return nil, fmt.Errorf("unknown parameter: %s", shownKey(p.key))
		}
		note, err := table[i].set(t, p.value)
		if err != nil {
			return nil, err
		}
		if note != "" {
			notes = append(notes, note)
		}
	}
	return notes, nil
}

var databaseParams = []param[Database]{
	text("dbname", "the name", "Database on the server.", func(d *Database) *string { return &d.DBName }),
	{
		name: "host", def: "`unix_socket_dir`",
		meaning: "Name or address of the server, `/dir` or `@name` for a unix socket, or several separated by commas, tried one at a time.",
		set: func(d *Database, v string) (string, error) {
			hosts := strings.Split(v, ",")
			for i, host := range hosts {
				if hosts[i] = strings.Trim(host, isspace); hosts[i] == "" {
					return "", fmt.Errorf("host: an empty host in the list %q", v)
				}
			}
			d.Host, d.Hosts = v, hosts
			return "", nil
		},
	},
	{
		name: "port", def: "5432", meaning: "Port of the server, also in the name of a unix socket.",
		set: func(d *Database, v string) (note string, err error) { d.Port, note, err = port(v); return },
	},
	text("user", "", "Every client's queries run as this user, in one pool.", func(d *Database) *string { return &d.User }),
	text("password", "", "Password of `user`; else the one in `auth_file`.", func(d *Database) *string { return &d.Password }),
	text("password_command", "", "pgweir's own: a shell command, run for each new server connection, whose output is the password; it is told `PGHOST`, `PGPORT`, `PGUSER` and `PGDATABASE`, and has `server_connect_timeout` to end.", func(d *Database) *string { return &d.PasswordCommand }),
	authText("auth_user", "User that runs `auth_query` for this database.", func(d *Database) *string { return &d.AuthUser }),
	authText("auth_query", "Query that looks up secrets for this database.", func(d *Database) *string { return &d.AuthQuery }),
	authText("auth_dbname", "Entry in which `auth_query` runs for this database.", func(d *Database) *string { return &d.AuthDBName }),
	count("pool_size", "`default_pool_size`", "Server connections of each pool; 0: without limit.", Inherit, func(d *Database) *int { return &d.PoolSize }),
	count("min_pool_size", "global", "Server connections that each pool in use keeps open.", Inherit, func(d *Database) *int { return &d.MinPoolSize }),
	count("reserve_pool_size", "global", "Further servers for clients that wait long.", Inherit, func(d *Database) *int { return &d.ReservePoolSize }),
	count("reserve_pool", "", "Old name of `reserve_pool_size`.", Inherit, func(d *Database) *int { return &d.ReservePoolSize }),
	text("connect_query", "", "Query run once on each new server; its errors are logged only.", func(d *Database) *string { return &d.ConnectQuery }),
	choice("pool_mode", "global", "When a server goes back to its pool.", func(d *Database) enum { return &d.PoolMode }),
	waitTimeout(func(d *Database) *time.Duration { return &d.QueryWaitTimeout }),
	choice("load_balance_hosts", "round-robin", "With several hosts: a new connection goes to the next one, or stays with one until it fails.", func(d *Database) enum { return &d.LoadBalanceHosts }),
	choice("target_session_attrs", "any", "pgweir's own: which servers will do: `any`, `read-write`, `read-only`, `primary`, `standby` or `prefer-standby` (a standby, or else any). The others are passed over, and left when they change.", func(d *Database) enum { return &d.TargetSessionAttrs }),
	count("max_db_connections", "global", "Server connections over all users; 0: as set globally.", 0, func(d *Database) *int { return &d.MaxDBConnections }),
	count("max_db_client_connections", "global", "Client connections; 0: as set globally.", 0, func(d *Database) *int { return &d.MaxDBClientConnections }),
	{
		name: "server_lifetime", def: "global", meaning: "Whole seconds after which unused servers are closed; 0: as set globally; negative: never.",
		set: func(d *Database, v string) (string, error) {
			n, note := number("server_lifetime", v)
			if d.ServerLifetime = time.Duration(n) * time.Second; n < 0 {
				d.ServerLifetime = Never
			}
			return note, nil
		},
	},
	{
		name: "plan", def: "global",
		meaning: "Plan that the entry's connections count against: see `[plans]`; `none`: no plan.",
		set:     func(d *Database, v string) (string, error) { d.plan = v; return "", nil },
	},
	text("client_encoding", "", "Sent to the server at login.", func(d *Database) *string { return &d.ClientEncoding }),
	text("datestyle", "", "Sent to the server at login.", func(d *Database) *string { return &d.DateStyle }),
	text("timezone", "", "Sent to the server at login.", func(d *Database) *string { return &d.TimeZone }),
	text("application_name", "", "Sent to the server at login.", func(d *Database) *string { return &d.ApplicationName }),
}

// text is a parameter taken as it stands.
func text[T any](name, def, meaning string, field func(*T) *string) param[T] {
	return param[T]{name: name, def: def, meaning: meaning, set: func(t *T, v string) (string, error) {
		*field(t) = v
		return "", nil
	}}
}

func authText(name, meaning string, field func(*Database) *string) param[Database] {
	return text(name, "global", meaning, field)
}

// count is a number; a negative one counts as unset.
func count[T any](name, def, meaning string, unset int, field func(*T) *int) param[T] {
	return param[T]{name: name, def: def, meaning: meaning, set: func(t *T, v string) (string, error) {
		n, note := number(name, v)
		if n < 0 {
			n = unset
		}
		*field(t) = n
		return note, nil
	}}
}

// timeout is a number of whole seconds, where 0 and less inherit.
func timeout[T any](name, meaning string, field func(*T) *time.Duration) param[T] {
	return param[T]{name: name, def: "global", meaning: meaning, set: func(t *T, v string) (string, error) {
		n, note := number(name, v)
		*field(t) = time.Duration(max(n, 0)) * time.Second
		return note, nil
	}}
}

// waitTimeout is query_wait_timeout, the one time in a connect string whose 0
// is a value. A negative one is no limit either.
func waitTimeout[T any](field func(*T) *time.Duration) param[T] {
	return timeout("query_wait_timeout", "Whole seconds that a query may wait for a server; 0: without limit.", field)
}

// choice is a name of an enumeration.
func choice[T any](name, def, meaning string, field func(*T) enum) param[T] {
	return param[T]{name: name, def: def, meaning: meaning, set: func(t *T, v string) (string, error) {
		if f := field(t); !f.parse(v) {
			return "", fmt.Errorf("%s: invalid value %q: must be %v", name, v, f.names())
		}
		return "", nil
	}}
}

// number reads a number as PgBouncer does, which drops what it can't read.
func number(name, v string) (n int, note string) {
	n, plain := atoi(v)
	if !plain {
		note = fmt.Sprintf("%s=%s counts as %d: not a whole number", name, v, n)
	}
	return n, note
}

func port(v string) (n int, note string, err error) {
	n, note = number("port", v)
	if n < 1 || n > 65535 {
		return 0, "", fmt.Errorf("invalid port: %s", v)
	}
	return n, note, nil
}

// checkDatabaseName returns an error for a name that can't be an entry.
func checkDatabaseName(name string) error {
	switch {
	case name == Console:
		return fmt.Errorf("database name %q is reserved", name)
	case len(name) > MaxDatabaseName:
		return fmt.Errorf("database name too long: %d bytes, at most %d", len(name), MaxDatabaseName)
	case strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("database name %q has a zero byte in it", name)
	}
	return nil
}
