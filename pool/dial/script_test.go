package dial_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
	"github.com/pgweir/pgweir/wire/loop"
)

// script is a server that answers as it is told.
type script struct {
	net.Listener
	done chan struct{} // closed when the one connection is closed by the client
}

// newScript plays once: it takes a connection, reads the StartupMessage, and
// leaves the rest to play, if any. Then it reads until the client closes. The
// test fails if the client never does.
func newScript(t *testing.T, network, address string, play func(net.Conn)) *script {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{l, make(chan struct{})}
	t.Cleanup(func() { l.Close() })
	go func() {
		defer close(s.done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		readStartup(c)
		if play != nil {
			play(c)
		}
		io.Copy(io.Discard, c)
	}()
	return s
}

// readStartup reads an untyped packet.
func readStartup(c net.Conn) (body []byte) {
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil
	}
	body = make([]byte, int(head[2])<<8+int(head[3])-4)
	io.ReadFull(c, body)
	return body
}

// sends is a play that sends p.
func sends(p []byte) func(net.Conn) {
	return func(c net.Conn) { c.Write(p) }
}

// expectClosed waits until the client has closed.
func (s *script) expectClosed(t *testing.T) {
	t.Helper()
	select {
	case <-s.done:
	case <-time.After(time.Minute):
		t.Error("the connection is still open")
	}
}

// request asks for the script.
func (s *script) request() dial.Request {
	r := request()
	switch a := s.Addr().(type) {
	case *net.TCPAddr:
		r.Hosts, r.Port = []string{a.IP.String()}, a.Port
	case *net.UnixAddr:
		r.Hosts, r.Port = []string{filepath.Dir(a.Name)}, 5432
	}
	return r
}

// request is what all requests of these tests have in common.
func request() dial.Request {
	return dial.Request{
		Params:         [][2]string{{"database", "db"}, {"user", "joe"}},
		User:           "joe",
		Secret:         auth.Plain("s3cret"),
		Random:         rand.Reader,
		ConnectTimeout: time.Minute,
		Detach:         loop.Detach,
	}
}

// msg is a message with a body.
func msg(typ byte, body string) string {
	b, at := wire.Begin(nil, typ)
	return string(wire.End(append(b, body...), at))
}

const (
	authOK    = "R\x00\x00\x00\x08\x00\x00\x00\x00"
	cleartext = "R\x00\x00\x00\x08\x00\x00\x00\x03"
	ready     = "Z\x00\x00\x00\x05I"
	key       = "K\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x02"
)

// wantError checks kind and reason of a failed Connect.
func wantError(t *testing.T, err error, kind dial.Kind, reason string) *dial.LoginError {
	t.Helper()
	e := dial.AsLoginError(err)
	if e == nil {
		t.Fatalf("%v is not a LoginError", err)
	}
	if e.Kind != kind || e.Reason != reason {
		t.Fatalf("%s, %q; want %s, %q (%v)", e.Kind, e.Reason, kind, reason, err)
	}
	return e
}

func TestSession(t *testing.T) {
	s := newScript(t, "tcp", "127.0.0.1:0", sends([]byte(
		authOK+msg('S', "b\x001\x00")+msg('N', "SNOTICE\x00\x00")+key+msg('S', "a\x00\x00")+ready+"Sbehind")))
	session, err := dial.Connect(t.Context(), s.request())
	if err != nil {
		t.Fatal(err)
	}
	if p := session.Params; len(p) != 2 || p[0] != (dial.Param{Name: "b", Value: "1"}) || p[1] != (dial.Param{Name: "a"}) {
		t.Errorf("params %v", p)
	}
	if string(session.Key) != "\x00\x00\x00\x01\x00\x00\x00\x02" {
		t.Errorf("key %q", session.Key)
	}
	if string(session.Socket.Early) != "Sbehind" {
		t.Errorf("early %q", session.Socket.Early)
	}
	if session.Host != "127.0.0.1" || session.Socket.Remote.String() != s.Addr().String() {
		t.Errorf("host %s, %s", session.Host, session.Socket.Remote)
	}
	session.Close()
	s.expectClosed(t)
}

// TestStartupMessage checks the first packet byte by byte, and that the
// parameters keep their order.
func TestStartupMessage(t *testing.T) {
	got := make(chan string, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		got <- string(readStartup(c))
	}()
	r := (&script{Listener: l}).request()
	r.Params = [][2]string{{"database", "d"}, {"TimeZone", "UTC"}, {"user", "u"}}
	_, err = dial.Connect(t.Context(), r)
	wantError(t, err, dial.ServerCrashed, "server conn crashed?")
	if s := <-got; s != "\x00\x03\x00\x00database\x00d\x00TimeZone\x00UTC\x00user\x00u\x00\x00" {
		t.Errorf("%q", s)
	}
}

