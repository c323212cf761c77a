package pool_test

import (
	"testing"

	"github.com/pgweir/pgweir/wire"
)

// TestPlanIsNoStrangersBusiness: who has not proved who it is neither hears that
// a tenant's plan has no room nor takes any of it.
func TestPlanIsNoStrangersBusiness(t *testing.T) {
	for _, scope := range []string{"database", "server"} {
		t.Run(scope, func(t *testing.T) {
			w := newWorld(t, "auth_type = md5\n[plans]\nfree = max_client_connections=2 scope="+scope, "app = host=db plan=free")
			stranger := func() *client { return w.connect().startup("user", "alice", "database", "app") }
			in := func() *client { return stranger().authenticate("alice", "ecila") }
			waiting := []*client{stranger(), stranger(), stranger()}
			first := in()
			w.serve()
			first.wantWelcome()
			second := in()
			second.wantWelcome()
			stranger().authenticate("alice", "wrong").wantError("password authentication failed")
			stranger().authenticate("nobody", "wrong").wantError("password authentication failed")
			refused := func(c *client) {
				t.Helper()
				all := c.read()
				want := wire.Fields{Severity: "FATAL", Code: "53300", Message: `too many connections for plan "free" (limit 2 clients)`}
				if types(all) != "E" || !c.closed || wire.ParseFields([]byte(all[0].body)) != want {
					t.Errorf("got %q, closed: %v", all, c.closed)
				}
			}
			refused(in())
			second.leave()
			waiting[0].authenticate("alice", "ecila").wantWelcome()
			refused(waiting[1].authenticate("alice", "ecila"))
			first.leave()
			waiting[2].authenticate("alice", "ecila").wantWelcome()
		})
	}
}
