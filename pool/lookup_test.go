package pool_test

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// lookups is a world whose auth_query is asked as alice.
func lookups(t *testing.T, more string) *world {
	t.Helper()
	return newWorld(t, "auth_type = plain\npool_mode = transaction\nauth_user = alice\nauth_query = select who\n"+more, "app = host=db\nother = host=db")
}

// row is a row of an auth_query's result; "-" stands for NULL.
func row(columns ...string) []byte {
	b, at := wire.Begin(nil, wire.DataRow)
	b = binary.BigEndian.AppendUint16(b, uint16(len(columns)))
	for _, v := range columns {
		if v == "-" {
			b = binary.BigEndian.AppendUint32(b, 1<<32-1)
			continue
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
	}
	return wire.End(b, at)
}

// result is the reply to an auth_query with that many columns.
func result(columns int, rows ...[]byte) []byte {
	b := []byte("1\x00\x00\x00\x042\x00\x00\x00\x04")
	b, at := wire.Begin(b, wire.RowDescription)
	b = binary.BigEndian.AppendUint16(b, uint16(columns))
	for range columns {
		b = append(append(b, "c\x00"...), make([]byte, 18)...)
	}
	b = wire.End(b, at)
	for _, r := range rows {
		b = append(b, r...)
	}
	return wire.AppendReadyForQuery(wire.AppendCommandComplete(b, "SELECT 1"), wire.TxIdle)
}

// lastConn is the socket that was attached last.
func (w *world) lastConn() *fakeConn { return w.loop.conns[len(w.loop.conns)-1] }

// asked takes what a server was asked.
func (c *fakeConn) asked() string {
	out := string(c.out)
	c.out = nil
	return out
}

// reply sends b from the server.
func (w *world) reply(server *fakeConn, b []byte) {
	server.in = append(server.in, b...)
	w.settle()
}

func TestAuthQuery(t *testing.T) {
	w := lookups(t, "")
	c := w.connect().startup("user", "nina", "database", "app", "application_name", "mine")
	if got := w.dialer.asked[0].User; got != "alice" {
		t.Fatalf("auth_query runs as %q", got)
	}
	w.serve()
	server := w.lastConn()
	asked := server.asked()
	if want := "P\x00\x00\x00\x12\x00select who\x00\x00\x00B"; !strings.HasPrefix(asked, want) || !strings.Contains(asked, "\x00\x00\x00\x04nina") {
		t.Fatalf("the server was asked %q", asked)
	}
	server.bytewise = true
	w.reply(server, result(2, row("wrong", "row"), row("nina", "anin")))
	server.bytewise = false

	// Another one asks nothing, and neither do those who come later.
	d := w.connect().startup("user", "nina", "database", "app")
	d.answer("anin\x00")
	c.answer("anin\x00")
	if got := w.dialer.asked[1]; got.User != "nina" || len(w.dialer.asked) > 3 {
		t.Fatalf("logs in to servers as %q, %d times", got.User, len(w.dialer.asked)-1)
	}
	for len(w.dialer.done) > 0 {
		w.serve()
	}
	c.wantWelcome()
	d.wantWelcome()
	if asked := server.asked(); asked != "" {
		t.Errorf("the server was asked again: %q", asked)
	}

	// A wrong password has the next login ask anew, and so has time.
	ask := func() {
		t.Helper()
		e := w.connect().startup("user", "nina", "database", "app")
		if !strings.Contains(server.asked(), "nina") {
			t.Fatal("the server was not asked")
		}
		w.reply(server, result(2, row("nina", "anin")))
		e.answer("nope\x00").read()
	}
	w.connect().startup("user", "nina", "database", "app").answer("nope\x00").wantError("password authentication failed")
	ask()
	ask()
	w.connect().startup("user", "nina", "database", "app")
	w.reply(server, result(2, row("nina", "anin")))
	server.asked()
	w.connect().startup("user", "nina", "database", "app")
	if asked := server.asked(); asked != "" {
		t.Errorf("asked %q within auth_query_cache", asked)
	}
	w.pass(2 * time.Second)
	w.connect().startup("user", "nina", "database", "app")
	if !strings.Contains(server.asked(), "nina") {
		t.Error("auth_query_cache is over, and the server was not asked")
	}
	w.reply(server, result(2, row("nina", "anin")))
}

// TestAuthQuerySingleFlight has a storm of logins ask once.
func TestAuthQuerySingleFlight(t *testing.T) {
	w := lookups(t, "auth_query_cache = 0\nmax_client_conn = 4")
	var clients []*client
	for range 4 {
		clients = append(clients, w.connect().startup("user", "nina", "database", "app"))
	}
	w.serve()
	server := w.lastConn()
	if n := strings.Count(server.asked(), "select who"); n != 1 {
		t.Fatalf("%d logins asked %d times", len(clients), n)
	}
	w.reply(server, result(2, row("nina", "anin")))
	for _, c := range clients {
		if got := types(c.read()); got != "R" {
			t.Errorf("got %q, want a request for the password", got)
		}
	}
}

// errorReply is an ErrorResponse with that body, and what follows it.
func errorReply(body string) []byte {
	return wire.AppendReadyForQuery(request(wire.ErrorResponse, []byte(body)), wire.TxIdle)
}

// TestBareErrors: an error that lacks what every error has is one, for
// pgweir's own queries as for clients.
func TestBareErrors(t *testing.T) {
	for _, body := range []string{"SERROR\x00Mno\x00\x00", "\x00", "S"} {
		s, c := newStage(t, "server_reset_query = DISCARD ALL\nserver_reset_query_always = 1")
		c.send(wire.AppendQuery(nil, "select 1"))
		s.asked(wire.AppendQuery(nil, "select 1"))
		s.answers(errorReply(body))
		c.gets(errorReply(body))
		s.asked(wire.AppendQuery(nil, "DISCARD ALL"))
		s.answers(errorReply(body))
		if !s.server.closed || !s.log.has("reset query failed") {
			t.Errorf("%q: the server goes on: %q", body, s.log)
		}
	}
}

// TestAuthQueryAnswers shows what each answer comes to.
func TestAuthQueryAnswers(t *testing.T) {
	failure := wire.AppendError([]byte("1\x00\x00\x00\x04"), wire.Fields{Severity: "ERROR", Code: "42P01", Message: "no such thing"})
	failure = wire.AppendReadyForQuery(failure, wire.TxIdle)
	for _, tt := range []struct {
		name   string
		reply  []byte
		want   string
		logged string
	}{
		{"no row", result(2), "password authentication failed", "no such user: nina"},
		{"NULL secret", result(2, row("nina", "-")), "password authentication failed", ""},
		{"empty secret", result(2, row("nina", "")), "password authentication failed", ""},
		{"NULL name", result(2, row("-", "anin")), "password authentication failed", "no such user: nina"},
		{"NULL name, last", result(2, row("nina", "anin"), row("-", "-")), "password authentication failed", "no such user: nina"},
		{"empty name", result(2, row("", "anin")), "bouncer config error", "has 0 bytes"},
		{"long name", result(2, row(strings.Repeat("n", 128), "anin")), "bouncer config error", "has 128 bytes"},
		{"one column", result(1, row("nina")), "bouncer config error", "it returns 1 columns"},
		{"three columns", result(3, row("nina", "anin", "x")), "bouncer config error", "it returns 3 columns"},
		{"no SELECT", append([]byte("1\x00\x00\x00\x042\x00\x00\x00\x04n\x00\x00\x00\x04"), wire.AppendReadyForQuery(wire.AppendCommandComplete(nil, "LISTEN"), wire.TxIdle)...), "bouncer config error", "it returns 0 columns"},
		{"an error without a SQLSTATE", errorReply("SERROR\x00Mno such thing\x00\x00"), "bouncer config error", "the server says: no such thing"},
		{"an error that says nothing", errorReply("\x00"), "bouncer config error", "auth_query about user \"nina\""},
		{"an error, cut off", errorReply("SERROR\x00C4"), "bouncer config error", "auth_query about user \"nina\""},
		{"an error", failure, "bouncer config error", "the server says: no such thing"},
		{"the right one", result(2, row("nina", "anin")), "", ""},
		{"another name", result(2, row("alice", "anin")), "", "alice@"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := lookups(t, "")
			c := w.connect().startup("user", "nina", "database", "app")
			w.serve()
			w.reply(w.lastConn(), tt.reply)
			if !c.closed {
				c.answer("anin\x00")
			}
			if tt.want != "" {
				c.wantError(tt.want)
			} else if n := len(w.dialer.done); n > 0 {
				w.serve()
				c.wantWelcome()
			} else {
				c.wantWelcome() // alice's pool has a server already
			}
			if !w.log.has(tt.logged) {
				t.Errorf("the log does not say %q: %q", tt.logged, w.log)
			}
		})
	}
}

