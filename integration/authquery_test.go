package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// lookupSQL makes a function through which a role that may read nothing finds
// a secret, and notes each use of it.
const lookupSQL = `
	create role looker login password 'lookout';
	set password_encryption = 'md5';
	create role "it's" login password 'p"w';
	set password_encryption = 'scram-sha-256';
	create role nina login password 'tulip';
	create role late login password 'tulip' valid until '2001-01-01';
	create table lookups (name text);
	create function lookup(inout name text, out secret text) language plpgsql security definer
		set search_path = pg_catalog as $$
	begin
		insert into public.lookups values (name);
		select rolname, case when rolvaliduntil < now() then null else rolpassword end
			into name, secret from pg_authid where rolname = lookup.name and rolcanlogin;
	end $$;
	revoke all on function lookup from public;
	grant execute on function lookup to looker;`

// TestAuthQuery has users log in whom no auth_file knows, to a Postgres that
// asks each of them for a password too.
func TestAuthQuery(t *testing.T) {
	begin(t)
	db := strict(t, lookupSQL)
	start := func(authType string, more map[string]string) *pooler.Pooler {
		settings := map[string]string{
			"auth_type": authType, "pool_mode": "transaction", "auth_user": "looker", "auth_dbname": "who", "verbose": "3",
			"auth_query": "select name, secret from lookup($1) where name is not null",
		}
		for k, v := range more {
			settings[k] = v
		}
		return startPooler(t, pooler.Config{
			Settings: settings,
			Databases: []string{
				fmt.Sprintf("* = host=%s port=%d", db.Host, db.Port),
				fmt.Sprintf("who = host=%s port=%d dbname=%s pool_size=1", db.Host, db.Port, postgres.Database),
			},
			Userlist: map[string]string{"looker": "lookout"}, // auth_user's own password
		})
	}
	visit := func(p *pooler.Pooler, user, password string) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, err := pgconn.Connect(ctx, p.DSN(user, password, postgres.Database))
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, "select 1").ReadAll()
		return err
	}
	for _, mode := range []string{"transaction", "session"} {
		p := start("scram-sha-256", map[string]string{"pool_mode": mode})
		for range 2 {
			if err := visit(p, "nina", "tulip"); err != nil {
				t.Errorf("%s: %v", mode, err)
			}
			for _, wrong := range [][2]string{{"nina", "rose"}, {"late", "tulip"}, {"nobody", "tulip"}, {"' or true --", "tulip"}} {
				if err := visit(p, wrong[0], wrong[1]); err == nil || !strings.Contains(err.Error(), "SASL authentication failed") {
					t.Errorf("%s: %s came in, or was told why not: %v", mode, wrong[0], err)
				}
			}
		}
		wantUntold(t, p, "tulip", "rose", "lookout")
	}

	// A changed password counts at once for who knows it.
	p := start("md5", map[string]string{"auth_query_cache": "3600"})
	if err := visit(p, "nina", "tulip"); err != nil {
		t.Fatal(err)
	}
	if err := db.Exec(testContext(t), "alter role nina password 'rose'"); err != nil {
		t.Fatal(err)
	}
	_ = visit(p, "nina", "rose") // what is remembered is wrong, and forgotten
	if err := visit(p, "nina", "rose"); err != nil {
		t.Error(err)
	}

	// A storm asks once, on each loop or on all.
	if err := db.Exec(testContext(t), "delete from lookups"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Console(testContext(t), "RELOAD"); err != nil {
		t.Fatal(err)
	}
	var storm sync.WaitGroup
	for range 30 {
		storm.Go(func() {
			if err := visit(p, "nina", "rose"); err != nil {
				t.Error(err)
			}
		})
	}
	storm.Wait()
	conn, err := db.Connect(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var n int
	if err := conn.QueryRow(testContext(t), "select count(*) from lookups").Scan(&n); err != nil || n != 1 {
		t.Errorf("30 logins asked %d times: %v", n, err)
	}
	wantUntold(t, p, "tulip", "rose", "lookout")
}

// TestDefaultAuthQuery asks as PgBouncer does if nothing else is said: a
// password that has expired is none, and no client can have another table asked
// in the place of pg_authid.
func TestDefaultAuthQuery(t *testing.T) {
	begin(t)
	s, err := sandbox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	db, err := postgres.Start(testContext(t), s, postgres.Options{HBA: "local all all trust\nhost all postgres all trust\nhost all all all scram-sha-256\n"})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Exec(testContext(t), `
		create role nina login password 'tulip';
		create role late login password 'tulip' valid until '2001-01-01';
		create role evil login password 'tulip';
		create role nobody nologin password 'tulip';
		create schema evil authorization evil;
		create table evil.pg_authid as select rolname, rolcanlogin, null::timestamptz as rolvaliduntil, 'stolen'::text as rolpassword from pg_roles;
		grant usage on schema evil to public; grant select on evil.pg_authid to public`); err != nil {
		t.Fatal(err)
	}
	// All clients are in the database that is asked, and servers of the role that
	// asks are theirs too.
	p := startPooler(t, pooler.Config{
		Settings: map[string]string{
			"auth_type": "md5", "pool_mode": "transaction", "auth_user": postgres.Superuser, "auth_query_cache": "0", "default_pool_size": "1",
		},
		Databases: []string{fmt.Sprintf("%s = host=%s port=%d", postgres.Database, db.Host, db.Port)},
		Userlist:  map[string]string{postgres.Superuser: "root"},
	})
	visit := func(user, password, params string) error {
		conn, err := pgconn.Connect(testContext(t), p.DSN(user, password, postgres.Database)+params)
		if err != nil {
			return err
		}
		_, err = conn.Exec(testContext(t), "select 1").ReadAll()
		return errors.Join(err, conn.Close(context.Background()))
	}
	const elsewhere = "evil,pg_catalog"
	for _, params := range []string{"", "&search_path=" + elsewhere, "&options=-csearch_path%3D" + elsewhere, "&options=--search_path%3D" + elsewhere} {
		if params != "" { // leaves its search_path on the server that is asked next
			if err := visit(postgres.Superuser, "root", params); err != nil {
				t.Errorf("%q: %v", params, err)
			}
		}
		if err := visit("nina", "tulip", params); err != nil {
			t.Errorf("%q: %v", params, err)
		}
		for _, wrong := range [][2]string{{"nina", "stolen"}, {"late", "tulip"}, {"late", "stolen"}, {"nobody", "tulip"}} {
			if err := visit(wrong[0], wrong[1], params); err == nil || !strings.Contains(err.Error(), "authentication failed") {
				t.Errorf("%q, %v: %v", params, wrong, err)
			}
		}
	}
}