// TestMisbehaviour: whatever a server sends, Connect returns, says what, and
// has closed the connection.
func TestMisbehaviour(t *testing.T) {
	const protocol = dial.Protocol
	many := strings.Repeat(msg('N', strings.Repeat("x", 1<<19)), 9)
	for _, test := range []struct {
		name   string
		sent   string
		kind   dial.Kind
		reason string
	}{
		{"garbage", "HTTP/1.1 400 Bad Request\r\n\r\n", protocol, "bad pkt header"},
		{"no fork", "Ecould not fork new process for connection: Cannot allocate memory\n\x00", protocol, "bad pkt header"},
		{"length 0", "R\x00\x00\x00\x00", protocol, "bad pkt header"},
		{"length 3", "R\x00\x00\x00\x03", protocol, "bad pkt header"},
		{"length 2³¹", "R\x80\x00\x00\x00", protocol, "bad pkt header"},
		{"length 2³²-1", "S\xff\xff\xff\xff", protocol, "bad pkt header"},
		{"auth of 64 KiB", "R\x00\x01\x00\x00", protocol, "bad pkt header"},
		{"message of 1 MiB", "N\x00\x10\x00\x00", protocol, "bad pkt header"},
		{"endless notices", many, protocol, "bad pkt header"},
		{"auth without code", "R\x00\x00\x00\x06ab", protocol, "failed to answer authreq"},
		{"GSS", "R\x00\x00\x00\x08\x00\x00\x00\x07", protocol, "failed to answer authreq"},
		{"auth after ok", authOK + cleartext, protocol, "failed to answer authreq"},
		{"ok after ok", authOK + authOK, protocol, "failed to answer authreq"},
		{"ready before ok", ready, protocol, "unknown pkt from server"},
		{"parameter before ok", msg('S', "a\x00b\x00"), protocol, "unknown pkt from server"},
		{"key before ok", key, protocol, "unknown pkt from server"},
		{"row", authOK + msg('D', "\x00\x00"), protocol, "unknown pkt from server"},
		{"ready in a transaction", authOK + msg('Z', "T"), protocol, "unknown pkt from server"},
		{"ready without status", authOK + msg('Z', ""), protocol, "unknown pkt from server"},
		{"parameter without value", authOK + msg('S', "a\x00"), protocol, "broken ParameterStatus packet"},
		{"parameter without name", authOK + msg('S', "\x00b\x00"), protocol, "broken ParameterStatus packet"},
		{"parameter and more", authOK + msg('S', "a\x00b\x00c"), protocol, "broken ParameterStatus packet"},
		{"key of 7 bytes", authOK + msg('K', "1234567"), protocol, "bad cancel key"},
		{"key of 261 bytes", authOK + msg('K', strings.Repeat("k", 261)), protocol, "bad cancel key"},
		{"empty error", msg('E', "\x00"), protocol, "unknown pkt from server"},
		{"error without a SQLSTATE", msg('E', "SFATAL\x00Mtoo many\x00\x00"), protocol, "unknown pkt from server"},
		{"error without a message", msg('E', "SFATAL\x00C53300\x00\x00"), protocol, "unknown pkt from server"},
		{"error cut off", msg('E', "SFATAL\x00C533"), protocol, "unknown pkt from server"},
		{"error", msg('E', "SFATAL\x00C53300\x00Mtoo many\x00\x00"), dial.Refused, "too many"},
		{"error after ok", authOK + msg('E', "SFATAL\x00C3D000\x00Mno such\x00\x00"), dial.Refused, "no such"},
		{
			"SCRAM without a mechanism we know", "R" + "\x00\x00\x00\x0a" + "\x00\x00\x00\x0aX\x00"[:6], dial.BadSecret,
			"server login failed: none of the server's SASL authentication mechanisms are supported",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newScript(t, "tcp", "127.0.0.1:0", sends([]byte(test.sent)))
			_, err := dial.Connect(t.Context(), s.request())
			wantError(t, err, test.kind, test.reason)
			s.expectClosed(t)
		})
	}
}