// TestAuthQueryWhere shows where it is asked, and when not.
func TestAuthQueryWhere(t *testing.T) {
	for _, tt := range []struct {
		name, main, databases, user, database string
		want                                  string // the database and user of the server, or what the client is told
		told                                  bool
	}{
		{"own database", "auth_user = alice", "app = host=db dbname=real", "nina", "app", "real alice", false},
		{"global auth_dbname", "auth_user = alice\nauth_dbname = other", "app = host=db\nother = host=db dbname=elsewhere", "nina", "app", "elsewhere alice", false},
		{"per database", "auth_user = alice\nauth_dbname = other", "app = host=db auth_user=watch auth_dbname=third\nthird = host=db", "nina", "app", "third watch", false},
		{"from the template", "auth_user = alice", "* = host=db", "nina", "auto", "auto alice", false},
		{"the console", "auth_user = alice\nauth_dbname = app", "app = host=db", "nina", "pgbouncer", "app alice", false},
		{"the console, in itself", "auth_user = alice", "app = host=db", "nina", "pgbouncer", "bouncer config error", true},
		{"the console's name", "auth_user = alice", "app = host=db auth_dbname=pgbouncer", "nina", "app", "bouncer config error", true},
		{"not configured", "auth_user = alice\nauth_dbname = none", "app = host=db", "nina", "app", "bouncer config error", true},
		{"unknown database", "auth_user = alice", "app = host=db", "nina", "none", "", false},
		{"known user", "auth_user = alice", "app = host=db", "alice", "app", "", false},
		{"known by [users] alone", "auth_user = alice\n[users]\nnina = pool_mode=session", "app = host=db", "nina", "app", "app alice", false},
		{"LDAP", "auth_user = alice\nauth_type = ldap\nauth_ldap_options = ldapserver=x ldapprefix=y", "app = host=db", "nina", "app", "", false},
		{"no auth_user", "", "app = host=db", "nina", "app", "", false},
		{"any", "auth_user = alice\nauth_type = any", "app = host=db user=alice", "nina", "app", "app alice", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.main, tt.databases)
			c := w.connect().startup("user", tt.user, "database", tt.database)
			if tt.told {
				c.wantError(tt.want)
				return
			}
			got := ""
			if len(w.dialer.asked) > 0 {
				got = w.dialer.asked[0].Params[0][1] + " " + w.dialer.asked[0].User
			}
			if got != tt.want {
				t.Errorf("asked %q, want %q", got, tt.want)
			}
		})
	}
}

