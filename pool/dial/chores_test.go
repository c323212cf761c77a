package dial_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire/loop"
)

// result waits for what a chore tells.
func result[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(time.Minute):
		t.Fatal("the chore does not end")
	}
	return v
}

func TestChoresConnect(t *testing.T) {
	type answer struct {
		session *dial.Session
		err     error
	}
	answers := make(chan answer, 1)
	done := func(s *dial.Session, err error) { answers <- answer{s, err} }

	s := newScript(t, "tcp", "127.0.0.1:0", sends([]byte(authOK+ready)))
	r := s.request()
	r.Detach = nil
	c := &dial.Chores{Detach: loop.Detach, Context: t.Context()}
	c.Connect(r, done)
	a := result(t, answers)
	if a.err != nil {
		t.Fatal(a.err)
	}
	a.session.Close()
	s.expectClosed(t)

	ctx, cancel := context.WithCancel(t.Context())
	s = newScript(t, "tcp", "127.0.0.1:0", func(net.Conn) { cancel() })
	c = &dial.Chores{Detach: loop.Detach, Context: ctx}
	c.Connect(s.request(), done)
	a = result(t, answers)
	wantError(t, a.err, dial.Canceled, "server connection closed")
	if a.session != nil {
		t.Error("an error and a session")
	}
}

// TestUnwanted: a login that nobody wants any more ends at once, wherever it is,
// and says nothing of its host.
func TestUnwanted(t *testing.T) {
	unwanted := make(chan struct{})
	s := newScript(t, "tcp", "127.0.0.1:0", func(net.Conn) { close(unwanted) })
	r := s.request()
	r.Hosts = append(r.Hosts, "127.0.0.1")
	r.Unwanted = unwanted
	r.Failed = func(err *dial.LoginError) { t.Errorf("%s failed: %v", err.Host, err) }
	_, err := dial.Connect(t.Context(), r)
	wantError(t, err, dial.Canceled, "server connection closed")
	s.expectClosed(t)
	_, err = dial.Connect(t.Context(), r)
	wantError(t, err, dial.Canceled, "server connection closed")
}

// TestChoresCancel: the answer that was asked for decides, and where none comes
// the timeout does, without a request sent.
func TestChoresCancel(t *testing.T) {
	for _, test := range []struct {
		name    string
		timeout time.Duration
		ready   func(send func(bool))
		want    string
		timely  bool
	}{
		{"sent", 0, func(send func(bool)) { go send(true) }, "\x04\xd2\x16\x2e12345678", true},
		{"left", 0, func(send func(bool)) { send(false) }, "", true},
		{"no answer", 20 * time.Millisecond, func(func(bool)) {}, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			got := make(chan string, 1)
			go func() {
				c, err := l.Accept()
				if err != nil { // the time was over before
					got <- ""
					return
				}
				defer c.Close()
				got <- string(readStartup(c))
			}()
			errs := make(chan error, 1)
			c := &dial.Chores{Context: t.Context()}
			r := (&script{Listener: l}).request()
			c.Cancel(r, r.Hosts[0], []byte("12345678"), test.timeout, test.ready, func(err error) { errs <- err })
			if err := result(t, errs); test.timely != (err == nil) || err != nil && dial.AsLoginError(err).Kind != dial.Timeout {
				t.Error(err)
			}
			if !test.timely {
				l.Close()
			}
			if got := result(t, got); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
