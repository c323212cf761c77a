package pool_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// methods are the values of auth_type that ask for a password.
var methods = []string{"plain", "md5", "scram-sha-256"}

// TestLogin logs in by each method, with the bytes in any pieces: the first
// client of a pool hears what a server says, the next ones what it said.
func TestLogin(t *testing.T) {
	for _, method := range append(methods, "trust", "any") {
		for _, bytewise := range []bool{false, true} {
			w := newWorld(t, "auth_type = "+method, "app = host=db user=alice")
			c := w.connect()
			c.bytewise = bytewise
			c.startup("user", "alice", "database", "app").authenticate("alice", "ecila")
			if len(c.read()) > 0 {
				t.Fatalf("%s: welcome without a server", method)
			}
			w.serve()
			all := c.wantWelcome()
			if got := types(all); got != "RSSSSSSSSSKZ" {
				t.Errorf("%s: welcome %q", method, got)
			}
			if v := param(all, "server_version"); v != "18.0" {
				t.Errorf("%s: server_version %q", method, v)
			}
			if v := param(all, "pgbouncer.pool_mode"); v != "session" {
				t.Errorf("%s: pgbouncer.pool_mode %q", method, v)
			}
			next := w.connect()
			next.bytewise = bytewise
			next.startup("user", "alice", "database", "app", "TimeZone", "Asia/Tokyo").authenticate("alice", "ecila")
			if v := param(next.wantWelcome(), "TimeZone"); v != "Asia/Tokyo" {
				t.Errorf("%s: TimeZone %q", method, v)
			}
			if !w.log.has("login attempt: db=app user=alice tls=no") {
				t.Errorf("%s: the log lacks the login attempt", method)
			}
		}
	}
}

func TestDuringTheExchange(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"a Query", "Q\x00\x00\x00\x05\x00", ""},
		{"a Terminate", "X\x00\x00\x00\x04", ""},
		{"length 2^31", "p\x80\x00\x00\x00", "bad packet header: '7080000000'"},
		{"length minus one", "p\xff\xff\xff\xff", "bad packet header: '70ffffffff'"},
		{"one byte too long", "p\x00\x01\x00\x05", "bad packet header: '7000010005'"},
		{"length three", "p\x00\x00\x00\x03", "bad packet header: '7000000003'"},
		{"empty password", "p\x00\x00\x00\x05\x00", "empty password returned by client"},
		{"no end of the password", "p\x00\x00\x00\x09ecila", "password authentication failed"},
		{"wrong password", "p\x00\x00\x00\x0aalice\x00", "password authentication failed"},
		{"longest password", "p\x00\x01\x00\x04" + strings.Repeat("x", 65535) + "\x00", "password authentication failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "auth_type = plain", "")
			c := w.connect().startup("user", "alice", "database", "app")
			c.read()
			if c.send([]byte(tt.in)); tt.want == "" {
				c.wantSilence()
			} else {
				c.wantError(tt.want)
			}
		})
	}
}

func TestSASL(t *testing.T) {
	const first = "SCRAM-SHA-256\x00\x00\x00\x00\x0en,,n=,r=abcdef"
	for _, tt := range []struct {
		name string
		in   []string // one answer after the other
		want string
	}{
		{"another mechanism", []string{"SCRAM-SHA-256-PLUS\x00\x00\x00\x00\x0en,,n=,r=abcdef"}, "client selected an invalid SASL authentication mechanism"},
		{"length of 2^31", []string{"SCRAM-SHA-256\x00\x80\x00\x00\x0en,,n=,r=abcdef"}, "SASL authentication failed"},
		{"channel binding", []string{"SCRAM-SHA-256\x00\x00\x00\x00\x19p=tls-unique,,n=,r=abcdef"}, "SASL authentication failed"},
		{"final without a nonce", []string{first, "c=biws,p=" + strings.Repeat("A", 43) + "="}, "SASL authentication failed"},
		{"final with half the nonce", []string{first, "c=biws,r=abcdef,p=" + strings.Repeat("A", 43) + "="}, "SASL authentication failed"},
		{"empty final", []string{first, ""}, "SASL authentication failed"},
	} {
		for _, user := range []string{"alice", "nobody"} {
			t.Run(tt.name+" "+user, func(t *testing.T) {
				w := newWorld(t, "auth_type = scram-sha-256", "")
				c := w.connect().startup("user", user, "database", "app")
				for _, body := range tt.in {
					c.answer(body)
				}
				c.wantError(tt.want)
			})
		}
	}
}