// TestAuthQueryNowhere: what the client and the log are told when it can't be
// asked.
func TestAuthQueryNowhere(t *testing.T) {
	for _, tt := range []struct{ authDB, want, logged string }{
		{"none", "bouncer config error", `authentication database "none" is not configured.`},
		{"other", "bouncer config error", `authentication database "other" is disabled`},
		{"pgbouncer", "bouncer config error", `cannot use the reserved "pgbouncer" database as an auth_dbname`},
	} {
		w := newWorld(t, "auth_user = alice", "app = host=db auth_dbname="+tt.authDB+"\nother = host=db")
		w.p.SetDisabled("other", true)
		w.connect().startup("user", "nina", "database", "app").wantError(tt.want)
		if !w.log.has(tt.logged) {
			t.Errorf("%s: %q", tt.authDB, w.log)
		}
	}
}

// TestAuthQueryKeys: a name may have another secret in each database. What a
// login by SCRAM has proved of one is not taken for the other's.
func TestAuthQueryKeys(t *testing.T) {
	w := lookups(t, "auth_type = scram-sha-256\nauth_query_cache = 3600")
	databases := []string{"app", "other"}
	var clients []*client
	var proved []auth.Keys
	last := func(what string) dial.Request {
		t.Helper()
		r := w.dialer.asked[len(w.dialer.asked)-1]
		if r.User != "nina" || r.Secret.Kind() != auth.KindSCRAM || r.Keys == nil {
			t.Fatalf("%s: logs in as %s with %v, %v", what, r.User, r.Secret, r.Keys)
		}
		return r
	}
	for _, database := range databases {
		c := w.connect().startup("user", "nina", "database", database)
		w.serve()
		w.reply(w.lastConn(), result(2, row("nina", scramSecret("anin", database))))
		c.authenticate("nina", "anin")
		proved = append(proved, *last(database).Keys)
		w.serve()
		c.wantWelcome()
		clients = append(clients, c)
	}
	for i, database := range databases {
		if err := w.p.Reconnect(database); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Second) // the idle ones are closed
		clients[i].send(wire.AppendQuery(nil, "select 1"))
		if *last(database).Keys != proved[i] {
			t.Errorf("%s: logs in with the keys of another secret", database)
		}
		w.serve()
	}
}

