package pool_test

import (
	"testing"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/wire"
)

// newPlanned makes a world with databases and plans, whose RELOAD reads *next.
func newPlanned(t *testing.T, text string, next *string) *world {
	const main = "auth_type = trust\npool_mode = transaction\nquery_wait_timeout = 0\n"
	return newWorldWith(t, main+"[databases]\n"+text, "unused = host=nowhere", func(o *pool.Options) {
		o.Reload = func(old *configs.Snapshot) (*configs.Snapshot, error) {
			snap, err := configs.Parse("test", "[pgbouncer]\n"+main+"[databases]\n"+*next)
			if err == nil {
				snap.Auth = old.Auth
			}
			return snap, err
		}
	})
}

// busy is a client of that database in a transaction, and its server. A server
// that asks what it allows is told.
func (w *world) busy(database string) (*client, *fakeConn) {
	w.t.Helper()
	c := w.connect().startup("user", "alice", "database", database)
	c.send(ask("begin"))
	return c, w.begins()
}

// begins answers the login that is under way and the query behind it, which
// begins a transaction.
func (w *world) begins() *fakeConn {
	w.t.Helper()
	server := w.servesNext()
	if len(server.out) > 0 && string(server.out) != string(ask("begin")) {
		w.reply(server, live())
	}
	w.reply(server, join(tag("BEGIN"), wire.AppendReadyForQuery(nil, wire.TxOpen)))
	return server
}

// logins has so many more clients ask for a server of that database, and returns
// for how many one is opened. These begin a transaction.
func (w *world) logins(database string, n int) (opened int) {
	w.t.Helper()
	for range n {
		w.connect().startup("user", "alice", "database", database).send(ask("begin"))
	}
	for ; len(w.dialer.done) > 0; opened++ {
		w.begins()
	}
	return opened
}

// TestServersFollowTheirPool: after a RELOAD that gives an entry another plan,
// its servers count under that, those in use as well.
func TestServersFollowTheirPool(t *testing.T) {
	const plans = "\n[plans]\nold = max_server_connections=9\nnew = max_server_connections=3\n"
	next := "app = host=db plan=new\nother = host=db plan=new" + plans
	w := newPlanned(t, "app = host=db plan=old\nother = host=db plan=new"+plans, &next)
	for range 2 {
		w.busy("app")
	}
	w.reload()
	if n := w.logins("other", 3); n != 1 {
		t.Errorf("%d servers are opened beside 2 under a plan of 3", n)
	}
}

// TestRemovedEntryKeepsNoPlan: what is left of an entry that a RELOAD removes
// counts under the plan as the same RELOAD has it, and not as it was.
func TestRemovedEntryKeepsNoPlan(t *testing.T) {
	const plan = "\n[plans]\ngold = scope=role max_server_connections="
	next := "app = host=db plan=gold" + plan + "4\n"
	w := newPlanned(t, "app = host=db plan=gold\nother = host=db plan=gold"+plan+"2\n", &next)
	w.busy("app")
	c, _ := w.busy("other")
	w.reload()
	if !c.closed {
		t.Fatal("the client of the removed entry stays")
	}
	endFarewells(w.loop)
	w.settle()
	if n := w.logins("app", 5); n != 3 {
		t.Errorf("%d servers are opened beside 1 under a plan of 4", n)
	}
	w.pass(time.Second)
}
