package integration

import (
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/pooler"
)

// TestServerLimits has several users in several databases want more servers
// than each limit allows. The limit is reached and not exceeded, and everybody
// is served all the same.
func TestServerLimits(t *testing.T) {
	begin(t)
	for _, test := range []struct {
		settings map[string]string
		users    int
		dbs      int
		want     int // servers
	}{
		{map[string]string{"default_pool_size": "3"}, 1, 1, 3},
		{map[string]string{"default_pool_size": "3"}, 2, 2, 12},
		{map[string]string{"default_pool_size": "2", "reserve_pool_size": "3", "reserve_pool_timeout": "0.001"}, 1, 1, 5},
		{map[string]string{"default_pool_size": "3", "max_db_connections": "4"}, 3, 1, 4},
		{map[string]string{"default_pool_size": "3", "max_user_connections": "4"}, 1, 3, 4},
		{map[string]string{"default_pool_size": "3", "max_user_connections": "4", "max_db_connections": "5"}, 3, 3, 12},
	} {
		t.Run(fmt.Sprint(test.settings), func(t *testing.T) {
			t.Parallel()
			db := suite.postgres
			c := pooler.Config{
				Settings: map[string]string{"pool_mode": "transaction", "max_client_conn": "1000"},
				Userlist: map[string]string{},
			}
			maps.Copy(c.Settings, test.settings)
			if !suite.pgbouncer {
				c.Settings["loops"] = strconv.Itoa(manyLoops)
			}
			var users, databases, urls []string
			for range test.users {
				role := fmt.Sprintf("role%d", serial.Add(1))
				if err := db.Exec(testContext(t), "create role "+role+" login"); err != nil {
					t.Fatal(err)
				}
				users = append(users, role)
				c.Userlist[role] = ""
			}
			for range test.dbs {
				database := ownDatabase(t, db)
				databases = append(databases, database)
				c.Databases = append(c.Databases, fmt.Sprintf("%s = host=%s port=%d", database, db.Host, db.Port))
			}
			p := startPooler(t, c)
			for _, role := range users {
				for _, database := range databases {
					urls = append(urls, p.DSN(role, "", database))
				}
			}
			watch := watchLimit(t, db, test.want, databases...)
			all := startMixedCrowd(t, urls, pgx.QueryExecModeExec, 60)
			all.progress(t, "everybody's work", 600)
			eventually(t, "as many servers as allowed", func() error {
				if n := watch.seen(); n != test.want {
					return fmt.Errorf("%d servers, want %d", n, test.want)
				}
				return nil
			})
			if err := all.stop(); err != nil {
				t.Error(err)
			}
			watch.stop(t)
		})
	}
}

// TestClientLimits counts clients by database and by user.
func TestClientLimits(t *testing.T) {
	begin(t)
	for setting, text := range map[string]string{
		"max_client_conn":             "no more connections allowed (max_client_conn)",
		"max_db_client_connections":   "client connections exceeded (max_db_client_connections)",
		"max_user_client_connections": "client connections exceeded (max_user_client_connections)",
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			const most = 7
			db := suite.postgres
			database := ownDatabase(t, db)
			p := startMortal(t, manyOverFew(db, database, nil))
			if suite.pgbouncer && setting != "max_client_conn" {
				t.Skip("PgBouncer before 1.24 does not know it")
			}
			base := atRest(t, p, database)
			if err := p.Reload(testContext(t), manyOverFew(db, database, map[string]string{setting: fmt.Sprint(most)})); err != nil {
				t.Fatal(err)
			}
			var in []*pgx.Conn
			for range most {
				// Connections that have just ended may still count.
				eventually(t, "room for a client", func() error {
					conn, err := dial(testContext(t), p, database, pgx.QueryExecModeExec)
					if err == nil {
						in = append(in, conn)
					}
					return err
				})
			}
			_, err := dial(testContext(t), p, database, pgx.QueryExecModeExec)
			var pgErr *pgconn.PgError
			if !errors.As(err, &pgErr) || !strings.Contains(pgErr.Message, text) {
				t.Errorf("client %d: %v, want %s", most+1, err, text)
			}
			if err := in[0].Close(testContext(t)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "room for another client", func() error {
				conn, err := dial(testContext(t), p, database, pgx.QueryExecModeExec)
				if err != nil {
					return err
				}
				return conn.Close(testContext(t))
			})
			for _, conn := range in {
				conn.Close(testContext(t))
			}
			base.check(t)
		})
	}
}