// TestUnknownUser sees no difference between a user that there is not, one that
// has no password, and a wrong password.
func TestUnknownUser(t *testing.T) {
	for _, method := range methods {
		refusal := "password authentication failed"
		if method == "scram-sha-256" {
			refusal = "SASL authentication failed"
		}
		for _, user := range []string{"alice", "nobody", "empty"} {
			for _, database := range []string{"app", "nope", "pgbouncer"} {
				t.Run(method+" "+user+" "+database, func(t *testing.T) {
					w := newWorld(t, "auth_type = "+method, "")
					c := w.connect().startup("user", user, "database", database)
					if got := types(c.peek()); got != "R" {
						t.Fatalf("the exchange begins with %q", got)
					}
					c.authenticate(user, "wrong").wantError(refusal)
					if w.log.has("no such user: ") != (user == "nobody") {
						t.Errorf("the log: %q", w.log)
					}
				})
			}
		}
	}
	t.Run("trust", func(t *testing.T) {
		w := newWorld(t, "auth_type = trust", "")
		w.connect().startup("user", "nobody", "database", "app").wantError(`"trust" authentication failed`)
		if !w.log.has("no such user: nobody") {
			t.Errorf("the log: %q", w.log)
		}
	})
	t.Run("the same salt each time", func(t *testing.T) {
		w := newWorld(t, "auth_type = scram-sha-256", "")
		salt := func(user string) string {
			c := w.connect().startup("user", user, "database", "app").answer("SCRAM-SHA-256\x00\x00\x00\x00\x0en,,n=,r=abcdef")
			all := c.read()
			_, s, _ := strings.Cut(all[len(all)-1].body, ",s=")
			return s
		}
		if a, b := salt("nobody"), salt("nobody"); a != b || len(a) < 16 {
			t.Errorf("%q, then %q: a user that is known has one", a, b)
		}
		if a, b := salt("nobody"), salt("noone"); a == b {
			t.Errorf("%q for two", a)
		}
	})
}

// TestUnknownDatabase is told to nobody who has not proved who it is.
func TestUnknownDatabase(t *testing.T) {
	for _, method := range append(methods, "trust") {
		t.Run(method, func(t *testing.T) {
			w := newWorld(t, "auth_type = "+method, "")
			w.connect().startup("user", "alice", "database", "nope").authenticate("alice", "ecila").wantError("no such database: nope")
			if err := w.p.SetDisabled("app", true); err != nil {
				t.Fatal(err)
			}
			w.connect().startup("user", "alice", "database", "app").authenticate("alice", "ecila").wantError(`database "app" is disabled`)
			if err := w.p.SetDisabled("app", false); err != nil {
				t.Fatal(err)
			}
			c := w.connect().startup("user", "alice", "database", "app").authenticate("alice", "ecila")
			w.serve()
			c.wantWelcome()
		})
	}
}

// TestAutoDatabase makes databases from "*" for those only who have proved who
// they are.
func TestAutoDatabase(t *testing.T) {
	w := newWorld(t, "auth_type = scram-sha-256", "* = host=db")
	w.connect().startup("user", "alice", "database", "new").authenticate("alice", "wrong").wantError("SASL authentication failed")
	w.connect().startup("user", "nobody", "database", "new").authenticate("nobody", "wrong").wantError("SASL authentication failed")
	if w.log.has("registered new auto-database") {
		t.Errorf("made for nobody: %q", w.log)
	}
	c := w.connect().startup("user", "alice", "database", "new").authenticate("alice", "ecila")
	w.serve()
	c.wantWelcome()
	if !w.log.has("registered new auto-database: new") {
		t.Errorf("not made: %q", w.log)
	}
	if got := w.dialer.asked[0].Params[0]; got != [2]string{"database", "new"} {
		t.Errorf("logs in to %q", got)
	}
}

