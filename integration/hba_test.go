package integration

import (
	"context"
	"errors"
	"fmt"
	osuser "os/user"
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
	file := func(name, text string) string {
		t.Helper()
		path := fmt.Sprintf("hba%d%s", serial.Add(1), name)
		if _, err := suite.sandbox.WriteFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		return suite.sandbox.Path(path)
	}
	ident := file(".ident", me.Username+"map "+me.Username+" mapped\n")
	const secret = "tulip"
	config := pooler.Config{
		Settings: map[string]string{"auth_type": "hba", "auth_ident_file": ident, "auth_hba_file": file(".conf", `
# the console
host pgbouncer admin 127.0.0.1/32 md5
local all `+me.Username+` peer
local all mapped,other peer map=`+me.Username+`map
local all all scram-sha-256
host all evil all reject
host all trusted 127.0.0.0 255.0.0.0 trust
host all plain 127.0.0.1/32 password
hostssl all all all trust
host sameuser all all md5
nonsense
`)},
		Databases: []string{entry(db, name), fmt.Sprintf("ann = host=%s port=%d dbname=%s user=%s", db.Host, db.Port, name, postgres.Superuser)},
		Userlist: map[string]string{
			me.Username: secret, "mapped": secret, "other": secret, "evil": secret, "trusted": secret, "plain": secret, "ann": secret,
		},
	}
	p := startPooler(t, config)
	for _, tt := range []struct {
		host, user, password, database string
		want                           string // the error, "" for none
	}{
		{p.Socket, me.Username, "", name, ""},
		{p.Socket, "mapped", "", name, ""},
		{p.Socket, "other", secret, name, "unix socket login rejected"},
		{p.Socket, "ann", secret, name, ""},
		{p.Socket, "ann", "wrong", name, "SASL authentication failed"},
		{p.Host, "evil", secret, name, "login rejected"},
		{p.Host, "trusted", "", name, ""},
		{p.Host, "stranger", "", name, "no authentication method is found"},
		{p.Host, "plain", secret, name, ""},
		{p.Host, "plain", "wrong", name, "password authentication failed"},
		{p.Host, "ann", secret, name, "no authentication method is found"},
		{p.Host, "ann", secret, "ann", ""},
		{p.Host, "ann", "wrong", "ann", "password authentication failed"},
		{p.Host, me.Username, secret, name, "no authentication method is found"},
	} {
		dsn := fmt.Sprintf("host=%s port=%d user='%s' password='%s' dbname=%s sslmode=disable", tt.host, p.Port, tt.user, tt.password, tt.database)
		conn, err := pgconn.Connect(testContext(t), dsn)
		if err == nil {
			_, err = conn.Exec(testContext(t), "select 1").ReadAll()
			conn.Close(context.Background())
		}
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s as %s to %s: %v, want %q", tt.host, tt.user, tt.database, err, tt.want)
		}
	}
	eventually(t, "nothing is said of the line that can't be read", func() error {
		if !strings.Contains(p.Log(), `could not parse hba config line 12: unknown type "nonsense"`) {
			return errors.New("not in the log")
		}
		return nil
	})
}
