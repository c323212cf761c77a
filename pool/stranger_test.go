package pool_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// refusedBy is a login that a server refused in its own words.
func refusedBy(code, message string) *dial.LoginError {
	return &dial.LoginError{Kind: dial.Refused, Reason: message, Server: wire.Fields{Severity: "FATAL", Code: code, Message: message, Detail: "secret detail"}}
}

// TestStrangers: whoever has not proved who it is hears nothing of what stands
// behind a login, whatever goes wrong there. The log says it all.
func TestStrangers(t *testing.T) {
	const lookup = "auth_type = plain\nauth_user = alice\nauth_query = select who\n"
	const config = "bouncer config error"
	hba := func(lines string) func(t *testing.T) string {
		return func(t *testing.T) string {
			dir := t.TempDir()
			for name, text := range map[string]string{"hba.conf": lines, "ident.conf": "secretmap somebody alice\n"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			return "auth_type = hba\nauth_hba_file = " + filepath.Join(dir, "hba.conf") + "\nauth_ident_file = " + filepath.Join(dir, "ident.conf")
		}
	}
	plain := func(text string) func(*testing.T) string { return func(*testing.T) string { return text } }
	come := func(w *world) *client { return w.connect().startup("user", "nina", "database", "app") }
	refuse := func(err error) func(*world) *client {
		return func(w *world) *client {
			c := come(w)
			w.refuse(err)
			return c
		}
	}
	reply := func(b []byte) func(*world) *client {
		return func(w *world) *client {
			c := come(w)
			w.serve()
			w.reply(w.lastConn(), b)
			return c
		}
	}
	try := func(err error) func(*world) *client {
		return func(w *world) *client {
			c := w.connectFrom(unix(5)).startup("user", "nina", "database", "app").answer("tulip\x00")
			c.read()
			w.refuse(err)
			return c
		}
	}
	for _, tt := range []struct {
		name   string
		main   func(t *testing.T) string
		app    string // more of the entry
		come   func(w *world) *client
		want   string
		logged string
	}{
		{
			"auth_user's password", plain(lookup), "",
			refuse(refusedBy("28P01", `password authentication failed for user "alice"`)),
			config, `auth_query about user "nina" in database "app" failed: password authentication failed for user "alice"`,
		},
		{
			"auth_user's secret", plain(lookup), "",
			refuse(&dial.LoginError{Kind: dial.BadSecret, Reason: "server login failed: wrong password type"}),
			config, "failed: server login failed: wrong password type",
		},
		{
			"the database behind it", plain(lookup), "",
			refuse(refusedBy("3D000", `database "secretdb" does not exist`)), config, `failed: database "secretdb" does not exist`,
		},
		{
			"a login that failed before", plain(lookup), "",
			func(w *world) *client {
				refuse(refusedBy("28P01", `password authentication failed for user "alice"`))(w).read()
				return come(w)
			},
			config, `failed: server login has been failing, cached error: password authentication failed for user "alice" (server_login_retry)`,
		},
		{
			"no connection", plain(lookup + "query_wait_timeout = 3"), "",
			func(w *world) *client {
				c := refuse(&dial.LoginError{Kind: dial.ConnectFailed, Reason: "connect failed", Detail: "10.0.0.1:5432: refused"})(w)
				w.pass(4 * time.Second)
				return c
			},
			"query_wait_timeout", `failed: query_wait_timeout: Waited 4.0 s for a server connection of pool "app/alice"`,
		},
		{
			"a full pool", plain(lookup + "query_wait_timeout = 3\ndefault_pool_size = 1"), "",
			func(w *world) *client {
				otto := w.connect().startup("user", "otto", "database", "app")
				w.serve()
				c := come(w)
				w.pass(4 * time.Second)
				otto.leave()
				w.pass(4 * time.Second)
				return c
			},
			"query_wait_timeout", "(pool_size = 1)",
		},
		{"an error of the query", plain(lookup), "", reply(errorReply("SERROR\x00C42P01\x00Mno table secret\x00\x00")), config, "the server says: no table secret"},
		{"a result of other columns", plain(lookup), "", reply(result(1, row("secret"))), config, "it returns 1 columns"},
		{
			"the server is gone", plain(lookup), "",
			func(w *world) *client {
				c := come(w)
				w.serve()
				w.lastConn().closed = true
				w.lastConn().handler.Closed(nil)
				w.settle()
				return c
			},
			config, "failed: server conn crashed?",
		},
		{"no such auth_dbname", plain(lookup + "auth_dbname = secretdb"), "", come, config, `authentication database "secretdb" is not configured.`},
		{
			"auth_dbname is disabled", plain(lookup + "auth_dbname = secretdb"), "\nsecretdb = host=secrethost",
			func(w *world) *client { w.p.SetDisabled("secretdb", true); return come(w) },
			config, `authentication database "secretdb" is disabled`,
		},
		{"no line of the HBA file", hba("host secretdb secretuser 10.0.0.0/8 plain\n"), "", come, "no authentication method is found", ""},
		{"a broken line of the HBA file", hba("host all all all secretmethod\n"), "", come, "no authentication method is found", ""},
		{"a map of peers", hba("local all all peer map=secretmap\n"), "", func(w *world) *client {
			return w.connectFrom(unix(1000)).startup("user", "alice", "database", "app")
		}, "unix socket login rejected", "ident map: secretmap does not have a match"},
		{"a map of certificates", hba("host all all all cert map=secretmap\n"), "", func(w *world) *client {
			return w.connect().startup("user", "alice", "database", "app")
		}, "certificate authentication failed", "ident map: secretmap does not have a match"},
		{"LDAP", hba("host all all all ldap ldapserver=secrethost ldapprefix=uid=\n"), "", func(w *world) *client {
			return come(w).answer("tulip\x00")
		}, "LDAP authentication failed", "LDAP authentication failed: cn=secret at secrethost"},
		{"LDAP where auth_user stands", hba("host all all all ldap ldapserver=secrethost ldapprefix=uid=\n"), " auth_user=alice", func(w *world) *client {
			c := come(w)
			w.serve()
			w.reply(w.lastConn(), result(2, row("nina", "anin")))
			return c
		}, config, "LDAP can't be asked: it needs auth_ldap_options, and no auth_user for the database"},
		{"PAM", plain("auth_type = any"), "", func(w *world) *client { // any stands for what not all binaries know
			return come(w).answer("tulip\x00")
		}, "PAM authentication failed", "PAM authentication failed: module secret"},
		{"a password that the server refuses", plain("auth_type = passthrough"), "", try(refusedBy("28P01", "secret words")), "password authentication failed", "secret words"},
		{"a server that says something else", plain("auth_type = passthrough"), "", try(refusedBy("XX000", "no secret tenant")), config, "no secret tenant"},
		{"a trial in a full pool", plain("auth_type = passthrough\nquery_wait_timeout = 3"), "", func(w *world) *client {
			c := try(&dial.LoginError{Kind: dial.ConnectFailed, Reason: "connect failed"})(w)
			w.pass(4 * time.Second)
			return c
		}, "query_wait_timeout", "Waited 4.0 s for a server connection"},
		{"no server to judge for a forced user", plain("auth_type = passthrough"), " user=secretuser", func(w *world) *client {
			return w.connectFrom(unix(5)).startup("user", "nina", "database", "app").answer("tulip\x00")
		}, config, "servers are logged in to as secretuser"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorldWith(t, tt.main(t), "app = host=secrethost dbname=secretdb"+tt.app, func(o *pool.Options) {
				o.LDAP = func(*configs.LDAP, string, string) error { return errors.New("cn=secret at secrethost") }
				o.PAM = func(string, string, string) error { return errors.New("module secret") }
				if tt.name == "PAM" {
					o.Snapshot.Main.AuthType = configs.AuthPAM
				}
			})
			all := tt.come(w).read()
			if len(all) == 0 || all[len(all)-1].typ != wire.ErrorResponse {
				t.Fatalf("got %q", types(all))
			}
			got := wire.ParseFields([]byte(all[len(all)-1].body))
			if want := (wire.Fields{Severity: "FATAL", Code: "08P01", Message: tt.want}); got != want {
				t.Errorf("a stranger hears %+v, want %+v", got, want)
			}
			for _, m := range all {
				if strings.Contains(m.body, "secret") || strings.Contains(m.body, "alice") {
					t.Errorf("a stranger hears %q", m.body)
				}
			}
			if !w.log.has(tt.logged) {
				t.Errorf("the log does not say %q: %q", tt.logged, w.log)
			}
		})
	}
}

// TestWhoseWords: once a server has taken the password under trial, what it says
// is meant for who sent it.
func TestWhoseWords(t *testing.T) {
	w := newJudges(t, "", "")
	c := w.says("tulip")
	err := refusedBy("3D000", `database "app" does not exist`)
	err.Granted = true
	w.refuse(err)
	all := c.read()
	if got := wire.ParseFields([]byte(all[len(all)-1].body)); got.Code != "3D000" || got.Message != err.Reason {
		t.Errorf("%+v", got)
	}
}