func TestClientLimits(t *testing.T) {
	login := func(w *world, user, database string) *client {
		c := w.connect().startup("user", user, "database", database)
		for len(w.dialer.done) > 0 {
			w.serve()
		}
		return c
	}
	t.Run("max_client_conn", func(t *testing.T) {
		w := newWorld(t, "auth_type = trust\nmax_client_conn = 2", "")
		first := login(w, "alice", "app")
		first.wantWelcome()
		login(w, "alice", "app").wantWelcome()
		login(w, "alice", "app").wantError("no more connections allowed (max_client_conn)")
		login(w, "admin", "pgbouncer").wantWelcome()
		login(w, "watch", "pgbouncer").wantWelcome()
		first.leave()
		login(w, "alice", "app").wantWelcome()
	})
	t.Run("max_db_client_connections", func(t *testing.T) {
		w := newWorld(t, "auth_type = trust\nmax_db_client_connections = 2", "app = host=db\nbig = host=db max_db_client_connections=3\nauto_is_none = host=db\n* = host=db")
		first := login(w, "alice", "app")
		first.wantWelcome()
		login(w, "admin", "app").wantWelcome()
		login(w, "alice", "app").wantError("client connections exceeded (max_db_client_connections)")
		first.leave()
		login(w, "alice", "app").wantWelcome()
		for range 3 {
			login(w, "alice", "big").wantWelcome()
		}
		login(w, "alice", "big").wantError("client connections exceeded (max_db_client_connections)")
		for range 2 {
			login(w, "alice", "auto").wantWelcome()
		}
		login(w, "alice", "auto").wantError("client connections exceeded (max_db_client_connections)")
		login(w, "watch", "pgbouncer").wantWelcome()
		for range 3 {
			login(w, "admin", "pgbouncer").wantWelcome() // whom no limit keeps out
		}
		login(w, "watch", "pgbouncer").wantError("client connections exceeded (max_db_client_connections)")
		for _, db := range w.p.Databases() {
			if db.Name == "pgbouncer" && (db.CurrentClientConnections != 4 || db.MaxClientConnections != 2) {
				t.Errorf("the console has %d clients of %d, want 4 of 2", db.CurrentClientConnections, db.MaxClientConnections)
			}
		}
	})
	t.Run("max_user_client_connections", func(t *testing.T) {
		w := newWorld(t, "auth_type = trust\nmax_user_client_connections = 2\n[users]\nwatch = max_user_client_connections=1", "app = host=db user=alice\n* = host=db")
		first := login(w, "alice", "app")
		first.wantWelcome()
		login(w, "alice", "one").wantWelcome()
		login(w, "alice", "app").wantError("client connections exceeded (max_user_client_connections)")
		login(w, "alice", "two").wantError("client connections exceeded (max_user_client_connections)") // which is not made
		login(w, "watch", "app").wantWelcome()
		login(w, "watch", "app").wantError("client connections exceeded (max_user_client_connections)")
		login(w, "watch", "pgbouncer").wantError("client connections exceeded (max_user_client_connections)")
		first.leave()
		login(w, "alice", "app").wantWelcome()
		for range 3 {
			login(w, "admin", "pgbouncer").wantWelcome() // whom no limit keeps out
		}
		login(w, "admin", "app").wantError("client connections exceeded (max_user_client_connections)")
		for _, u := range w.p.Users() {
			if u.Name == "admin" && u.CurrentClientConnections != 3 {
				t.Errorf("admin has %d connections, want 3", u.CurrentClientConnections)
			}
		}
	})
	t.Run("those who are logging in count", func(t *testing.T) {
		w := newWorld(t, "auth_type = md5\nmax_db_client_connections = 1", "")
		first := w.connect().startup("user", "nobody", "database", "app")
		first.read()
		w.connect().startup("user", "alice", "database", "app").wantError("client connections exceeded (max_db_client_connections)")
		first.leave()
		if w.connect().startup("user", "alice", "database", "app").closed {
			t.Error("the place stays taken")
		}
	})
}

