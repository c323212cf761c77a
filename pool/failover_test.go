package pool_test

import (
	"testing"
	"time"

	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// TestNoPrimary: while no host will do, clients wait, also those who come, and
// the hosts are asked once a second.
func TestNoPrimary(t *testing.T) {
	for name, err := range map[string]*dial.LoginError{
		"standbys": {Kind: dial.Unfit, Reason: "server is not primary"},
		"starting": {Kind: dial.Refused, Reason: "starting", Server: wire.Fields{Severity: "FATAL", Code: "57P03", Message: "starting"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "auth_type = trust\nquery_wait_timeout = 120\nclient_login_timeout = 0",
				"app = host=a,b target_session_attrs=primary")
			first := w.connect().startup("user", "alice", "database", "app")
			var second *client
			for i := range 20 {
				if len(w.dialer.done) != 1 {
					t.Fatalf("after %d s: %d logins under way", i, len(w.dialer.done))
				}
				w.refuse(err)
				if second == nil {
					second = w.connect().startup("user", "alice", "database", "app")
				}
				w.pass(1300 * time.Millisecond)
				for len(w.dialer.done) > 1 {
					w.refuse(err)
				}
			}
			w.serve()
			first.wantWelcome()
			second.wantWelcome()
		})
	}
}