// scramSecret is password as a server stores it.
func scramSecret(password, salt string) string {
	const iterations = 16
	salted, err := pbkdf2.Key(sha256.New, password, []byte(salt), iterations, sha256.Size)
	if err != nil {
		panic(err)
	}
	sum := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored, b64 := sha256.Sum256(sum("Client Key")), base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64([]byte(salt)), b64(stored[:]), b64(sum("Server Key")))
}

// TestAuthQueryLeaves shows that nobody's lookup waits for nobody.
func TestAuthQueryLeaves(t *testing.T) {
	w := lookups(t, "")
	c := w.connect().startup("user", "nina", "database", "app")
	d := w.connect().startup("user", "nina", "database", "app")
	c.leave()
	w.serve()
	server := w.lastConn()
	if !strings.Contains(server.asked(), "nina") {
		t.Fatal("the lookup ended while one still waits for it")
	}
	d.leave()
	w.pass(time.Second)
	if server.closed {
		t.Error("a server was closed because its asker left")
	}
	e := w.connect().startup("user", "otto", "database", "app")
	w.pass(5 * time.Second)
	if !server.closed {
		t.Error("a server is kept by a lookup that nobody waits for")
	}
	w.wantRecalled(1)
	e.leave()
	w.serve()
	if asked := w.lastConn().asked(); strings.Contains(asked, "who") {
		t.Errorf("the server was asked %q for nobody", asked)
	}
}

// TestAuthQueryTimeout shows that a server that does not answer keeps nobody
// for longer than a login may take.
func TestAuthQueryTimeout(t *testing.T) {
	w := lookups(t, "client_login_timeout = 3")
	c := w.connect().startup("user", "nina", "database", "app")
	w.serve()
	w.pass(4 * time.Second)
	c.wantError("client_login_timeout")
	if !w.lastConn().closed {
		t.Error("the server with the query on it stays open")
	}
	w.wantRecalled(1)
}

