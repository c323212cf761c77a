package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	osuser "os/user"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
)

// TestHBA has clients come in by each method that needs no TLS, over TCP and
// over the unix socket.
func TestHBA(t *testing.T) {
	begin(t)
	me, err := osuser.Current()
	if err != nil {
		t.Skip("this user has no name: ", err)
	}
	db := suite.postgres
	name := ownDatabase(t, db)
	files := fmt.Sprintf("hba%d", serial.Add(1))
	ident := write(t, suite.sandbox, files+".ident", []byte(me.Username+"map "+me.Username+" mapped\n"+me.Username+"map nobody-else other\n"))
	write(t, suite.sandbox, files+".more", []byte("\"named too\" # and others\n"))
	write(t, suite.sandbox, files+".names", []byte("named,\n@"+files+".more\n"))
	const secret = "tulip"
	hba := write(t, suite.sandbox, files+".conf", []byte(`
# the console
host pgbouncer admin 127.0.0.1/32 md5
local all `+me.Username+` peer
local all mapped,other peer map=`+me.Username+`map
local all all scram-sha-256
host all evil all reject
host all local all peer
host all trusted 127.0.0.0 255.0.0.0 trust
host all plain 127.0.0.1/32 password
host all @`+files+`.names 127.0.0.1/32 password
hostssl all all all trust
host sameuser all all md5
nonsense
`))
	config := pooler.Config{
		Settings:  map[string]string{"auth_type": "hba", "auth_ident_file": ident, "auth_hba_file": hba, "verbose": "3"},
		Databases: []string{entry(db, name), fmt.Sprintf("ann = host=%s port=%d dbname=%s user=%s", db.Host, db.Port, name, postgres.Superuser)},
		Userlist: map[string]string{
			me.Username: secret, "mapped": secret, "other": secret, "evil": secret, "trusted": secret, "plain": secret, "ann": secret,
			"named": secret, "named too": secret,
		},
	}
	p := startPooler(t, config)
	const wrong = "rose"
	visit := func(c *pgconn.Config) error {
		conn, err := pgconn.ConnectConfig(testContext(t), c)
		if err != nil {
			return err
		}
		_, err = conn.Exec(testContext(t), "select 1").ReadAll()
		return errors.Join(err, conn.Close(context.Background()))
	}
	login := func(p *pooler.Pooler, host, user, password, database string) *pgconn.Config {
		c, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d user='%s' password='%s' dbname=%s sslmode=disable", host, p.Port, user, password, database))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	try := func(host, user, password, database, want string) {
		t.Helper()
		err := visit(login(p, host, user, password, database))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want+" (SQLSTATE 08P01)")) {
			t.Errorf("%s as %s to %s: %v, want %q", host, user, database, err, want)
		}
	}
	for _, tt := range []struct {
		host, user, password, database string
		want                           string // the error, "" for none
	}{
		{p.Socket, me.Username, "", name, ""},
		{p.Socket, "mapped", "", name, ""},
		{p.Socket, "other", secret, name, "unix socket login rejected"},
		{p.Socket, "ann", secret, name, ""},
		{p.Socket, "ann", wrong, name, "SASL authentication failed"},
		{p.Host, "evil", secret, name, "login rejected"},
		{p.Host, "trusted", "", name, ""},
		{p.Host, "local", "", name, "unix socket login rejected"},
		{p.Host, "stranger", "", name, "no authentication method is found"},
		{p.Host, "plain", secret, name, ""},
		{p.Host, "plain", wrong, name, "password authentication failed"},
		{p.Host, "named", secret, name, ""},
		{p.Host, "named too", secret, name, ""},
		{p.Host, "named too", wrong, name, "password authentication failed"},
		{p.Host, "ann", secret, name, "no authentication method is found"},
		{p.Host, "ann", secret, "ann", ""},
		{p.Host, "ann", wrong, "ann", "password authentication failed"},
		{p.Host, me.Username, secret, name, "no authentication method is found"},
	} {
		try(tt.host, tt.user, tt.password, tt.database, tt.want)
	}
	wantLog(t, p, `could not parse hba config line 14: unknown type "nonsense"`)
	wantLog(t, p, "ident map: "+me.Username+"map does not have a match")

	// Other rules are for those who come from now on. Rules with a mistake are
	// none.
	before, err := pgconn.ConnectConfig(testContext(t), login(p, p.Host, "trusted", "", name))
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close(context.Background())
	write(t, suite.sandbox, files+".conf", []byte("host pgbouncer admin 127.0.0.1/32 md5\nhost all trusted all reject\nhost all all all scram-sha-256\n"))
	if _, err := p.Console(testContext(t), "RELOAD"); err != nil {
		t.Fatal(err)
	}
	try(p.Host, "trusted", "", name, "login rejected")
	try(p.Host, "evil", secret, name, "")
	write(t, suite.sandbox, files+".conf", []byte("host all all all trust\nnonsense\n"))
	if _, err := p.Console(testContext(t), "RELOAD"); err == nil {
		t.Error("RELOAD of a mistake has worked")
	}
	wantLog(t, p, files+".conf:2: could not parse hba config line 2")
	try(p.Host, "trusted", "", name, "login rejected")
	if _, err := before.Exec(testContext(t), "select 1").ReadAll(); err != nil {
		t.Errorf("who was in before: %v", err)
	}
	wantUntold(t, p, secret, wrong)

	// In Linux's abstract name space, too, the system says who is there.
	if runtime.GOOS != "linux" {
		return
	}
	config.Settings["unix_socket_dir"] = fmt.Sprintf("@pgweir-%d-%s", os.Getpid(), files)
	write(t, suite.sandbox, files+".conf", []byte("host pgbouncer admin 127.0.0.1/32 md5\nlocal all all peer\n"))
	p = startPooler(t, config)
	for user, want := range map[string]string{me.Username: "", "ann": "unix socket login rejected"} {
		c := login(p, p.Host, user, "", name)
		c.DialFunc = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", fmt.Sprintf("%s/.s.PGSQL.%d", config.Settings["unix_socket_dir"], p.Port))
		}
		if err := visit(c); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("over an abstract socket as %s: %v, want %q", user, err, want)
		}
	}
}
