package sim

import (
	"errors"
	"slices"
	"time"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// dialer is the way from the pooler to the server process.
type dialer struct{ w *World }

var _ pool.Dialer = dialer{}

// Connect implements pool.Dialer.
func (d dialer) Connect(r dial.Request, done func(*dial.Session, error)) {
	w := d.w
	if w.current == nil {
		w.failf("Connect called from outside of a loop")
	}
	name := ""
	for _, param := range r.Params {
		if param[0] == "database" {
			name = param[1]
		}
	}
	o, closed := w.books.opening(w, name, r.User, r.Hosts)
	a := &attempt{unwanted: r.Unwanted}
	w.attempts = append(w.attempts, a)
	fail := func(err *dial.LoginError) {
		if a.over {
			return
		}
		w.tracef("login to %s as %s fails: %v", name, r.User, err)
		closed()
		a.end(w)
		done(nil, err)
	}
	a.giveUp = func() { fail(&dial.LoginError{Kind: dial.Canceled, Reason: "server connection closed"}) }
	w.after(w.between(0, pick(w, time.Millisecond, 10*time.Millisecond, 100*time.Millisecond)), func() {
		if a.over {
			return
		}
		if w.pg.state == serverMute {
			left := r.ConnectTimeout
			if left == 0 {
				left = time.Minute
			}
			w.after(left, func() { fail(&dial.LoginError{Kind: dial.Timeout, Reason: "connect timeout"}) })
			return
		}
		if !w.calm && w.set.dialFaults > 0 && w.chance(w.set.dialFaults) {
			fail(pick(w,
				&dial.LoginError{Kind: dial.ConnectFailed, Reason: "connect failed"},
				&dial.LoginError{Kind: dial.ServerCrashed, Reason: "server conn crashed?"},
				&dial.LoginError{Kind: dial.DNSFailed, Reason: "server DNS lookup failed"},
				&dial.LoginError{Kind: dial.BadSecret, Reason: "server login failed: wrong password type"},
				&dial.LoginError{Kind: dial.Refused, Reason: "no such role", Server: wire.Fields{
					Severity: "FATAL", Code: "28000", Message: "no such role",
				}},
			))
			return
		}
		if w.set.passthrough() && (w.set.password(r.User) == "" || !r.Secret.Equal(auth.Plain(w.set.password(r.User)))) {
			fail(&dial.LoginError{Kind: dial.Refused, Reason: "password authentication failed", Server: wire.Fields{
				Severity: "FATAL", Code: "28P01", Message: "password authentication failed",
			}})
			return
		}
		b, err := w.pg.accept(&r, name)
		if err != nil {
			fail(err)
			return
		}
		w.tracef("%v: %s as %s", b.k, name, r.User)
		b.k.onGone = func() {
			if b.k.shut && !b.k.rude && !b.k.lost && !b.over && o.keeps(w) {
				b.onOver = closed
				return
			}
			closed()
		}
		broken := func(kind dial.Kind, reason string) {
			if a.over {
				return
			}
			b.k.closeByPooler(true)
			b.exit() // it notices that before it has logged anybody in
			fail(&dial.LoginError{Kind: kind, Reason: reason})
		}
		a.giveUp = func() { broken(dial.Canceled, "server connection closed") }
		w.after(w.between(0, 3*time.Millisecond), func() {
			if a.over {
				return
			}
			if b.k.reset || b.k.eof {
				broken(dial.ServerCrashed, "server conn crashed?")
				return
			}
			a.end(w)
			s := &dial.Session{Socket: socketFor(b.k, 5432), Key: b.key, Name: r.Hosts[0], Host: r.Hosts[0]}
			s.Proof = auth.Proof{Asked: true, Secret: r.Secret}
			s.Params = append(s.Params,
				dial.Param{Name: "server_version", Value: "18.0"}, dial.Param{Name: "is_superuser", Value: "off"})
			if w.set.serverTLS {
				b.k.secret = true
				s.Socket.TLS, b.k.far = w.session()
			}
			for _, g := range b.start[:w.pg.reported] {
				s.Params = append(s.Params, dial.Param{Name: g.name, Value: g.value})
			}
			b.told = slices.Clone(b.start)
			b.up = true
			done(s, nil)
			b.kick()
		})
	})
}

// attempt is a login to a server that is under way.
type attempt struct {
	unwanted <-chan struct{} // closed when nobody wants it any more
	giveUp   func()
	leaving  bool // giveUp is under way
	over     bool
}

// end takes a out of those that are under way.
func (a *attempt) end(w *World) {
	a.over = true
	w.attempts = slices.DeleteFunc(w.attempts, func(o *attempt) bool { return o == a })
}

// dropUnwanted gives up the logins that nobody wants any more, soon.
func (w *World) dropUnwanted() {
	for _, a := range w.attempts {
		select {
		case <-a.unwanted:
			if !a.leaving {
				a.leaving = true
				w.after(w.between(0, 3*time.Millisecond), func() { a.giveUp() })
			}
		default:
		}
	}
}

var (
	errCancelTimeout = errors.New("timeout")
	errCancelRefused = errors.New("connection refused")
	errCancelBroken  = errors.New("connection reset by peer")
)

// Cancel implements pool.Dialer.
func (d dialer) Cancel(r dial.Request, host string, key []byte, timeout time.Duration, ready func(send func(bool)), done func(error)) {
	w := d.w
	if host == "" {
		w.failf("Cancel without a host")
	}
	over := false
	end := func(err error) {
		if !over {
			over = true
			if err != nil {
				w.books.lost++
			}
			w.tracef("cancel request to %x: done: %v", key, err)
			done(err)
		}
	}
	if timeout > 0 {
		w.after(timeout, func() { end(errCancelTimeout) })
	}
	slow := pick(w, time.Millisecond, 10*time.Millisecond)
	if w.set.slack && !w.calm && w.chance(3) {
		slow = 300 * time.Millisecond
	}
	w.after(w.between(0, slow), func() {
		switch {
		case over:
			return
		case w.pg.state == serverDown, w.pg.state == serverMute, !w.calm && w.chance(20):
			end(errCancelRefused)
			return
		}
		asked := false
		ready(func(send bool) {
			if asked {
				w.failf("a cancel request was answered twice")
			}
			asked = true
			if !send {
				w.after(w.between(0, time.Millisecond), func() { end(nil) })
				return
			}
			w.tracef("cancel request to %x: sent", key)
			w.pg.cancelSent(key)
			if !w.calm && w.chance(6) { // the connection breaks, and the request is on its way
				slow = 300 * time.Millisecond
				w.after(w.between(0, time.Millisecond), func() { end(errCancelBroken) })
			}
			w.after(w.between(0, slow), func() {
				w.pg.cancel(key)
				w.after(w.between(0, time.Millisecond), func() { end(nil) })
			})
		})
	})
}
