package pool_test

import (
	"context"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/dial"
)

// oneAddress is a Resolver for which every name has the same address.
type oneAddress struct{ atomic.Value }

func (a *oneAddress) Addrs(context.Context, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr(a.Load().(string))}, nil
}

func (a *oneAddress) Serial(context.Context, string) (uint32, error) { return 0, nil }

// TestNameMoves: servers at an address that their host's name does not have any
// more are closed when they are free, others stay.
func TestNameMoves(t *testing.T) {
	var at oneAddress
	at.Store("10.0.0.1")
	never := func() time.Duration { return 0 }
	w := newWorldWith(t, "auth_type = trust\npool_mode = session", "app = host=db", func(o *pool.Options) {
		o.Names = dial.NewNames(dial.NamesOptions{Resolver: &at, MaxTTL: never, NXDomainTTL: never, ZoneCheck: never, Now: time.Now})
	})
	w.connect().startup("user", "alice", "database", "app")
	names := w.dialer.asked[0].Names
	lookup := func() {
		if _, err := names.Resolve(t.Context(), "db"); err != nil {
			t.Fatal(err)
		}
	}
	lookup()
	w.dialer.next(t)(&dial.Session{Name: "db", Host: "10.0.0.1", Params: reported}, nil)
	w.settle()
	w.pass(time.Second)
	server := w.loop.conns[1]
	if server.closed {
		t.Fatal("closed while nothing has changed")
	}
	at.Store("10.0.0.2")
	lookup()
	w.pass(time.Second)
	if !server.closed || !w.log.has("the name db has other addresses now") {
		t.Errorf("the server is still there: %v", w.log)
	}
	hosts, zones, _ := w.p.Names()
	if len(hosts) != 1 || hosts[0].Host != "db" || hosts[0].Addrs[0].String() != "10.0.0.2" || len(zones) != 0 {
		t.Errorf("%+v, %+v", hosts, zones)
	}
}
