package configs

import (
	"fmt"
	"strings"
	"testing"
)

// claimed lists the claims of a configuration, one a line.
func claimed(t *testing.T, text string) string {
	t.Helper()
	s := parsed(t, text)
	var b strings.Builder
	for _, c := range s.Claims() {
		most := fmt.Sprint(c.Most)
		if c.Most == Unbounded {
			most = "any"
		}
		fmt.Fprintf(&b, "%s on %s: %s of %v\n", c.Plan.Name, c.On, most, c.Entries)
	}
	return b.String()
}

// parsed reads text as a configuration whose auth_file has the users a and b.
func parsed(t *testing.T, text string) *Snapshot {
	t.Helper()
	l := newLoader("claims.ini", nil)
	l.read = func(string) ([]byte, error) { return []byte("\"a\" \"x\"\n\"b\" \"x\"\n"), nil }
	l.ini().text("claims.ini", text)
	s, err := l.finish()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestClaims(t *testing.T) {
	const main = "[pgbouncer]\nauth_file = users.txt\ndefault_pool_size = 10\nreserve_pool_size = 2\n"
	for _, test := range []struct{ what, text, want string }{
		{"no plan", main + "[databases]\nx = host=h\n", ""},
		{"two users", main + "plan=auto\n[databases]\nx = host=h\n", "auto on h:5432: 24 of [x]\n"},
		{
			"entries add up", main + "plan=auto\n[databases]\nx = host=h user=a\ny = host=h user=a pool_size=3\nz = host=h port=5433 user=a\n",
			"auto on h:5432: 17 of [x y]\nauto on h:5433: 12 of [z]\n",
		},
		{
			"limits of databases and users", main + "plan=auto\n[databases]\nx = host=h max_db_connections=15\ny = host=h\n[users]\nb = max_user_connections=5\n",
			"auto on h:5432: 29 of [x y]\n",
		},
		{"a pool without limit", main + "plan=auto\n[databases]\nx = host=h user=a pool_size=0\n", "auto on h:5432: any of [x]\n"},
		{
			"users that nobody knows", main + "plan=auto\nauth_type=ldap\nauth_ldap_options=ldapurl=\"ldap://h/ou=x\"\n[databases]\nx = host=h\ny = host=h2 max_db_connections=7\n",
			"auto on h:5432: any of [x]\nauto on h2:5432: 7 of [y]\n",
		},
		{
			"the pool of auth_query", main + "plan=auto\nauth_user=c\nauth_dbname=x\n[databases]\nx = host=h user=a\ny = host=h user=a\n",
			"auto on h:5432: 36 of [x y]\n",
		},
		{"any number of entries", main + "plan=auto\n[databases]\n* = host=h user=a max_db_connections=7\n", "auto on h:5432: any of [*]\n"},
		{
			"several hosts", main + "plan=auto\n[databases]\nx = host=h,i user=a\ny = host=i user=a\n",
			"auto on h,i:5432: 12 of [x]\nauto on i:5432: 12 of [y]\n",
		},
		{
			"by role", main + "plan=heroku:essential-0\n[databases]\nx = host=h\ny = host=h user=a max_db_connections=4\n",
			"heroku:essential-0 on a@h:5432: 16 of [x y]\nheroku:essential-0 on b@h:5432: 12 of [x]\n",
		},
		{
			"by roles that nobody knows", main + "plan=heroku:essential-0\nauth_type=passthrough\n[databases]\nx = host=h\n",
			"heroku:essential-0 on any other user@h:5432: 12 of [x]\nheroku:essential-0 on a@h:5432: 12 of [x]\nheroku:essential-0 on b@h:5432: 12 of [x]\n",
		},
		{
			"by entry", main + "[plans]\nfree = max_server_connections=5 scope=database\n[databases]\nx = host=h plan=free\ny = host=h plan=free\n* = host=h plan=free",
			"free on x: 24 of [x]\nfree on y: 24 of [y]\nfree on each entry made from *: 24 of [*]\n",
		},
		{
			"two plans on a server", main + "[plans]\np = max_server_connections=5\nq = max_server_connections=5\n[databases]\nx = host=h plan=p user=a\ny = host=h plan=q user=a\n",
			"p on h:5432: 12 of [x]\nq on h:5432: 12 of [y]\n",
		},
	} {
		if got := claimed(t, test.text); got != test.want {
			t.Errorf("%s:\n%swant\n%s", test.what, got, test.want)
		}
	}
}

func TestFits(t *testing.T) {
	const main = "[pgbouncer]\nauth_file = users.txt\nplan = heroku:standard-0\n"
	for _, test := range []struct {
		text      string
		processes int
		want      string
	}{
		{main + "[databases]\nx = host=h user=a\n", 5, ""},
		{
			main + "[databases]\nx = host=h user=a\n", 6,
			"plan heroku:standard-0 on h:5432: 6 processes with up to 20 server connections each make 120, and the plan has room for 114" +
				"; write plan_processes = 6 into [pgbouncer], and each opens at most 19, or max_db_connections=19 on entry x, or take a larger plan, such as heroku:standard-2",
		},
		{main + "plan_processes = 6\n[databases]\nx = host=h user=a\n", 6, ""},
		{
			main + "[databases]\nx = host=h user=a\ny = host=h\n", 20,
			"plan heroku:standard-0 on h:5432: 20 processes with up to 60 server connections each make 1200, and the plan has room for 114" +
				"; write plan_processes = 20 into [pgbouncer], and each opens at most 5, or max_db_connections=2 on each of the 2 entries, or take a larger plan, such as heroku:advanced-16g",
		},
		{
			main + "[databases]\n* = host=h\n", 2,
			"plan heroku:standard-0 on h:5432: 2 processes with up to 114 server connections each make 228, and the plan has room for 114" +
				"; write plan_processes = 2 into [pgbouncer], and each opens at most 57",
		},
		{
			main + "[databases]\nx = host=h user=a pool_size=2\n", 115,
			"plan heroku:standard-0 on h:5432: 115 processes with up to 2 server connections each make 230, and the plan has room for 114" +
				"; that is not even one for each: run at most 114, or take a larger plan, such as heroku:standard-2",
		},
		{"[pgbouncer]\nplan = auto\n[databases]\n* = host=h\n", 100, ""},
		{
			"[pgbouncer]\n[plans]\nown = max_server_connections=5\n[databases]\nx = host=h user=a plan=own", 2,
			"plan own on h:5432: 2 processes with up to 5 server connections each make 10, and the plan has room for 5" +
				"; write plan_processes = 2 into [pgbouncer], and each opens at most 2, or max_db_connections=2 on entry x",
		},
	} {
		c := parsed(t, test.text).Claims()[0]
		if ok, advice := c.Fits(test.processes); advice != test.want || ok != (test.want == "") {
			t.Errorf("%v\n%s\nwant\n%s", ok, advice, test.want)
		}
	}
}

// TestClaimWarnings: what is wrong with plans that each are right.
func TestClaimWarnings(t *testing.T) {
	const main = "[pgbouncer]\nauth_file = users.txt\nplan_processes = 30\n[databases]\n"
	for _, test := range []struct{ text, want string }{
		{main + "x = host=h user=a plan=heroku:standard-0\ny = host=h user=a plan=heroku:standard-0\nz = host=i user=a plan=rds:db.t4g.small\n", ""},
		{
			main + "x = host=h user=a plan=heroku:standard-0\ny = host=h user=a plan=rds:db.t4g.small\n",
			"claims.ini:6: plan rds:db.t4g.small on h:5432: database x has plan heroku:standard-0 there; a server has one plan, and these two are counted apart\n",
		},
		{
			main + "x = host=h user=a plan=heroku:mini\n",
			"claims.ini:5: plan heroku:mini on a@h:5432 has room for 18 connections, and plan_processes is 30; each process opens one all the same\n",
		},
	} {
		var got strings.Builder
		for _, p := range parsed(t, test.text).Warnings {
			fmt.Fprintln(&got, p)
		}
		if got.String() != test.want {
			t.Errorf("warnings:\n%swant\n%s", &got, test.want)
		}
	}
}
