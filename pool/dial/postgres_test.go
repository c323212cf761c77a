package dial_test

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

const hba = `
local all postgres trust
host all postgres 127.0.0.1/32 trust
local db trusted trust
host db,nope trusted 127.0.0.1/32 trust
host db clear,clearscram 127.0.0.1/32 password
host db md5,md5scram 127.0.0.1/32 md5
host db scram 127.0.0.1/32 scram-sha-256
`

const roles = `
create database db;
create role trusted login;
set password_encryption = 'md5';
create role clear login password 's3cret';
create role md5 login password 's3cret';
set password_encryption = 'scram-sha-256';
create role clearscram login password 's3cret';
create role md5scram login password 's3cret';
create role scram login password 's3cret';
create role "no login" password 's3cret';
`

// TestPostgres logs in to a real server in all ways.
func TestPostgres(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	box, err := sandbox.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	}()
	cluster, err := postgres.Start(ctx, box, postgres.Options{HBA: hba})
	if errors.Is(err, postgres.ErrNotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := execEach(ctx, cluster, roles); err != nil {
		t.Fatal(err)
	}
	p := &server{cluster, auth.NewVerifiers(100, rand.Reader)}
	t.Run("logins", p.logins)
	t.Run("session", p.session)
	t.Run("pass-through", p.passThrough)
	t.Run("cancel", p.cancel)
}

// execEach runs statements one by one, outside of a transaction block.
func execEach(ctx context.Context, c *postgres.Cluster, statements string) error {
	conn, err := c.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, s := range strings.Split(strings.TrimSpace(statements), "\n") {
		if _, err := conn.PgConn().Exec(ctx, s).ReadAll(); err != nil {
			return err
		}
	}
	return nil
}

type server struct {
	*postgres.Cluster
	verifiers *auth.Verifiers
}

// request asks for a session of user.
func (p *server) request(user string, secret auth.Secret) dial.Request {
	r := request()
	r.Hosts, r.Port = []string{p.Host}, p.Port
	r.Params = [][2]string{{"database", "db"}, {"user", user}}
	r.User, r.Secret, r.Verifiers = user, secret, p.verifiers
	return r
}

// stored is what Postgres stores for role.
func (p *server) stored(t *testing.T, role string) auth.Secret {
	t.Helper()
	conn, err := p.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	var text string
	if err := conn.QueryRow(t.Context(), "select rolpassword from pg_authid where rolname = $1", role).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return auth.ParseSecret(text)
}

func (p *server) logins(t *testing.T) {
	right, wrong := auth.Plain("s3cret"), auth.Plain("guess")
	md5, scram := p.stored(t, "md5"), p.stored(t, "scram")
	failed := func(user string) string { return `password authentication failed for user "` + user + `"` }
	for _, test := range []struct {
		name     string
		user     string
		secret   auth.Secret
		database string
		kind     dial.Kind // 0 is success
		code     string
		reason   string
	}{
		{"trust", "trusted", auth.Secret{}, "db", 0, "", ""},
		{"trust, any secret", "trusted", scram, "db", 0, "", ""},
		{"password", "clear", right, "db", 0, "", ""},
		{"password, SCRAM stored", "clearscram", right, "db", 0, "", ""},
		{"password, wrong", "clear", wrong, "db", dial.Refused, "28P01", failed("clear")},
		{"password, our MD5", "clear", md5, "db", dial.BadSecret, "08P01", "server login failed: wrong password type"},
		{"password, our SCRAM", "clear", scram, "db", dial.BadSecret, "08P01", "server login failed: wrong password type"},
		{"password, none", "clear", auth.Secret{}, "db", dial.Refused, "28P01", "empty password returned by client"},
		{"md5", "md5", right, "db", 0, "", ""},
		{"md5, our MD5", "md5", md5, "db", 0, "", ""},
		{"md5, wrong", "md5", wrong, "db", dial.Refused, "28P01", failed("md5")},
		{"md5, none", "md5", auth.Secret{}, "db", dial.Refused, "28P01", failed("md5")},
		{"md5, our SCRAM", "md5", scram, "db", dial.BadSecret, "08P01", "server login failed: wrong password type"},
		{"md5, SCRAM stored", "md5scram", right, "db", 0, "", ""},
		{"scram", "scram", right, "db", 0, "", ""},
		{"scram, wrong", "scram", wrong, "db", dial.Refused, "28P01", failed("scram")},
		{"scram, none", "scram", auth.Secret{}, "db", dial.Refused, "28P01", failed("scram")},
		{"scram, our MD5", "scram", md5, "db", dial.BadSecret, "08P01", "server login failed: wrong password type"},
		{"scram, our SCRAM without keys", "scram", scram, "db", dial.BadSecret, "08P01", "server login failed: wrong password type"},
		{"no database", "trusted", right, "nope", dial.Refused, "3D000", `database "nope" does not exist`},
		{"no user", "nobody", right, "db", dial.Refused, "28000", ""},
		{"no login", "no login", right, "db", dial.Refused, "28000", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := p.request(test.user, test.secret)
			r.Params[0][1] = test.database
			s, err := dial.Connect(t.Context(), r)
			if test.kind == 0 {
				if err != nil {
					t.Fatal(err)
				}
				s.Close()
				return
			}
			e := dial.AsLoginError(err)
			if e == nil || e.Kind != test.kind || e.Fields().Code != test.code || test.reason != "" && e.Reason != test.reason {
				t.Fatalf("%+v (%v)", e, err)
			}
		})
	}
}