// TestKeySizes: keys of protocol 3.2's sizes are taken, and none at all.
func TestKeySizes(t *testing.T) {
	for _, n := range []int{0, 4, 32, 256} {
		k := ""
		if n > 0 {
			k = "pid4" + strings.Repeat("k", n)
		}
		sent := authOK + ready
		if n > 0 {
			sent = authOK + msg('K', k) + ready
		}
		s := newScript(t, "tcp", "127.0.0.1:0", sends([]byte(sent)))
		session, err := dial.Connect(t.Context(), s.request())
		if err != nil {
			t.Fatal(n, err)
		}
		if string(session.Key) != k || n == 0 && session.Key != nil {
			t.Errorf("%d: %q", n, session.Key)
		}
		session.Close()
	}
}

// TestBreakOff: the server goes away in the middle of a message.
func TestBreakOff(t *testing.T) {
	whole := authOK + key + ready
	for n := range len(whole) {
		s := newScript(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			c.Write([]byte(whole[:n]))
			c.Close()
		})
		_, err := dial.Connect(t.Context(), s.request())
		wantError(t, err, dial.ServerCrashed, "server conn crashed?")
	}
}

// TestOneByteWrites: the server's messages come in the smallest pieces.
func TestOneByteWrites(t *testing.T) {
	s := newScript(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		for _, b := range []byte(authOK + msg('S', "a\x00b\x00") + key + ready) {
			c.Write([]byte{b})
		}
	})
	session, err := dial.Connect(t.Context(), s.request())
	if err != nil {
		t.Fatal(err)
	}
	session.Close()
	s.expectClosed(t)
}

func TestTimeouts(t *testing.T) {
	cause := map[string]struct {
		play   func(net.Conn)
		kind   dial.Kind
		reason string
		ctx    func(t *testing.T, r *dial.Request) context.Context
	}{
		"connect timeout": {nil, dial.Timeout, "connect timeout", func(t *testing.T, r *dial.Request) context.Context {
			r.ConnectTimeout = 20 * time.Millisecond
			return t.Context()
		}},
		"half a login": {sends([]byte(authOK + "S\x00\x00")), dial.Timeout, "connect timeout", func(t *testing.T, r *dial.Request) context.Context {
			r.ConnectTimeout = 20 * time.Millisecond
			return t.Context()
		}},
		"deadline": {nil, dial.Timeout, "connect timeout", func(t *testing.T, r *dial.Request) context.Context {
			r.ConnectTimeout = 0
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			t.Cleanup(cancel)
			return ctx
		}},
		"over before": {nil, dial.Timeout, "connect timeout", func(t *testing.T, r *dial.Request) context.Context {
			ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
			t.Cleanup(cancel)
			return ctx
		}},
	}
	for name, test := range cause {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, "tcp", "127.0.0.1:0", test.play)
			r := s.request()
			_, err := dial.Connect(test.ctx(t, &r), r)
			wantError(t, err, test.kind, test.reason)
			s.Close()
			s.expectClosed(t)
		})
	}
	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := newScript(t, "tcp", "127.0.0.1:0", func(net.Conn) { cancel() })
		_, err := dial.Connect(ctx, s.request())
		wantError(t, err, dial.Canceled, "server connection closed")
		s.expectClosed(t)
	})
}

func TestNobodyThere(t *testing.T) {
	r := request()
	r.Hosts, r.Port = []string{"127.0.0.1"}, 1 // tcpmux, which nobody runs
	_, err := dial.Connect(t.Context(), r)
	wantError(t, err, dial.ConnectFailed, "connect failed")

	r.Hosts = []string{filepath.Join(t.TempDir(), "none")}
	_, err = dial.Connect(t.Context(), r)
	e := wantError(t, err, dial.ConnectFailed, "connect failed")
	if e.Host != r.Hosts[0] || e.Answered() {
		t.Errorf("%q, %v", e.Host, e.Answered())
	}
	r.Hosts = []string{"no..such..name"}
	_, err = dial.Connect(t.Context(), r)
	wantError(t, err, dial.DNSFailed, "server DNS lookup failed")

	r.Hosts = nil
	_, err = dial.Connect(t.Context(), r)
	wantError(t, err, dial.ConnectFailed, "connect failed")
}