func TestLoginTimeout(t *testing.T) {
	w := newWorld(t, "auth_type = md5\nclient_login_timeout = 10", "")
	silent := w.connect()
	halfway := w.connect().startup("user", "alice", "database", "app")
	halfway.read()
	waiting := w.connect().startup("user", "alice", "database", "app").authenticate("alice", "ecila")
	console := w.connect().startup("user", "admin", "database", "pgbouncer").authenticate("admin", "nimda")
	w.pass(10 * time.Second)
	for _, c := range []*client{silent, halfway, waiting, console} {
		if c.closed {
			t.Fatal("closed too early")
		}
	}
	w.pass(time.Millisecond)
	silent.wantError("client_login_timeout")
	halfway.wantError("client_login_timeout")
	waiting.wantErrorDetail("client_login_timeout (server down)",
		`Waited 10.0 s for a server connection of pool "app/alice": one is being opened.`)
	console.wantWelcome()
}

func TestConsoleAccess(t *testing.T) {
	for _, tt := range []struct {
		name           string
		method         string
		from           wire.Socket
		user, password string
		want           string // the refusal, "" for none
		admin          bool
	}{
		{"same uid", "scram-sha-256", unix(1000), "pgbouncer", "", "", true},
		{"another uid", "scram-sha-256", unix(1001), "pgbouncer", "x", "SASL authentication failed", false},
		{"unknown uid", "trust", unix(-1), "pgbouncer", "", `"trust" authentication failed`, false},
		{"uid over TCP", "trust", wire.Socket{Remote: tcp.Remote, Local: tcp.Local, PeerUID: 1000}, "pgbouncer", "", `"trust" authentication failed`, false},
		{"the name over TCP", "trust", tcp, "pgbouncer", "", `"trust" authentication failed`, false},
		{"same uid, another name", "trust", unix(1000), "alice", "", "not allowed", false},
		{"admin", "md5", tcp, "admin", "nimda", "", true},
		{"admin, wrong password", "md5", tcp, "admin", "x", "password authentication failed", false},
		{"stats", "plain", tcp, "watch", "hctaw", "", false},
		{"neither", "plain", tcp, "alice", "ecila", "not allowed", false},
		{"admin, trust", "trust", tcp, "admin", "", "", true},
		{"neither, trust", "trust", tcp, "alice", "", "not allowed", false},
		{"any, admin", "any", tcp, "admin", "", "", true},
		{"any, stats", "any", tcp, "watch", "", "", false},
		{"any, whoever", "any", tcp, "nobody", "", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "auth_type = "+tt.method, "")
			c := w.connectFrom(tt.from).startup("user", tt.user, "database", "pgbouncer", "TimeZone", "UTC")
			c.authenticate(tt.user, tt.password)
			if tt.want != "" {
				c.wantError(tt.want)
				if len(w.opened) > 0 {
					t.Error("a session was opened")
				}
				return
			}
			c.wantWelcome()
			got := w.opened[0]
			if got.User != tt.user || got.Admin != tt.admin {
				t.Errorf("user %q, admin %v", got.User, got.Admin)
			}
			if len(got.Params) != 1 || got.Params[0] != [2]string{"TimeZone", "UTC"} {
				t.Errorf("parameters %q", got.Params)
			}
			if access := w.log.has("pgbouncer access from unix socket"); access != (tt.name == "same uid") {
				t.Errorf("the log: %q", w.log)
			}
			if len(w.dialer.asked) > 0 {
				t.Error("a server is opened for the console")
			}
		})
	}
}

func TestLoginWhileStopping(t *testing.T) {
	w := newWorld(t, "auth_type = trust", "")
	stays := w.connect().startup("user", "alice", "database", "app")
	w.serve()
	stays.wantWelcome()
	early := w.connect()
	local := w.connectFrom(unix(1000))
	w.p.Shutdown(pool.ShutdownWaitForClients)
	early.startup("user", "alice", "database", "app").wantWelcome() // before the listeners were closed
	local.startup("user", "alice", "database", "app").wantError("pooler is shutting down")
	w.connect().startup("user", "alice", "database", "app").wantError("pooler is shutting down")
	w.connect().startup("user", "admin", "database", "pgbouncer").wantWelcome()
}

