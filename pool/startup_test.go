package pool_test

import (
	"strings"
	"testing"

	"github.com/pgweir/pgweir/wire"
)

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
	w := newWorld(t, "auth_type = trust", "")
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
	w.connect().startup("user", "nobody", "database", "app").wantError(`"trust" authentication failed`)
	if !w.log.has(`closing because: "trust" authentication failed (age=0s)`) {
		t.Errorf("the log does not tell of one that was refused: %q", w.log)
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
		{"unknown", []string{"extra_float_digits", "3"}, "", "", map[string]string{"extra_float_digits": "-"}},
		{"no name of a parameter", []string{"a;b", "3"}, "", "unsupported startup parameter: a;b", nil},
		{"ignored", []string{"extra_float_digits", "3"}, "x,extra_float_digits", "", map[string]string{"extra_float_digits": "-"}},
		{"ignored in exact case only", []string{"Extra_float_digits", "3"}, "extra_float_digits", "", nil},
		{"tracked, but not reported", []string{"search_path", "a"}, "", "", map[string]string{"search_path": "-"}},
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
		{"options unknown", []string{"options", "-c geqo=off"}, "", "", nil},
		{"options, no name", []string{"options", "-c ge;qo-=off"}, "", "unsupported startup parameter in options: ge;qo-", nil},
		{"options, dashes", []string{"options", "--application-name=A -c standard-conforming_strings=B"}, "", "", map[string]string{"application_name": "A", "standard_conforming_strings": "B"}},
		{"options, dashes, ignored", []string{"options", "--ge.qo-x=off"}, "ge.qo_x", "", nil},
		{"options, overruled", []string{"TimeZone", "A", "options", "-c TimeZone=B"}, "", "", map[string]string{"TimeZone": "A"}},
		{"options unknown, named", []string{"options", "-c geqo=off -c TimeZone=A"}, "geqo", "", map[string]string{"TimeZone": "A"}},
		{"options unknown, all ignored", []string{"options", "-c geqo=off -c TimeZone=A"}, "options", "", map[string]string{"TimeZone": "A"}},
		{"options -c=", []string{"options", "-c="}, "", onlyTwoForms, nil},
		{"options -c=, all ignored", []string{"options", "-c= -c TimeZone=A"}, "options", "", map[string]string{"TimeZone": "A"}},
		{"options -c alone", []string{"options", "-c"}, "", onlyTwoForms, nil},
		{"options -- alone", []string{"options", "--"}, "", onlyTwoForms, nil},
		{"options without =", []string{"options", "-c TimeZone"}, "", onlyTwoForms, nil},
		{"options of another kind", []string{"options", "-B 5"}, "", onlyTwoForms, nil},
		{"options, a backslash last", []string{"options", `-c TimeZone=A\`}, "", "", map[string]string{"TimeZone": `A\`}},
		{"options, an empty name in the list", []string{"options", "-c geqo=off"}, "a,,b", "", nil},
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
		{"unix", unix(5), nil, "app - unix(77@here):6432"},
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