// session uses sessions over TCP and over the unix socket.
func (p *server) session(t *testing.T) {
	for _, host := range []string{p.Host, p.Socket, "localhost"} {
		r := p.request("trusted", auth.Secret{})
		r.Hosts = []string{host}
		r.Params = slices.Insert(r.Params, 1, [2]string{"application_name", "weir"})
		s, err := dial.Connect(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if again := map[string]string{"localhost": "127.0.0.1"}[host]; s.Host != host && s.Host != again {
			t.Errorf("%s: host %q", host, s.Host)
		}
		if !slices.Contains(s.Params, dial.Param{Name: "application_name", Value: "weir"}) || len(s.Params) < 10 {
			t.Errorf("%s: %v", host, s.Params)
		}
		c := resume(t, s)
		if got := c.query("select 'al' || 'ive'"); !strings.Contains(got, "alive") {
			t.Errorf("%s: %q", host, got)
		}
		c.Close()
	}
}

// passThrough logs a client in by the stored SCRAM secret, as a driver does it
// (pgconn), and then logs in to Postgres with the keys that it left.
func (p *server) passThrough(t *testing.T) {
	secret := p.stored(t, "scram")
	keys := clientLogin(t, "scram", "s3cret", secret)
	if keys == nil {
		t.Fatal("no keys")
	}
	r := p.request("scram", secret)
	r.Keys = keys
	s, err := dial.Connect(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()

	// The same password, but another salt.
	r = p.request("md5scram", secret)
	r.Keys = keys
	_, err = dial.Connect(t.Context(), r)
	wantError(t, err, dial.BadSecret, "server login failed: wrong password type")
}

// clientLogin has pgconn log in against a client's exchange, and returns the
// keys that this left.
func clientLogin(t *testing.T, user, password string, secret auth.Secret) *auth.Keys {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	keys := make(chan *auth.Keys, 1)
	go func() {
		defer close(keys)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		readStartup(c)
		v, _ := auth.NewVerifiers(1, rand.Reader).Lookup(user, secret, 4096)
		e := auth.New(auth.MethodSCRAM, user, secret, false, v, rand.Reader)
		c.Write(e.Start(nil))
		for verdict := auth.More; verdict == auth.More; {
			_, body, err := readMessage(c)
			if err != nil {
				return
			}
			var out []byte
			out, verdict = e.Step(nil, body)
			c.Write(out)
		}
		c.Write([]byte(authOK + ready))
		keys <- e.Result().Keys
		io.Copy(io.Discard, c)
	}()
	config, err := pgconn.ParseConfig("sslmode=disable user=" + user + " password=" + password)
	if err != nil {
		t.Fatal(err)
	}
	config.Host, config.Port = "127.0.0.1", uint16(l.Addr().(*net.TCPAddr).Port)
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	return <-keys
}

// cancel: a query is cancelled when beforeSend says so and goes on when not.
func (p *server) cancel(t *testing.T) {
	s, err := dial.Connect(t.Context(), p.request("trusted", auth.Secret{}))
	if err != nil {
		t.Fatal(err)
	}
	key, host := s.Key, s.Host
	c := resume(t, s)
	defer c.Close()
	c.send("select pg_sleep(60)")
	if err := dial.Cancel(t.Context(), dial.Request{Port: p.Port}, host, key, func() bool { return false }); err != nil {
		t.Fatal(err)
	}
	p.awaitActive(t)
	if err := dial.Cancel(t.Context(), dial.Request{Port: p.Port}, host, key, func() bool { return true }); err != nil {
		t.Fatal(err)
	}
	if got := c.result(); !strings.Contains(got, "57014") {
		t.Errorf("%q", got)
	}
	// The signal was sent before Cancel returned: the next query is safe.
	if got := c.query("select 'al' || 'ive'"); !strings.Contains(got, "alive") {
		t.Errorf("%q", got)
	}
}

// awaitActive waits until Postgres runs a pg_sleep.
func (p *server) awaitActive(t *testing.T) {
	t.Helper()
	conn, err := p.Connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for active := 0; active == 0; {
		if err := conn.QueryRow(t.Context(), "select count(*) from pg_stat_activity where wait_event = 'PgSleep'").Scan(&active); err != nil {
			t.Fatal(err)
		}
	}
}

// client talks simple queries over what was a Session's socket.
type client struct {
	net.Conn
	t *testing.T
}

func resume(t *testing.T, s *dial.Session) client {
	t.Helper()
	if len(s.Socket.Early) != 0 {
		t.Fatalf("early %q", s.Socket.Early)
	}
	f := os.NewFile(uintptr(s.Socket.FD), "session")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return client{c, t}
}

func (c client) query(sql string) string {
	c.send(sql)
	return c.result()
}

func (c client) send(sql string) {
	if _, err := c.Write(wire.AppendQuery(nil, sql)); err != nil {
		c.t.Fatal(err)
	}
}

// result reads up to ReadyForQuery and returns all bodies.
func (c client) result() string {
	c.t.Helper()
	var all strings.Builder
	for {
		typ, body, err := readMessage(c)
		if err != nil {
			c.t.Fatal(err)
		}
		if typ == wire.ReadyForQuery {
			return all.String()
		}
		all.Write(body)
	}
}

func readMessage(r io.Reader) (typ byte, body []byte, err error) {
	var head [wire.HeaderLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint32(head[1:])-4)
	_, err = io.ReadFull(r, body)
	return head[0], body, err
}