func TestAnyNeedsForcedUser(t *testing.T) {
	w := newWorld(t, "auth_type = any", "app = host=db\nforced = host=db user=alice")
	w.connect().startup("user", "whoever", "database", "app").wantError("bouncer config error")
	c := w.connect().startup("user", "whoever", "database", "forced")
	w.serve()
	c.wantWelcome()
	if got := w.dialer.asked[0].User; got != "alice" {
		t.Errorf("logs in to the server as %q", got)
	}
}

// TestPAM has PAM judge, which also knows users that are in no file.
func TestPAM(t *testing.T) {
	asked := ""
	judge := func(user, password, host string) error {
		asked = user + " " + password + " " + host
		if password != "tulip" {
			return errors.New("no")
		}
		return nil
	}
	for name, judge := range map[string]func(string, string, string) error{"with": judge, "without": nil} {
		w := newWorldWith(t, "", "", func(o *pool.Options) {
			o.Snapshot.Main.AuthType = configs.AuthPAM // which Load refuses in binaries without PAM
			o.PAM = judge
		})
		c := w.connect().startup("user", "nina", "database", "app")
		if name == "without" {
			c.wantError("bouncer config error")
			continue
		}
		c.answer("rose\x00")
		c.wantError("PAM authentication failed")
		if !w.log.has("PAM authentication failed: no") || w.log.has("rose") {
			t.Errorf("%q", w.log)
		}
		c = w.connect().startup("user", "nina", "database", "app").answer("tulip\x00")
		if asked != "nina tulip 192.0.2.7" {
			t.Errorf("PAM is asked %q", asked)
		}
		if got := w.dialer.asked[0].Secret; !got.Equal(auth.Plain("tulip")) {
			t.Errorf("logs in to servers with %v", got)
		}
		w.serve()
		c.wantWelcome()
		c = w.connectFrom(unix(7)).startup("user", "nina", "database", "app").answer("tulip\x00")
		if c.wantWelcome(); asked != "nina tulip " {
			t.Errorf("PAM is asked %q", asked)
		}

		// What PAM took counts, whatever the auth_file says.
		c = w.connect().startup("user", "alice", "database", "app").answer("tulip\x00")
		if got := w.dialer.asked[1].Secret; !got.Equal(auth.Plain("tulip")) {
			t.Errorf("logs in to servers as a user of the auth_file with %v", got)
		}
		w.serve()
		c.wantWelcome()
		if err := w.p.Set("auth_type", "plain"); err != nil {
			t.Fatal(err)
		}
		if err := w.p.Reconnect("app"); err != nil {
			t.Fatal(err)
		}
		w.connect().startup("user", "alice", "database", "app").answer("ecila\x00")
		if got := w.dialer.asked[2].Secret; !got.Equal(auth.Plain("ecila")) {
			t.Errorf("logs in to servers with %v when PAM is not asked any more", got)
		}
	}
}

// TestStoredMD5 logs in with a secret that is a digest: by the methods that can
// use it.
func TestStoredMD5(t *testing.T) {
	for _, method := range []string{"plain", "md5"} {
		w := newWorld(t, "auth_type = "+method, "")
		c := w.connect().startup("user", "hash", "database", "app").authenticate("hash", "hsah")
		w.serve()
		c.wantWelcome()
	}
	w := newWorld(t, "auth_type = scram-sha-256", "")
	w.connect().startup("user", "hash", "database", "app").authenticate("hash", "hsah").wantError("SASL authentication failed")
}

