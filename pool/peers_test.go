package pool_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/wire"
)

// peered is a world that is peer 258 of three.
func peered(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, "auth_type = trust\npeer_id = 258\n[peers]\n258 = host=here\n7 = host=/run/seven port=6433 pool_size=1", "")
	w.dialer.sent = nil
	return w
}

// cancelRequest sends one for key.
func (w *world) cancelRequest(key string) *client {
	return w.connect().send(append(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 16}, 80877102), key...))
}

// TestPeerKey: the keys that are given out say whose they are.
func TestPeerKey(t *testing.T) {
	w := peered(t)
	c := w.connect().startup("user", "alice", "database", "app")
	w.serve()
	for _, m := range c.wantWelcome() {
		if k := m.body; m.typ == wire.BackendKeyData && (k[0] >= 0x80 || k[1] != 2 || k[2] != 1 || k[7]&3 != 3) {
			t.Errorf("key %x", k)
		}
	}
}

// TestForwardCancel: whose key it is gets the request, as long as it has not
// gone from process to process too often.
func TestForwardCancel(t *testing.T) {
	for _, test := range []struct{ name, key, sent, log string }{
		{"another's", "\x01\x07\x00\x04\x05\x06\x08\x0b", "/run/seven:6433 010700040506080a", "successfully sent cancel request"},
		{"for the last time", "\x01\x07\x00\x04\x05\x06\x08\x09", "/run/seven:6433 0107000405060808", "successfully sent cancel request"},
		{"too often", "\x01\x07\x00\x04\x05\x06\x08\x08", "", "failed to forward cancel request because its TTL was exhausted"},
		{"nobody's", "\x01\x09\x00\x04\x05\x06\x08\x0b", "", "could not find peer to forward request to"},
		{"our own", "\x01\x02\x01\x04\x05\x06\x08\x0b", "", "failed cancel request"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := peered(t)
			w.cancelRequest(test.key).wantSilence()
			if got := w.dialer.sent; len(got) > 1 || len(got) == 1 && got[0] != test.sent || len(got) == 0 && test.sent != "" {
				t.Errorf("sent %q, want %q", got, test.sent)
			}
			if !w.log.has("closing because: " + test.log) {
				t.Errorf("the log does not say %q: %q", test.log, w.log)
			}
		})
	}
}

// TestForwardedBack: a request for a key of our own that has passed through
// other processes reaches its query.
func TestForwardedBack(t *testing.T) {
	for _, hops := range []byte{0, 1, 2, 3} {
		w := peered(t)
		c := w.connect().startup("user", "alice", "database", "app")
		w.serve()
		key := []byte(c.wantKey())
		c.send(wire.AppendQuery(nil, "select pg_sleep(10)"))
		w.pass(time.Second)
		key[7] = key[7]&^3 | hops
		w.cancelRequest(string(key))
		if len(w.dialer.sent) != 1 {
			t.Errorf("%d hops left: sent %q", hops, w.dialer.sent)
		}
	}
}

// ini makes a Reload that reads the configuration which text points to.
func ini(text *string) func(*pool.Options) {
	return func(o *pool.Options) {
		o.Reload = func(*configs.Snapshot) (*configs.Snapshot, error) {
			return configs.Parse("test", "[databases]\napp = host=db\n[pgbouncer]\nauth_type = trust\n"+*text)
		}
	}
}

// reload has the configuration read anew.
func (w *world) reload() {
	w.t.Helper()
	w.outside(func() {
		if err := w.p.Reload(); err != nil {
			w.t.Fatal(err)
		}
	})
}