// wantRecalled checks that n auth_queries were cancelled, each on its own server.
func (w *world) wantRecalled(n int) {
	w.t.Helper()
	if len(w.dialer.sent) != n {
		w.t.Errorf("cancelled %q, want %d", w.dialer.sent, n)
	}
	for _, sent := range w.dialer.sent {
		if sent != "10.0.0.1:5432 0000000000000000" {
			w.t.Errorf("cancelled %q", sent)
		}
	}
}

// TestAuthQueryGivenUp ends an auth_query that does not answer in each way that
// there is: Postgres is told, and the end of the process waits for that.
func TestAuthQueryGivenUp(t *testing.T) {
	stop := func(mode pool.ShutdownMode) func(w *world, c *client) {
		return func(w *world, c *client) {
			w.p.Shutdown(mode)
			c.leave()
			w.pass(time.Second)
		}
	}
	for _, tt := range []struct {
		name, main string
		end        func(w *world, c *client)
		stops      bool
	}{
		{"client_login_timeout", "client_login_timeout = 3", func(w *world, _ *client) { w.pass(4 * time.Second) }, false},
		{"nobody waits", "", func(w *world, c *client) { c.leave(); w.pass(6 * time.Second) }, false},
		{"query_timeout", "query_timeout = 3", func(w *world, _ *client) { w.pass(4 * time.Second) }, false},
		{"KILL", "", func(w *world, _ *client) { w.outside(func() { w.p.Kill("app") }); w.pass(time.Second) }, false},
		{"shutdown", "", stop(pool.ShutdownWaitForClients), true},
		{"drain", "", stop(pool.ShutdownDrain), true},
		{"the grace is over", "sigterm_grace = 0", func(w *world, _ *client) { w.p.Shutdown(pool.ShutdownDrain); w.pass(time.Second) }, true},
		{"no connection", "client_login_timeout = 3", func(w *world, _ *client) {
			w.dialer.fails = errors.New("no way there")
			w.pass(4 * time.Second)
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stopped := false
			w := newWorldWith(t, "auth_type = plain\npool_mode = transaction\nauth_user = alice\nauth_query = select who\n"+tt.main, "",
				func(o *pool.Options) { o.Stop = func() { stopped = true } })
			w.dialer.hold = true
			c := w.connect().startup("user", "nina", "database", "app")
			w.serve()
			server := w.lastConn()
			server.asked()
			tt.end(w, c)
			if !server.closed || len(w.dialer.held) != 1 {
				t.Fatalf("closed: %v, %d to be cancelled", server.closed, len(w.dialer.held))
			}
			if got := server.asked(); got != "X\x00\x00\x00\x04" {
				t.Errorf("the server hears %q", got)
			}
			if stopped {
				t.Error("the process ended before that was told")
			}
			w.dialer.held[0]()
			w.settle()
			if w.dialer.fails == nil {
				w.wantRecalled(1)
			} else if !w.log.has("failed to cancel an auth_query that was given up: no way there") {
				t.Errorf("the log is %q", w.log)
			}
			if stopped != tt.stops {
				t.Errorf("the process has ended: %v", stopped)
			}
		})
	}
}

// TestAuthQueryAgain: who comes in the moment in which a question is given up,
// for nobody waits for its answer any more, has it asked again.
func TestAuthQueryAgain(t *testing.T) {
	w := lookups(t, "")
	first, second := w.connect().startup("user", "nina", "database", "app"), w.connect()
	first.closed = true
	first.handler.Closed(nil)
	second.handler.Data(startup(3<<16, "user", "nina", "database", "app")) // before the loop has come to anything else
	w.settle()
	if all := second.peek(); len(all) > 0 || second.closed {
		t.Fatalf("told %q", all)
	}
	w.serve()
	w.reply(w.lastConn(), result(2, row("nina", "anin")))
	second.answer("anin\x00")
	for len(w.dialer.done) > 0 {
		w.serve()
	}
	second.wantWelcome()
}