// TestPreferStandby: a standby is taken wherever it stands, and if there is none
// another that would have been right otherwise.
func TestPreferStandby(t *testing.T) {
	says := func(standby string) func(net.Conn) {
		return sends([]byte(authOK + msg('S', "in_hot_standby\x00"+standby+"\x00") + msg('S', "default_transaction_read_only\x00off\x00") + ready))
	}
	primary, standby := says("off"), says("on")
	for _, test := range []struct {
		plays []func(net.Conn) // nil: nobody listens
		want  int
	}{
		{[]func(net.Conn){primary, standby}, 1},
		{[]func(net.Conn){standby, primary}, 0},
		{[]func(net.Conn){nil, primary, nil}, 1},
	} {
		r := request()
		r.Port, r.Attrs = 5432, configs.SessionPreferStandby
		for i, play := range test.plays {
			dir := shortDir(t, i)
			r.Hosts = append(r.Hosts, dir)
			if play == nil {
				continue
			}
			l, err := net.Listen("unix", dir+"/.s.PGSQL.5432")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					readStartup(c)
					play(c)
					defer c.Close()
				}
			}()
		}
		session, err := dial.Connect(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		session.Close()
		if session.Name != r.Hosts[test.want] || session.Standby != (test.want == 1 && len(test.plays) == 2 || test.want == 0) {
			t.Errorf("host %s, a standby: %v", session.Name, session.Standby)
		}
	}
}

// TestHosts: each host in turn until one answers for good. Who was passed over
// is told.
func TestHosts(t *testing.T) {
	starting := sends([]byte(msg('E', "SFATAL\x00C57P03\x00Mthe database system is starting up\x00\x00")))
	stopping := sends([]byte(msg('E', "SFATAL\x00C57P01\x00Mterminating connection due to administrator command\x00\x00")))
	refusing := sends([]byte(msg('E', "SFATAL\x00C28000\x00Mno entry\x00\x00")))
	says := func(standby, readOnly string) func(net.Conn) {
		return sends([]byte(authOK + msg('S', "in_hot_standby\x00"+standby+"\x00") + msg('S', "default_transaction_read_only\x00"+readOnly+"\x00") + ready))
	}
	welcome, standby, readOnly := says("off", "off"), says("on", "off"), says("off", "on")
	old := func(standby, readOnly string) func(net.Conn) { // as before version 14
		return func(c net.Conn) {
			c.Write([]byte(authOK + ready))
			if typ, query, err := readMessage(c); err != nil || typ != wire.Query || string(query) != dial.RoleQuery(configs.SessionReadWrite)+"\x00" {
				return
			}
			row := "\x00\x02\x00\x00\x00\x01" + standby + "\x00\x00\x00" + string(rune(len(readOnly))) + readOnly
			c.Write([]byte(msg('T', "\x00\x00") + msg('D', row) + msg('C', "SELECT 1\x00") + ready))
		}
	}
	for _, test := range []struct {
		name  string
		plays []func(net.Conn) // nil: nobody listens
		want  int              // the host that logs in, -1 none
		err   int              // else the host that the error is about
		kind  dial.Kind
	}{
		{"first", []func(net.Conn){welcome, welcome}, 0, 0, 0},
		{"over a dead one", []func(net.Conn){nil, welcome}, 1, 0, 0},
		{"over a standby", []func(net.Conn){standby, old("t", "off"), welcome}, 2, 0, 0},
		{"over one that is read-only", []func(net.Conn){readOnly, old("f", "on"), old("f", "off")}, 2, 0, 0},
		{"no primary", []func(net.Conn){nil, standby}, -1, 1, dial.Unfit},
		{"over one that shuts down", []func(net.Conn){stopping, welcome}, 1, 0, 0},
		{"over one that starts", []func(net.Conn){starting, nil, welcome}, 2, 0, 0},
		{"not over a refusal", []func(net.Conn){refusing, welcome}, -1, 0, dial.Refused},
		{"all dead", []func(net.Conn){nil, nil}, -1, 1, dial.ConnectFailed},
		{"all start", []func(net.Conn){starting, starting}, -1, 1, dial.Refused},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := request()
			r.Port, r.Attrs = 5432, configs.SessionReadWrite
			failed := 0
			r.Failed = func(e *dial.LoginError) {
				if e.Host != r.Hosts[failed] {
					t.Errorf("%s is said to have failed, and it was the turn of %s", e.Host, r.Hosts[failed])
				}
				failed++
			}
			for i, play := range test.plays {
				dir := shortDir(t, i)
				r.Hosts = append(r.Hosts, dir)
				if play != nil {
					newScript(t, "unix", dir+"/.s.PGSQL.5432", play)
				}
			}
			session, err := dial.Connect(t.Context(), r)
			if test.want < 0 {
				e := dial.AsLoginError(err)
				if e == nil || e.Kind != test.kind || e.Host != r.Hosts[test.err] {
					t.Fatal(err)
				}
				if e.StartingUp() != (test.name == "all start") {
					t.Errorf("starting up: %v", e.StartingUp())
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			if want := r.Hosts[test.want]; session.Name != want || session.Host != want || !session.Socket.Unix || failed != test.want {
				t.Errorf("host %s, %s, after %d failed", session.Name, session.Host, failed)
			}
		})
	}
}