func TestLoginNotice(t *testing.T) {
	w := newWorld(t, "auth_type = trust\nlogin_notify_message = back at noon", "")
	c := w.connect().startup("user", "alice", "database", "app")
	w.serve()
	all := c.wantWelcome()
	if got := types(all); !strings.HasSuffix(got, "KNZ") {
		t.Fatalf("welcome %q", got)
	}
	want := wire.Fields{Severity: "NOTICE", Code: "00000", Message: "back at noon"}
	if got := wire.ParseFields([]byte(all[len(all)-2].body)); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestServerRefuses is what those hear who wait for the first server, when it
// does not let us in.
func TestServerRefuses(t *testing.T) {
	w := newWorld(t, "auth_type = trust\nserver_login_retry = 15", "")
	c := w.connect().startup("user", "alice", "database", "app")
	starting := wire.Fields{Severity: "FATAL", Code: "57P03", Message: "the database system is starting up"}
	w.refuse(&dial.LoginError{Kind: dial.Refused, Reason: "login failed", Server: starting})
	w.pass(time.Second)
	if c.closed {
		t.Fatal("refused while the server starts")
	}
	w.refuse(&dial.LoginError{Kind: dial.ConnectFailed, Reason: "connect failed"})
	w.pass(time.Second)
	if c.closed {
		t.Fatal("refused while there is no connection")
	}
	missing := wire.Fields{Severity: "FATAL", Code: "3D000", Message: `database "app" does not exist`}
	w.refuse(&dial.LoginError{Kind: dial.Refused, Reason: missing.Message, Server: missing})
	all := c.read()
	if len(all) != 1 || !c.closed {
		t.Fatalf("got %q, closed: %v", types(all), c.closed)
	}
	if got := wire.ParseFields([]byte(all[0].body)); got != missing {
		t.Errorf("%+v, want %+v", got, missing)
	}
}

// TestPipelinedLogin sends everything up to the first query in one go, as a
// client may that knows it is trusted.
func TestPipelinedLogin(t *testing.T) {
	for _, method := range []string{"trust", "plain"} {
		w := newWorld(t, "auth_type = "+method, "")
		in := startup(3<<16, "user", "alice", "database", "app")
		if method == "plain" {
			b, at := wire.Begin(in, wire.Password)
			in = wire.End(wire.AppendString(b, "ecila"), at)
		}
		c := w.connect().send(wire.AppendQuery(in, "select 1"))
		if method == "plain" {
			c.read()
		}
		w.serve()
		server := w.loop.conns[1]
		if want := wire.AppendQuery(nil, "select 1"); string(server.out) != string(want) {
			t.Errorf("%s: the server got %q", method, server.out)
		}
		c.wantWelcome()
	}
}

// TestSlowLogin has keys derived in a chore: nothing is read meanwhile, and
// who left meanwhile has left.
func TestSlowLogin(t *testing.T) {
	w := newWorld(t, "auth_type = scram-sha-256", "")
	w.slow = true
	first := startup(3<<16, "user", "alice", "database", "app")
	c := w.connect().send(first)
	if !c.paused || len(w.chores) != 1 {
		t.Fatalf("paused: %v, chores: %d", c.paused, len(w.chores))
	}
	impatient := w.connect().send(append(first, first...))
	gone := w.connect().send(first)
	gone.leave()
	w.work()
	c.authenticate("alice", "ecila")
	w.serve()
	c.wantWelcome()
	impatient.wantError("client re-sent startup pkt")
	if len(gone.out) > 0 {
		t.Errorf("%q to somebody who is gone", gone.out)
	}
}

// TestCancelKeys are positive as process ids, and each is another.
func TestCancelKeys(t *testing.T) {
	w := newWorld(t, "auth_type = trust", "")
	seen := map[string]bool{}
	for range 64 {
		c := w.connect().startup("user", "alice", "database", "app")
		if len(w.dialer.done) > 0 {
			w.serve()
		}
		for _, m := range c.wantWelcome() {
			if m.typ == wire.BackendKeyData {
				if len(m.body) != 8 || m.body[0] >= 0x80 || seen[m.body] {
					t.Fatalf("key %x", m.body)
				}
				seen[m.body] = true
			}
		}
	}
	if len(seen) != 64 {
		t.Errorf("%d keys for 64 clients", len(seen))
	}
}
