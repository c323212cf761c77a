package pool_test

import (
	"strings"
	"testing"
	"time"

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

func TestFirstPacket(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     string // "" for a close without a word
	}{
		{"protocol 2", "\x00\x00\x01\x28\x00\x02\x00\x00" + strings.Repeat("\x00", 288), "old V2 protocol not supported"},
		{"protocol 4", "\x00\x00\x00\x08\x00\x04\x00\x00", "bad packet header: '0000000800040000'"},
		{"length 2^31", "\x80\x00\x00\x00\x00\x03\x00\x00", "bad packet header: '8000000000030000'"},
		{"length minus one", "\xff\xff\xff\xff\x00\x03\x00\x00", "bad packet header: 'ffffffff00030000'"},
		{"length 65536", "\x00\x01\x00\x00", "bad packet header: '00010000'"},
		{"length 65536, begun", "\x00\x01", "bad packet header: '0001'"},
		{"length seven", "\x00\x00\x00\x07", "bad packet header: '00000007'"},
		{"a Query", "Q\x00\x00\x00\x05\x00", "bad packet header: '510000000500'"},
		{"a password", "p\x00\x00\x00\x06x\x00", "client password pkt before startup packet"},
		{"HTTP", "GET / HTTP/1.1\r\n", "bad packet header: '474554202f204854'"},
		{"behind SSLRequest", "\x00\x00\x00\x08\x04\xd2\x16\x2f\x16", "received unencrypted data after SSL request"},
		{"behind GSSENCRequest", "\x00\x00\x00\x08\x04\xd2\x16\x30\x16", "received unencrypted data after GSSAPI encryption request"},
		{
			"a StartupMessage behind SSLRequest", "\x00\x00\x00\x08\x04\xd2\x16\x2f" + string(startup(3<<16, "user", "alice")),
			"received unencrypted data after SSL request",
		},
		{"cancel, unknown key", "\x00\x00\x00\x10\x04\xd2\x16\x2e12345678", ""},
		{"no terminator", "\x00\x00\x00\x13\x00\x03\x00\x00user\x00alice\x00", "invalid startup packet layout: expected terminator as last byte"},
		{"behind the terminator", "\x00\x00\x00\x15\x00\x03\x00\x00user\x00alice\x00\x00x", "invalid startup packet layout: expected terminator as last byte"},
		{"no parameters", string(startup(3 << 16)), "no username supplied"},
		{"no user", string(startup(3<<16, "database", "app")), "no username supplied"},
		{"empty user", string(startup(3<<16, "user", "", "database", "app")), "no username supplied"},
		{"long user", string(startup(3<<16, "user", strings.Repeat("u", 128))), "username too long"},
		{"longest user", string(startup(3<<16, "user", strings.Repeat("u", 127))), `"trust" authentication failed`},
		{"replication", string(startup(3<<16, "user", "alice", "replication", "on")), "replication connections are not supported"},
		{"logical replication", string(startup(3<<16, "user", "alice", "replication", "database")), "replication connections are not supported"},
		{"long database", string(startup(3<<16, "user", "alice", "database", strings.Repeat("d", 64))), "no such database: " + strings.Repeat("d", 64)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "auth_type = trust", "* = host=db")
			c := w.connect().send([]byte(tt.in))
			if tt.want == "" {
				c.wantSilence()
			} else {
				c.wantError(tt.want)
			}
		})
	}
}

