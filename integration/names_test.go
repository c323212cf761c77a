package integration

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/integration/nameserver"
	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
)

// TestNames has a server's host be a name: it is looked up, shown, and found at
// whichever of its addresses the server listens.
func TestNames(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	c := config(db, database, map[string]string{"pool_mode": "transaction"})
	c.Databases = []string{strings.Replace(entry(db, database), "host="+db.Host, "host=localhost", 1)}
	p := startPooler(t, c)
	for range 3 {
		conn := connect(t, p, database, pgx.QueryExecModeExec)
		tx, err := conn.Begin(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(testContext(t), "select 1"); err != nil {
			t.Error(err)
		}
	}
	rows, err := p.Console(testContext(t), "SHOW DNS_HOSTS")
	if err != nil {
		t.Fatal(err)
	}
	if len(rows) != 1 || rows[0]["hostname"] != "localhost" || !strings.Contains(rows[0]["addrs"], "127.0.0.1:0") {
		t.Errorf("SHOW DNS_HOSTS: %v", rows)
	}
}

// nameServer starts a name server that ends with the test.
func nameServer(t *testing.T) *nameserver.Server {
	t.Helper()
	s, err := nameserver.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestNameChanges has the name of a server's host lead to another address: what
// is idle on the old one is closed, what is in use when it is free, and new
// connections go to the new one. A name server that is silent changes nothing, a
// name that is gone has clients wait, and a zone's new serial number has its
// names looked up before their time.
func TestNameChanges(t *testing.T) {
	begin(t)
	const name, first, second = "db.example.com", "127.0.0.1", "127.0.0.2"
	if l, err := net.Listen("tcp", second+":0"); err != nil {
		t.Skip("this machine has one loopback address only")
	} else {
		l.Close()
	}
	db := ownPostgresWith(t, postgres.Options{Settings: map[string]string{"listen_addresses": first + "," + second}})
	dns := nameServer(t)
	dns.Set(name, first)
	dns.SetSerial("example.com", 1)
	file := fmt.Sprintf("resolv%d.conf", serial.Add(1))
	resolv, err := suite.sandbox.WriteFile(file, []byte(dns.ResolvConf()))
	if err != nil {
		t.Fatal(err)
	}
	c := config(db, postgres.Database, map[string]string{
		"pool_mode": "transaction", "resolv_conf": resolv, "dns_max_ttl": "0.1", "dns_nxdomain_ttl": "0.1", "server_login_retry": "0.2",
	})
	c.Databases[0] = strings.Replace(c.Databases[0], "host="+db.Host, "host="+name, 1)
	p := startPooler(t, c)
	do := func(command string) []pooler.Row {
		t.Helper()
		rows, err := p.Console(testContext(t), command)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	at := func(conn interface {
		QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	},
	) (addr string) {
		t.Helper()
		if err := conn.QueryRow(testContext(t), "select host(inet_server_addr())").Scan(&addr); err != nil {
			t.Fatal(err)
		}
		return addr
	}
	// known waits until the pooler knows addr and nothing else.
	known := func(addr string) {
		t.Helper()
		eventually(t, "the name is "+addr, func() error {
			rows := do("SHOW DNS_HOSTS")
			return unless(len(rows) == 1 && rows[0]["hostname"] == name && rows[0]["addrs"] == addr+":0", "%v", rows)
		})
	}
	// servers waits until those are the addresses of all servers.
	servers := func(want ...string) {
		t.Helper()
		eventually(t, "the right servers", func() error {
			var got []string
			for _, row := range do("SHOW SERVERS") {
				got = append(got, row["addr"])
			}
			return unless(fmt.Sprint(got) == fmt.Sprint(want), "%v, want %v", got, want)
		})
	}

	idle, busy := connect(t, p, postgres.Database, pgx.QueryExecModeExec), connect(t, p, postgres.Database, pgx.QueryExecModeExec)
	tx, err := busy.Begin(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if a, b := at(tx), at(idle); a != first || b != first {
		t.Fatalf("servers at %s and %s", a, b)
	}
	servers(first, first)

	dns.Set(name, second)
	known(second)
	servers(first) // the busy one
	if a := at(tx); a != first {
		t.Errorf("a transaction has gone to %s", a)
	}
	if err := tx.Commit(testContext(t)); err != nil {
		t.Error(err)
	}
	servers()
	if a := at(idle); a != second {
		t.Errorf("a new server at %s", a)
	}

	dns.Silence(true)
	asked := dns.Asked()
	eventually(t, "the name server is asked", func() error { return unless(dns.Asked() > asked, "no question") })
	do("RECONNECT")
	if a := at(idle); a != second {
		t.Errorf("while nobody answers, a new server at %s", a)
	}
	dns.Silence(false)

	dns.Set(name)
	eventually(t, "the name is gone", func() error {
		rows := do("SHOW DNS_HOSTS")
		return unless(len(rows) == 1 && rows[0]["addrs"] == "", "%v", rows)
	})
	servers(second) // which goes on: that there is no name says nothing of it
	do("RECONNECT")
	found := make(chan string, 1)
	go func() {
		var addr string
		if err := idle.QueryRow(testContext(t), "select host(inet_server_addr())").Scan(&addr); err != nil {
			addr = err.Error()
		}
		found <- addr
	}()
	eventually(t, "a login without an address", func() error {
		return unless(strings.Contains(p.Log(), "server DNS lookup failed"), "nothing in the log")
	})
	do("SET dns_max_ttl = 3600")
	dns.Set(name, first)
	if a := <-found; a != first {
		t.Errorf("with its name back, a server at %s", a)
	}

	do("SET dns_zone_check_period = 0.1")
	eventually(t, "the zone is known", func() error {
		rows := do("SHOW DNS_ZONES")
		return unless(len(rows) == 1 && rows[0]["zonename"] == "example.com" && rows[0]["serial"] == "1" && rows[0]["count"] == "1", "%v", rows)
	})
	dns.Set(name, second)
	dns.SetSerial("example.com", 2)
	known(second)
	if ttl, err := strconv.Atoi(do("SHOW DNS_HOSTS")[0]["ttl"]); err != nil || ttl < 3000 {
		t.Errorf("looked up again in %d s, %v", ttl, err)
	}
	servers()

	// Another name server from now on.
	other := nameServer(t)
	other.Set(name, first)
	other.SetSerial("example.com", 3)
	if err := dns.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := suite.sandbox.WriteFile(file, []byte(other.ResolvConf())); err != nil {
		t.Fatal(err)
	}
	known(first)
	if a := at(idle); a != first {
		t.Errorf("another name server, and a server at %s", a)
	}
}