// shortDir makes a folder whose path fits a unix socket's.
func shortDir(t *testing.T, n int) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgweir"+strconv.Itoa(n)+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// TestFields: what clients are told.
func TestFields(t *testing.T) {
	refusal := wire.Fields{Severity: "FATAL", Code: "3D000", Message: `database "x" does not exist`, Hint: "none"}
	for _, test := range []struct {
		e        dial.LoginError
		answered bool
		starting bool
		want     wire.Fields
		log      string
	}{
		{
			dial.LoginError{Kind: dial.Refused, Reason: refusal.Message, Server: refusal},
			true, false,
			wire.Fields{Severity: "FATAL", Code: "3D000", Message: refusal.Message},
			`server login failed: FATAL database "x" does not exist`,
		},
		{
			dial.LoginError{Kind: dial.Refused, Reason: "wait", Server: wire.Fields{Severity: "FATAL", Code: "57P03", Message: "wait"}},
			true, true,
			wire.Fields{Severity: "FATAL", Code: "57P03", Message: "wait"},
			"server login failed: FATAL wait",
		},
		{
			dial.LoginError{Kind: dial.BadSecret, Reason: auth.ErrWrongPasswordType.Error(), Detail: "stored is md5"},
			true, false,
			wire.Fields{Severity: "FATAL", Code: "08P01", Message: "server login failed: wrong password type"},
			"server login failed: wrong password type: stored is md5",
		},
		{
			dial.LoginError{Kind: dial.ServerCrashed, Reason: "server conn crashed?"},
			false, false,
			wire.Fields{Severity: "FATAL", Code: "08P01", Message: "server conn crashed?"},
			"server conn crashed?",
		},
	} {
		if test.e.Answered() != test.answered || test.e.StartingUp() != test.starting || test.e.Fields() != test.want || test.e.Error() != test.log {
			t.Errorf("%v, %v, %v, %q", test.e.Answered(), test.e.StartingUp(), test.e.Fields(), test.e.Error())
		}
	}
	if dial.AsLoginError(errors.New("other")) != nil {
		t.Error("an error became a LoginError")
	}
}

// TestCancelRequest checks the packet, that beforeSend decides, and that Cancel
// waits for the server to close.
func TestCancelRequest(t *testing.T) {
	for _, test := range []struct {
		name string
		send bool
		want string
	}{
		{"sent", true, "\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x02"},
		{"left", false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			type end struct {
				got    string
				served bool // the server closed before Cancel returned
			}
			ends := make(chan end, 1)
			returned := make(chan struct{})
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				body := readStartup(c)
				e := end{got: string(body), served: true}
				select {
				case <-returned:
					e.served = false
				default:
				}
				c.Close()
				ends <- e
			}()
			r := (&script{Listener: l}).request()
			asked := 0
			err = dial.Cancel(t.Context(), r, r.Hosts[0], []byte("\x00\x00\x00\x01\x00\x00\x00\x02"), func() bool {
				asked++
				return test.send
			})
			close(returned)
			e := <-ends
			if err != nil || asked != 1 || e.got != test.want || test.send && !e.served {
				t.Errorf("%v, asked %d times, %+v", err, asked, e)
			}
		})
	}
	t.Run("never closed", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := newScript(t, "tcp", "127.0.0.1:0", func(net.Conn) { cancel() })
		r := s.request()
		err := dial.Cancel(ctx, r, r.Hosts[0], make([]byte, 8), func() bool { return true })
		wantError(t, err, dial.Canceled, "server connection closed")
		s.expectClosed(t)
	})
	t.Run("answered", func(t *testing.T) {
		s := newScript(t, "tcp", "127.0.0.1:0", sends([]byte("E")))
		r := s.request()
		err := dial.Cancel(t.Context(), r, r.Hosts[0], make([]byte, 8), func() bool { return true })
		wantError(t, err, dial.Protocol, "unknown pkt from server")
	})
	t.Run("nobody there", func(t *testing.T) {
		err := dial.Cancel(t.Context(), dial.Request{Port: 1}, t.TempDir(), make([]byte, 8), func() bool {
			t.Error("asked without a connection")
			return true
		})
		wantError(t, err, dial.ConnectFailed, "connect failed")
	})
}
