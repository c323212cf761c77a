package admin

import (
	"strings"

	"github.com/pgweir/pgweir/wire"
)

// setting is a setting of Postgres that clients ask for or set by themselves,
// and what the console says it is.
type setting struct{ name, value string }

// postgresSettings are answered by SHOW, and ignored by SET with a NOTICE. The
// first five are PgBouncer's. None has the name of a pgweir setting
// (transaction_timeout is one, and is not here).
var postgresSettings = []setting{
	{"client_encoding", "UTF-8"},
	{"default_transaction_isolation", "read committed"},
	{"standard_conforming_strings", "on"},
	{"datestyle", "ISO"},
	{"timezone", "GMT"},

	{"application_name", ""},
	{"bytea_output", "hex"},
	{"client_min_messages", "notice"},
	{"default_transaction_read_only", "off"},
	{"extra_float_digits", "1"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
	{"in_hot_standby", "off"},
	{"intervalstyle", "postgres"},
	{"jit", "off"},
	{"lock_timeout", "0"},
	{"row_security", "on"},
	{"search_path", ""},
	{"session_authorization", ""},
	{"statement_timeout", "0"},
	{"synchronous_commit", "on"},
	{"transaction_isolation", "read committed"},
	{"transaction_read_only", "off"},
}

func postgresSetting(name string) (setting, bool) {
	for _, s := range postgresSettings {
		if strings.EqualFold(s.name, name) {
			return s, true
		}
	}
	return setting{}, false
}

// parseChatter understands what drivers and connection pools send on their own
// account: probes, transactions, and the clean-up after use. PgBouncer refuses
// all of it, so nobody relies on an answer, and with an answer drivers connect
// without options of their own.
func parseChatter(tokens []token) (p plan, ok bool) {
	var words []string
	for _, t := range tokens {
		switch t.kind {
		case bareWord, quotedWord:
			words = append(words, strings.TrimPrefix(strings.ToLower(t.text), "pg_catalog."))
		case sign:
			words = append(words, t.text)
		default:
			words = append(words, "'"+t.text+"'")
		}
	}
	said := strings.Join(words, " ")
	for i := range probes {
		if probes[i].query == said {
			return probes[i].plan(), true
		}
	}
	for _, c := range ignored {
		if said == c.words || strings.HasPrefix(said, c.words+" ") {
			return c.plan(), true
		}
	}
	return plan{}, false
}

// probe is a query that asks for one value.
type probe struct {
	query  string // its tokens, in small letters, with single spaces
	column string
	typ    oid
	answer func(s *session) value
}

func (p *probe) plan() plan {
	tag := "SELECT 1"
	if strings.HasPrefix(p.query, "show ") {
		tag = "SHOW"
	}
	return plan{
		columns: []column{{p.column, p.typ}},
		run: func(s *session, _ <-chan struct{}) (result, error) {
			return result{tag: tag, rows: []row{{p.answer(s)}}}, nil
		},
	}
}

// probes are what health checks, target_session_attrs and SQLAlchemy ask.
var probes = []probe{
	{"select 1", "?column?", oidInt4, func(*session) value { return number(1) }},
	{"select version ( )", "version", oidText, func(s *session) value {
		// SQLAlchemy wants a number behind the word PostgreSQL.
		return text("PostgreSQL 14.0 (not a server: the console of " + s.console.opts.Version + ")")
	}},
	{"select current_schema ( )", "current_schema", oidText, func(*session) value { return value{} }},
	{"select current_database ( )", "current_database", oidText, func(*session) value { return text("pgbouncer") }},
	{"select current_user", "current_user", oidText, func(s *session) value { return text(s.client.User) }},
	{"select session_user", "session_user", oidText, func(s *session) value { return text(s.client.User) }},
	{"select pg_advisory_unlock_all ( )", "pg_advisory_unlock_all", oidText, func(*session) value { return text("") }},
	{"show transaction isolation level", "transaction_isolation", oidText, func(*session) value { return text("read committed") }},
}

// noise is a command that would mean something to a server and means nothing
// to the console.
type noise struct {
	words  string // how it starts, in small letters
	tag    string
	status wire.TxStatus // what it leaves the session in; 0 leaves it as it is
}

// plan of a noise: transactions are played along with, the rest is done with a
// NOTICE.
func (n noise) plan() plan {
	return plan{run: func(s *session, _ <-chan struct{}) (result, error) {
		r := result{tag: n.tag}
		if n.status != 0 {
			s.status = n.status
		} else {
			r.notice = n.tag + " ignored"
		}
		return r, nil
	}}
}

var ignored = []noise{
	{"begin", "BEGIN", wire.TxOpen},
	{"start transaction", "START TRANSACTION", wire.TxOpen},
	{"commit", "COMMIT", wire.TxIdle},
	{"end", "COMMIT", wire.TxIdle},
	{"rollback", "ROLLBACK", wire.TxIdle},
	{"abort", "ROLLBACK", wire.TxIdle},
	{"close all", "CLOSE CURSOR ALL", 0},
	{"deallocate", "DEALLOCATE", 0},
	{"discard", "DISCARD", 0},
	{"reset", "RESET", 0},
	{"set names", "SET", 0},
	{"set session characteristics", "SET", 0},
	{"set time zone", "SET", 0},
	{"unlisten", "UNLISTEN", 0},
}