// TestPeerReload changes the peers while requests to one of them are under way
// and others wait for their turn.
func TestPeerReload(t *testing.T) {
	const other = "/run/seven:6432 0107000405060802"
	for _, test := range []struct {
		name, peers string
		removed     int      // requests that end at once
		sent        []string // what is sent in the end
	}{
		{"as before", "7 = host=/run/seven pool_size=1", 0, []string{other, other, other}},
		{"more at once", "7 = host=/run/seven pool_size=3", 0, []string{other, other, other}},
		{"elsewhere", "7 = host=/run/eight port=7000 pool_size=1", 0, []string{other, "/run/eight:7000 0107000405060802", "/run/eight:7000 0107000405060802"}},
		{"removed", "", 2, []string{other}},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := "peer_id = 258\n[peers]\n" + test.peers
			w := newWorldWith(t, "auth_type = trust\npeer_id = 258\n[peers]\n7 = host=/run/seven pool_size=1", "", ini(&text))
			w.dialer.hold = true
			for range 3 {
				w.cancelRequest("\x01\x07\x00\x04\x05\x06\x08\x03")
			}
			w.reload()
			removed := 0
			for _, line := range w.log {
				if strings.Contains(line, "closing because: peer removed") {
					removed++
				}
			}
			if under := len(w.dialer.held); removed != test.removed || under != 1 && test.name != "more at once" || under != 3 && test.name == "more at once" {
				t.Errorf("%d requests ended, %d are under way", removed, under)
			}
			for len(w.dialer.held) > 0 {
				run := w.dialer.held[0]
				w.dialer.held = w.dialer.held[1:]
				run()
				w.settle()
			}
			if !slices.Equal(w.dialer.sent, test.sent) {
				t.Errorf("sent %q, want %q", w.dialer.sent, test.sent)
			}
		})
	}
}

// TestPeerAdded: a request that comes after the RELOAD which adds its peer is
// passed on, though one before was not.
func TestPeerAdded(t *testing.T) {
	text := "peer_id = 258\n[peers]\n7 = host=/run/seven"
	w := newWorldWith(t, "auth_type = trust\npeer_id = 258", "", ini(&text))
	w.cancelRequest("\x01\x07\x00\x04\x05\x06\x08\x03").wantSilence()
	w.reload()
	w.cancelRequest("\x01\x07\x00\x04\x05\x06\x08\x03").wantSilence()
	if want := []string{"/run/seven:6432 0107000405060802"}; !slices.Equal(w.dialer.sent, want) {
		t.Errorf("sent %q, want %q", w.dialer.sent, want)
	}
}

// TestPeerIDChanges: a RELOAD that gives the process another peer_id, or its
// first, or none, leaves the keys as good as they were that were given out
// before. They are found however often the request was passed on, and nobody
// else is asked.
func TestPeerIDChanges(t *testing.T) {
	for _, test := range []struct{ before, after int }{{258, 7}, {258, 9}, {258, 0}, {0, 258}, {258, 258}} {
		for _, hops := range []byte{0, 1, 2, 3} {
			peer := func(id int) string {
				return fmt.Sprintf("peer_id = %d\n[peers]\n258 = host=/run/us\n7 = host=/run/seven", id)
			}
			text := peer(test.after)
			w := newWorldWith(t, "auth_type = trust\n"+peer(test.before), "", ini(&text))
			c := w.connect().startup("user", "alice", "database", "app")
			w.serve()
			key := []byte(c.wantKey())
			c.send(wire.AppendQuery(nil, "select pg_sleep(10)"))
			w.reload()
			w.pass(time.Second) // the query is under way
			if test.before != 0 {
				key[7] = key[7]&^3 | hops
			}
			w.cancelRequest(string(key)).wantSilence()
			if len(w.dialer.sent) != 1 || !strings.HasPrefix(w.dialer.sent[0], "10.0.0.1:5432 ") {
				t.Errorf("peer_id %d, then %d, %d hops left: sent %q", test.before, test.after, hops, w.dialer.sent)
			}
		}
	}
}

// TestForwardTurns: no more requests than pool_size are under way to a peer.
// One whose client has left is sent when its turn comes.
func TestForwardTurns(t *testing.T) {
	w := peered(t)
	w.dialer.hold = true
	key := "\x01\x07\x00\x04\x05\x06\x08\x03"
	w.cancelRequest(key)
	gone := w.cancelRequest(key)
	w.cancelRequest(key)
	want := func(under, waiting int) {
		t.Helper()
		got := w.p.Peers()
		if len(w.dialer.held) != under || !slices.Equal(got, []pool.PeerInfo{
			{ID: 258, Host: "here", Port: 6432, PoolSize: 20},
			{ID: 7, Host: "/run/seven", Port: 6433, PoolSize: 1, Sending: under, Waiting: waiting},
		}) {
			t.Errorf("%d are sent, %+v", len(w.dialer.held), got)
		}
	}
	next := func() {
		run := w.dialer.held[0]
		w.dialer.held = w.dialer.held[1:]
		run()
		w.settle()
	}
	want(1, 2)
	gone.leave()
	next()
	want(1, 1)
	next()
	want(1, 0)
	next()
	want(0, 0)
	if len(w.dialer.sent) != 3 {
		t.Errorf("sent %q", w.dialer.sent)
	}
}