// TestNoEncryption is how libpq begins when it may do without.
func TestNoEncryption(t *testing.T) {
	w := newWorld(t, "auth_type = trust", "")
	c := w.connect()
	for _, request := range []string{"\x00\x00\x00\x08\x04\xd2\x16\x30", "\x00\x00\x00\x08\x04\xd2\x16\x2f"} {
		if c.send([]byte(request)); string(c.out) != "N" {
			t.Fatalf("%q answers a request for encryption", c.out)
		}
		c.out = nil
	}
	c.startup("user", "alice", "database", "app")
	w.serve()
	c.wantWelcome()

	// A request is answered once, so that nobody can have answers pile up.
	again := w.connect().send([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f"))
	again.out = nil
	again.send([]byte("\x00\x00\x00\x08\x04\xd2\x16\x2f")).wantError("bad packet header: '0000000804d2162f'")
}

// TestLeavesBeforeItSpeaks is how load balancers look whether we are there.
func TestLeavesBeforeItSpeaks(t *testing.T) {
	w := newWorld(t, "", "")
	w.connect().leave()
	if w.log.has("closing because") {
		t.Errorf("the log tells of it: %q", w.log)
	}
	begun := w.connect()
	begun.send([]byte{0, 0, 0})
	begun.leave()
	if !w.log.has("closing because: client unexpected eof (age=0s)") {
		t.Errorf("the log does not tell of one that had begun: %q", w.log)
	}
}

func TestStartupParameters(t *testing.T) {
	const onlyTwoForms = "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"
	for _, tt := range []struct {
		name    string
		params  []string
		ignored string // ignore_startup_parameters
		want    string // the refusal, "" for none
		tracked map[string]string
	}{
		{"tracked", []string{"TimeZone", "UTC+1"}, "", "", map[string]string{"TimeZone": "UTC+1"}},
		{"tracked, in another case", []string{"DATESTYLE", "German"}, "", "", map[string]string{"DateStyle": "German"}},
		{"twice", []string{"TimeZone", "A", "timezone", "B"}, "", "", map[string]string{"TimeZone": "B"}},
		{"empty", []string{"application_name", ""}, "", "", map[string]string{"application_name": ""}},
		{"unknown", []string{"extra_float_digits", "3"}, "", "unsupported startup parameter: extra_float_digits", nil},
		{"ignored", []string{"extra_float_digits", "3"}, "x,extra_float_digits", "", map[string]string{"extra_float_digits": "-"}},
		{"ignored in exact case only", []string{"Extra_float_digits", "3"}, "extra_float_digits", "unsupported startup parameter: Extra_float_digits", nil},
		{"tracked, but not reported", []string{"search_path", "a"}, "", "unsupported startup parameter: search_path", nil},
		{"nonsense for replication", []string{"replication", "maybe"}, "", "", nil},
		{"no replication", []string{"replication", "false"}, "", "", nil},
		{"empty name for the database", []string{"database", ""}, "", "", nil},

		{"options -c", []string{"options", "-c TimeZone=A -c DateStyle=B"}, "", "", map[string]string{"TimeZone": "A", "DateStyle": "B"}},
		{"options -cname", []string{"options", "-ctimezone=A"}, "", "", map[string]string{"TimeZone": "A"}},
		{"options --name", []string{"options", "--timezone=A"}, "", "", map[string]string{"TimeZone": "A"}},
		{"options with escapes", []string{"options", `-c TimeZone=a\ b\\c`}, "", "", map[string]string{"TimeZone": `a b\c`}},
		{"options with = in a value", []string{"options", "-c TimeZone=a=b"}, "", "", map[string]string{"TimeZone": "a=b"}},
		{"options with an empty value", []string{"options", "-c application_name="}, "", "", map[string]string{"application_name": ""}},
		{"options, white space", []string{"options", " \t-c\n TimeZone=A  "}, "", "", map[string]string{"TimeZone": "A"}},
		{"options empty", []string{"options", ""}, "", "", nil},
		{"options unknown", []string{"options", "-c geqo=off"}, "", "unsupported startup parameter in options: geqo", nil},
		{"options unknown, named", []string{"options", "-c geqo=off -c TimeZone=A"}, "geqo", "", map[string]string{"TimeZone": "A"}},
		{"options unknown, all ignored", []string{"options", "-c geqo=off -c TimeZone=A"}, "options", "", map[string]string{"TimeZone": "A"}},
		{"options -c=", []string{"options", "-c="}, "", onlyTwoForms, nil},
		{"options -c=, all ignored", []string{"options", "-c= -c TimeZone=A"}, "options", "", map[string]string{"TimeZone": "A"}},
		{"options -c alone", []string{"options", "-c"}, "", onlyTwoForms, nil},
		{"options -- alone", []string{"options", "--"}, "", onlyTwoForms, nil},
		{"options without =", []string{"options", "-c TimeZone"}, "", onlyTwoForms, nil},
		{"options of another kind", []string{"options", "-B 5"}, "", onlyTwoForms, nil},
		{"options, a backslash last", []string{"options", `-c TimeZone=A\`}, "", "", map[string]string{"TimeZone": `A\`}},
		{"options, an empty name in the list", []string{"options", "-c geqo=off"}, "a,,b", "unsupported startup parameter in options: geqo", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "auth_type = trust\nignore_startup_parameters = "+tt.ignored, "alice = host=db")
			c := w.connect().startup(append([]string{"user", "alice"}, tt.params...)...)
			if !c.closed {
				w.serve()
			}
			if tt.want != "" {
				c.wantError(tt.want)
				return
			}
			all := c.wantWelcome()
			for name, want := range tt.tracked {
				if got := param(all, name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

// TestUnreportedParameterOfOneWaiter refuses one of three who wait for the
// first server to say how it is, and none of the others.
func TestUnreportedParameterOfOneWaiter(t *testing.T) {
	w := newWorld(t, "auth_type = trust", "")
	before := w.connect().startup("user", "alice", "database", "app")
	c := w.connect().startup("user", "alice", "database", "app", "search_path", "a")
	behind := w.connect().startup("user", "alice", "database", "app")
	w.serve()
	before.wantWelcome()
	c.wantError("unsupported startup parameter: search_path")
	behind.wantWelcome()
}

func TestNegotiation(t *testing.T) {
	for _, tt := range []struct {
		name   string
		packet []byte
		want   string // the NegotiateProtocolVersion's body, "" for none
	}{
		{"3.0", startup(3<<16, "user", "alice", "database", "app"), ""},
		{"3.2", startup(3<<16|2, "user", "alice", "database", "app"), "\x00\x03\x00\x00\x00\x00\x00\x00"},
		{
			"extensions", startup(3<<16|9999, "_pq_.a", "1", "user", "alice", "database", "app", "_pq_.b", ""),
			"\x00\x03\x00\x00\x00\x00\x00\x02_pq_.a\x00_pq_.b\x00",
		},
		{"extension of 3.0", startup(3<<16, "user", "alice", "database", "app", "_pq_.a", "1"), "\x00\x03\x00\x00\x00\x00\x00\x01_pq_.a\x00"},
	} {
		for _, method := range append(methods, "trust") {
			t.Run(tt.name+" "+method, func(t *testing.T) {
				w := newWorld(t, "auth_type = "+method, "")
				c := w.connect().send(tt.packet)
				all := c.read()
				if tt.want != "" {
					if len(all) == 0 || all[0].typ != wire.NegotiateProtocolVersion || all[0].body != tt.want {
						t.Fatalf("got %q", all)
					}
				}
				c.inbox = all
				c.authenticate("alice", "ecila")
				w.serve()
				if got := types(c.wantWelcome()); strings.Contains(got, "v") {
					t.Errorf("negotiated twice: %q", got)
				}
			})
		}
	}
}

// TestStartupAgain sends a second StartupMessage wherever one could slip in:
// nobody may become somebody else between proof and welcome.
func TestStartupAgain(t *testing.T) {
	again := startup(3<<16, "user", "admin", "database", "app")
	for _, database := range []string{"app", "nope"} {
		for _, method := range methods {
			for _, when := range []string{"at once", "instead of an answer", "after the first answer"} {
				t.Run(database+" "+method+" "+when, func(t *testing.T) {
					w := newWorld(t, "auth_type = "+method, "")
					first := startup(3<<16, "user", "alice", "database", database)
					c := w.connect()
					switch when {
					case "at once":
						c.send(append(first, again...))
					case "instead of an answer":
						c.send(first).send(again)
					case "after the first answer":
						if method != "scram-sha-256" {
							t.Skip("there is one answer only")
						}
						c.send(first).answer("SCRAM-SHA-256\x00\x00\x00\x00\x0en,,n=,r=abcdef").send(again)
					}
					c.wantError("client re-sent startup pkt")
					if w.log.has("login attempt") || w.log.has("admin") {
						t.Errorf("the log takes it for somebody: %q", w.log)
					}
				})
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
		for range 3 {
			login(w, "admin", "pgbouncer").wantWelcome()
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
		first.leave()
		login(w, "alice", "app").wantWelcome()
		for range 3 {
			login(w, "admin", "pgbouncer").wantWelcome()
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
	waiting.wantError("client_login_timeout (server down)")
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
	w.p.Shutdown(pool.ShutdownWaitForClients)
	w.connect().startup("user", "alice", "database", "app").wantError("pooler is shutting down")
	w.connect().startup("user", "admin", "database", "pgbouncer").wantWelcome()
}

func TestAddHost(t *testing.T) {
	for _, tt := range []struct {
		name   string
		from   wire.Socket
		params []string
		want   string
	}{
		{"tcp", tcp, nil, "app - 192.0.2.7:5000"},
		{"tcp, named", tcp, []string{"application_name", "psql"}, "psql - 192.0.2.7:5000"},
		{"tcp, empty name", tcp, []string{"application_name", ""}, "app - 192.0.2.7:5000"},
		{"in options", tcp, []string{"options", "-c application_name=x"}, "x - 192.0.2.7:5000"},
		{"unix", unix(5), nil, "app - unix(77)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "auth_type = trust\napplication_name_add_host = 1", "")
			c := w.connectFrom(tt.from).startup(append([]string{"user", "alice", "database", "app"}, tt.params...)...)
			w.serve()
			if got := param(c.wantWelcome(), "application_name"); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
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

func TestMethodsThatAreNotThere(t *testing.T) {
	w := newWorld(t, "auth_type = pam", "")
	w.connect().startup("user", "alice", "database", "app").wantError("bouncer config error")
	if !w.log.has("auth_type pam can't be used") {
		t.Errorf("the log: %q", w.log)
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
