package integration

import (
	"fmt"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
)

// TestRolesBehindOneName has one name lead to a primary and to a standby, and
// entries that ask for either. Each finds what it asks for, also while an address
// hangs or refuses, when the roles are swapped, and when the name changes.
func TestRolesBehindOneName(t *testing.T) {
	begin(t)
	const name, first, second = "db.example.com", "127.0.0.1", "127.0.0.2"
	if l, err := net.Listen("tcp", second+":0"); err != nil {
		t.Skip("this machine has one loopback address only")
	} else {
		l.Close()
	}
	primary := ownPostgres(t)
	standby, err := primary.Standby(testContext(t), "standby", second)
	if err != nil {
		t.Fatal(err)
	}
	dns := nameServer(t)
	dns.Set(name, first, second)
	dns.SetSerial("example.com", 1)
	resolv, err := suite.sandbox.WriteFile(fmt.Sprintf("resolv%d.conf", serial.Add(1)), []byte(dns.ResolvConf()))
	if err != nil {
		t.Fatal(err)
	}
	c := pooler.Config{
		Settings: map[string]string{
			"pool_mode": "transaction", "default_pool_size": "4", "loops": "2", "resolv_conf": resolv,
			"dns_max_ttl": "3600", "dns_nxdomain_ttl": "0.1", "dns_zone_check_period": "0.1",
			"server_login_retry": "0.2",
		},
		Userlist: map[string]string{user: ""},
	}
	for database, attrs := range map[string]string{"app": "read-write", "replica": "standby", "any": "prefer-standby"} {
		c.Databases = append(c.Databases, fmt.Sprintf("%s = host=%s port=%d dbname=%s user=%s target_session_attrs=%s",
			database, name, primary.Port, postgres.Database, postgres.Superuser, attrs))
	}
	p := startPooler(t, c)
	// move gives the name other addresses, and its zone another serial number.
	zone := uint32(1)
	move := func(addrs ...string) {
		zone++
		dns.Set(name, addrs...)
		dns.SetSerial("example.com", zone)
	}
	// onStandby waits until so many of two connections to a database are on a
	// standby.
	onStandby := func(database string, want int) {
		t.Helper()
		eventually(t, "servers of "+database, func() error {
			got := standbys(t, p, database, 2)
			return unless(got == want, "%d of 2 are on a standby, want %d", got, want)
		})
	}
	// noServers waits until a database has none.
	noServers := func(database string) {
		t.Helper()
		eventually(t, "no server of "+database, func() error {
			rows, err := p.Console(testContext(t), "SHOW SERVERS")
			if err != nil {
				return err
			}
			for _, row := range rows {
				if row["database"] == database {
					return fmt.Errorf("%v", row)
				}
			}
			return nil
		})
	}
	onStandby("app", 0)
	onStandby("replica", 2)
	onStandby("any", 2)
	app := startCrowd(t, p, "app", pgx.QueryExecModeExec, 20, lost)
	app.progress(t, "before", 100)

	// The standby's address hangs.
	set(t, p, "server_connect_timeout", "1")
	thaw, err := standby.Freeze(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	noServers("replica")
	noServers("any")
	onStandby("any", 0)
	app.progress(t, "beside an address that hangs", 500)
	if n := app.refused.Load(); n > 0 {
		t.Errorf("%d clients of the primary were told of an error", n)
	}
	if err := thaw(); err != nil {
		t.Fatal(err)
	}
	set(t, p, "server_connect_timeout", "15")

	// The primary's refuses, until it is the standby's.
	primary.Kill()
	allWait(t, p, "app", 20)
	if err := standby.Promote(testContext(t)); err != nil {
		t.Fatal(err)
	}
	app.progress(t, "on the new primary", 500)
	onStandby("any", 0)
	if err := primary.Follow(testContext(t), standby); err != nil {
		t.Fatal(err)
	}
	onStandby("replica", 2)
	onStandby("app", 0)

	// The name leads to the new primary alone, then nowhere, then to both.
	move(second)
	noServers("replica")
	app.progress(t, "where the name leads to it alone", 100)
	move()
	eventually(t, "the name is gone", func() error {
		rows, err := p.Console(testContext(t), "SHOW DNS_HOSTS")
		return unless(err == nil && len(rows) == 1 && rows[0]["addrs"] == "", "%v, %v", rows, err)
	})
	app.progress(t, "without a name", 100)
	if _, err := p.Console(testContext(t), "RECONNECT app"); err != nil {
		t.Fatal(err)
	}
	allWait(t, p, "app", 20)
	move(first, second)
	app.progress(t, "with the name back", 500)
	onStandby("replica", 2)
	onStandby("app", 0)
	if err := app.stop(); err != nil {
		t.Error(err)
	}
}
