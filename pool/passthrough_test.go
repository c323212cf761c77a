package pool_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/pool/dial"
	"github.com/pgweir/pgweir/wire"
)

// judges is a world whose databases judge passwords.
type judges struct{ *world }

func newJudges(t *testing.T, main, databases string) judges {
	return judges{newWorld(t, "auth_type = passthrough\npool_mode = transaction\n"+main, databases)}
}

// says has nina come from her application, and send a password.
func (w judges) says(password string) *client { return w.from(1001, "nina", password) }

func (w judges) from(uid int, user, password string) *client {
	w.t.Helper()
	c := w.connectFrom(unix(uid)).startup("user", user, "database", "app")
	if got := c.read(); types(got) != "R" || got[0].body != "\x00\x00\x00\x03" {
		w.t.Fatalf("asked %q", got)
	}
	return c.answer(password + "\x00")
}

// takes has the oldest login to a server go well, if it was tried with password,
// and returns the server's end of the connection.
func (w judges) takes(password string) *fakeConn {
	w.t.Helper()
	w.wantTried(password)
	n := len(w.loop.conns)
	w.dialer.next(w.t)(&dial.Session{
		Params: reported, Key: make([]byte, 8), Proof: auth.Proof{Asked: true, Secret: auth.Plain(password)},
	}, nil)
	w.settle()
	return w.loop.conns[n]
}

// refuses has it go wrong.
func (w judges) refuses(password string) {
	w.t.Helper()
	w.wantTried(password)
	w.refuse(&dial.LoginError{Kind: dial.Refused, Reason: "no", Server: wire.Fields{Severity: "FATAL", Code: "28P01", Message: "no"}})
}

func (w judges) wantTried(password string) {
	w.t.Helper()
	asked := w.dialer.asked[len(w.dialer.asked)-len(w.dialer.done)]
	if !asked.Secret.Equal(auth.Plain(password)) {
		w.t.Errorf("not tried with %q", password)
	}
}

// wantNoTrial checks that no server is asked.
func (w judges) wantNoTrial() {
	w.t.Helper()
	if len(w.dialer.done) > 0 {
		w.t.Fatal("a server is asked")
	}
}

const wrongPassword = "password authentication failed"

// TestPassthrough: the first login is tried on the database, whose connection
// is kept. The next ones are not, until the password is not believed any more.
func TestPassthrough(t *testing.T) {
	w := newJudges(t, "auth_passthrough_cache = 60\nserver_idle_timeout = 0\ndefault_pool_size = 3", "")
	c := w.says("tulip")
	w.takes("tulip")
	c.wantWelcome()
	w.says("tulip").wantWelcome()
	w.wantNoTrial()
	c.send(wire.AppendQuery(nil, "select 1"))
	w.wantNoTrial() // the trial's server has it
	w.says("tulip").wantWelcome()
	busy := w.says("tulip")
	busy.wantWelcome()
	busy.send(wire.AppendQuery(nil, "select 1"))
	w.takes("tulip") // what was kept is what servers are logged in to with

	w.pass(61 * time.Second)
	c = w.says("tulip")
	w.takes("tulip")
	c.wantWelcome()
	w.says("tulip").wantWelcome()
	w.wantNoTrial()
	if w.log.has("tulip") {
		t.Errorf("the log tells the password: %q", w.log)
	}
}

// TestPassthroughTogether: who sends the same password at the same time shares
// one trial.
func TestPassthroughTogether(t *testing.T) {
	w := newJudges(t, "", "")
	var all []*client
	for range 20 {
		all = append(all, w.says("tulip"))
	}
	all[0].leave()
	w.takes("tulip")
	for _, c := range all[1:] {
		c.wantWelcome()
	}
	w.wantNoTrial()
}

// TestPassthroughChanged: after a change on the database the new password works
// at once, and from then on, or after a while, the old one does not.
func TestPassthroughChanged(t *testing.T) {
	w := newJudges(t, "auth_passthrough_cache = 60\nserver_lifetime = 1000", "")
	c := w.says("tulip")
	server := w.takes("tulip")
	c.wantWelcome()

	c = w.says("rose")
	w.takes("rose")
	c.wantWelcome()
	c = w.says("tulip")
	w.refuses("tulip")
	c.wantError(wrongPassword)

	// Nobody has sent the new one yet: the old one is found out when it is tried
	// again.
	w.pass(61 * time.Second)
	c = w.says("rose")
	w.refuses("rose")
	c.wantError(wrongPassword)
	c = w.says("rose")
	c.wantError(wrongPassword)
	w.wantNoTrial()

	// Or when a server is opened, which is no reason to wait with the new one.
	c = w.says("lily")
	w.takes("lily")
	c.wantWelcome()
	if err := w.p.Reconnect("app"); err != nil {
		t.Fatal(err)
	}
	server.handler.Closed(nil)
	w.pass(time.Second)
	other := w.says("lily")
	w.refuses("lily") // for the welcome
	all := other.read()
	if f := wire.ParseFields([]byte(all[len(all)-1].body)); f.Code != "28P01" {
		t.Errorf("%+v", f)
	}
	c = w.says("dahlia")
	w.takes("dahlia")
	c.wantWelcome()
}

// TestPassthroughReplication: a client that has a server of its own hears the
// same when the password turns out to be changed, and others need not find out
// again.
func TestPassthroughReplication(t *testing.T) {
	w := newJudges(t, "auth_passthrough_cache = 3600", "")
	c := w.says("tulip")
	w.takes("tulip")
	c.wantWelcome()
	walker := w.connectFrom(unix(1001)).startup("user", "nina", "database", "app", "replication", "database")
	walker.read()
	walker.answer("tulip\x00")
	w.wantTried("tulip")
	w.refuse(&dial.LoginError{Kind: dial.BadSecret, Reason: "server login failed: wrong password type"})
	all := walker.read()
	if len(all) == 0 {
		t.Fatal("no answer")
	}
	if f := wire.ParseFields([]byte(all[len(all)-1].body)); f.Code != "28P01" || f.Message != `password authentication failed for user "nina"` {
		t.Errorf("%+v", f)
	}
	c = w.says("tulip")
	w.refuses("tulip") // it is a trial
	c.wantError(wrongPassword)
}

// TestPassthroughGuesses: wrong passwords are not tried for ever, and whoever
// sends them keeps nobody else out.
func TestPassthroughGuesses(t *testing.T) {
	w := newJudges(t, "auth_passthrough_cache = 60", "")
	right := w.says("tulip")
	w.takes("tulip")
	right.wantWelcome()
	for i := range 5 {
		guess := fmt.Sprint("guess", i)
		c := w.says(guess)
		w.refuses(guess)
		c.wantError(wrongPassword)
		c = w.says(guess) // the same again is not even tried
		w.wantNoTrial()
		c.wantError(wrongPassword)
	}
	c := w.says("another")
	w.wantNoTrial()
	c.wantError("too many failed logins, try again later")
	w.says("tulip").wantWelcome()
	w.pass(61 * time.Second)
	for i := range 5 {
		guess := fmt.Sprint("more", i)
		c := w.says(guess)
		w.refuses(guess)
		c.wantError(wrongPassword)
	}
	c = w.says("tulip") // has to be tried again, and is no guess
	w.takes("tulip")
	c.wantWelcome()
	c = w.from(1002, "nina", "another") // who comes from elsewhere
	w.refuses("another")
	c.wantError(wrongPassword)

	// Guesses that come all at once are tried one after the other.
	w = newJudges(t, "max_login_concurrency = 1\nlog_connections = 0", "")
	var all []*client
	for i := range 20 {
		all = append(all, w.says(fmt.Sprint("guess", i)))
	}
	for i := range 5 {
		w.refuses(fmt.Sprint("guess", i))
	}
	w.wantNoTrial()
	for i, c := range all {
		if i < 5 {
			c.wantError(wrongPassword)
		} else {
			c.wantError("too many failed logins, try again later")
		}
	}
}

// TestPassthroughCrowd: made-up users from one origin are not tried all at once,
// and those who come from elsewhere, or with a password that was right, don't
// wait for them.
func TestPassthroughCrowd(t *testing.T) {
	const most, more = 50, 10
	w := newJudges(t, "auth_passthrough_cache = 60\nlog_connections = 0", "")
	known := w.says("tulip")
	w.takes("tulip")
	known.wantWelcome()
	w.pass(61 * time.Second)
	tries := len(w.dialer.asked)
	var crowd []*client
	for i := range most + more {
		crowd = append(crowd, w.from(1001, fmt.Sprint("user", i), "x"))
	}
	want := func(n int) {
		t.Helper()
		if got := len(w.dialer.asked) - tries; got != n {
			t.Fatalf("%d passwords were tried, want %d", got, n)
		}
	}
	want(most)
	w.from(1002, "otto", "x")
	want(most + 1)
	known = w.says("tulip") // has to be tried again
	want(most + 2)
	crowd[most].leave() // before its turn
	for i := range more {
		w.takes("x")
		crowd[i].wantWelcome()
	}
	want(most + 2 + more - 1)
	for i := more; i < most; i++ {
		w.refuses("x")
		crowd[i].wantError(wrongPassword)
	}
	w.refuses("x")
	w.takes("tulip")
	known.wantWelcome()
	for _, c := range crowd[most+1:] {
		w.takes("x")
		c.wantWelcome()
	}
	// A server that is not there has nobody wait but its own.
	for i := range most {
		w.from(7, fmt.Sprint("late", i), "x")
		w.refuse(&dial.LoginError{Kind: dial.ConnectFailed, Reason: "connect failed"})
	}
	tries = len(w.dialer.asked)
	w.from(7, "nina", "rose")
	want(1)
}

// TestPassthroughStrangers leave nothing behind.
func TestPassthroughStrangers(t *testing.T) {
	w := newJudges(t, "autodb_idle_timeout = 0", "* = host=db")
	for i := range 3 {
		user := fmt.Sprint("stranger", i)
		c := w.connectFrom(unix(i)).startup("user", user, "database", fmt.Sprint("made-up", i))
		c.read()
		c.answer("x\x00")
		w.refuses("x")
		c.wantError(wrongPassword)
		for _, u := range w.p.Users() {
			if u.Name == user {
				t.Errorf("%s is still known", user)
			}
		}
	}
	for _, d := range w.p.Databases() {
		if strings.HasPrefix(d.Name, "made-up") {
			t.Errorf("%s is still there", d.Name)
		}
	}
}

// TestPassthroughWhere: only where nobody can listen, only where a database can
// judge, and never by one that does not look.
func TestPassthroughWhere(t *testing.T) {
	w := newJudges(t, "", "app = host=db\nforced = host=db user=alice")
	w.connect().startup("user", "nina", "database", "app").wantError("password authentication needs TLS or a unix socket here")
	for database, want := range map[string]string{
		"forced": "bouncer config error", "nope": wrongPassword, "pgbouncer": wrongPassword,
	} {
		c := w.connectFrom(unix(1)).startup("user", "nina", "database", database)
		c.read()
		c.answer("tulip\x00")
		w.wantNoTrial()
		c.wantError(want)
	}
	c := w.says("tulip")
	w.serve() // and did not ask
	c.wantError(wrongPassword)
	if !w.log.has("the server asked for no password") {
		t.Errorf("%q", w.log)
	}

	// Users in the auth_file are judged by that.
	w.from(1, "alice", "wrong").wantError(wrongPassword)
	console := w.connectFrom(unix(1)).startup("user", "admin", "database", "pgbouncer")
	console.read()
	console.answer("nimda\x00").wantWelcome()
	w.wantNoTrial()
}

// TestPassthroughNoServer: what says nothing about the password is no answer.
func TestPassthroughNoServer(t *testing.T) {
	w := newJudges(t, "server_login_retry = 1\nclient_login_timeout = 20", "")
	c := w.says("tulip")
	w.refuse(&dial.LoginError{Kind: dial.ConnectFailed, Reason: "connect failed"})
	w.pass(time.Second)
	w.refuse(&dial.LoginError{Kind: dial.Refused, Server: wire.Fields{Severity: "FATAL", Code: "57P03", Message: "starting up"}})
	w.pass(2 * time.Second)
	w.takes("tulip")
	c.wantWelcome()

	full := wire.Fields{Severity: "FATAL", Code: "53300", Message: "sorry, too many clients already"}
	c = w.says("rose")
	w.refuse(&dial.LoginError{Kind: dial.Refused, Reason: full.Message, Server: full})
	if all := c.read(); len(all) != 0 {
		t.Errorf("%q", all)
	}
	w.pass(2 * time.Second) // it has waited for room
	w.refuses("rose")
	c.wantError(wrongPassword)

	w.p.SetDisabled("app", false)
	late := w.from(5, "otto", "lily")
	w.pass(21 * time.Second)
	late.wantError("client_login_timeout")
}

// TestPassthroughFullPool: a trial takes its turn, and the place of an idle
// server if there is no other.
func TestPassthroughFullPool(t *testing.T) {
	w := newJudges(t, "default_pool_size = 1", "")
	c := w.says("tulip")
	server := w.takes("tulip")
	c.wantWelcome()
	c.send(wire.AppendQuery(nil, "select 1"))
	if got := w.asked(server); got != "select 1" {
		t.Fatalf("asked %q", got)
	}
	other := w.says("rose")
	w.wantNoTrial()
	w.reply(server, join(done, idle))
	if !server.closed {
		t.Error("two servers")
	}
	w.refuses("rose")
	other.wantError(wrongPassword)
	c.send(wire.AppendQuery(nil, "select 1"))
	w.takes("tulip")
}

// TestPassthroughOutdated: servers are opened with a password that was changed
// on the database. That one of them was let in a moment before, and says so
// late, makes it no better; and those who wait hear what is wrong with theirs.
func TestPassthroughOutdated(t *testing.T) {
	w := newJudges(t, "auth_passthrough_cache = 3600\ndefault_pool_size = 3", "")
	first := w.says("tulip")
	server := w.takes("tulip")
	first.wantWelcome()
	first.send(wire.AppendQuery(nil, "select 1"))
	if err := w.p.Reconnect("app"); err != nil {
		t.Fatal(err)
	}
	var waiting []*client
	for range 2 {
		waiting = append(waiting, w.says("tulip")) // for a welcome
	}
	w.reply(server, join(done, idle)) // and is closed
	w.wantTried("tulip")
	if len(w.dialer.done) != 2 {
		t.Fatalf("%d servers are opened", len(w.dialer.done))
	}
	if err := w.p.Reconnect("app"); err != nil {
		t.Fatal(err)
	}
	early, late := w.dialer.done[0], w.dialer.done[1]
	w.dialer.done = nil
	early(&dial.Session{Params: reported, Key: make([]byte, 8), Proof: auth.Proof{Asked: true, Secret: auth.Plain("tulip")}}, nil)
	other := &dial.LoginError{Kind: dial.BadSecret, Reason: "server login failed: wrong password type"}
	late(nil, other)
	w.settle()
	for len(w.dialer.done) > 0 {
		w.refuse(other) // opened after the first was too old
	}
	for _, c := range waiting {
		all := c.read()
		if len(all) == 0 {
			t.Fatal("no answer")
		}
		if f := wire.ParseFields([]byte(all[len(all)-1].body)); f.Code != "28P01" || f.Message != `password authentication failed for user "nina"` {
			t.Errorf("%+v", f)
		}
	}
	c := w.says("tulip")
	w.refuses("tulip") // it is a trial
	c.wantError(wrongPassword)

	// Who comes by the new password has no part in what becomes of the old one.
	c = w.says("rose")
	w.takes("rose")
	c.wantWelcome()
}

// TestPassthroughJoinedLate: who joins a trial late has as long as everybody to
// wait for its end.
func TestPassthroughJoinedLate(t *testing.T) {
	for _, full := range []bool{false, true} {
		w := newJudges(t, "client_login_timeout = 60\nquery_wait_timeout = 0\ndefault_pool_size = 1", "")
		if full { // so that the trial waits for its place
			w.from(1002, "nina", "rose")
		}
		first := w.says("tulip")
		w.pass(40 * time.Second)
		second := w.says("tulip")
		w.pass(22 * time.Second)
		if all := first.read(); len(all) == 0 || !first.closed {
			t.Errorf("who waits for 62 seconds is told %q", all)
		}
		if all := second.read(); len(all) > 0 || second.closed {
			t.Fatalf("who waits for 22 seconds is told %q", all)
		}
		if full {
			w.refuses("rose")
		}
		w.takes("tulip")
		second.wantWelcome()
	}
}

// TestPassthroughAgain: an application that gives up, and sends the same password
// again at once, is told nothing that was never judged.
func TestPassthroughAgain(t *testing.T) {
	w := newJudges(t, "default_pool_size = 1", "")
	w.from(1002, "nina", "rose")
	first := w.says("tulip") // waits for its place
	second := w.connectFrom(unix(1001)).startup("user", "nina", "database", "app")
	second.read()
	first.closed = true
	first.handler.Closed(nil)
	b, at := wire.Begin(nil, wire.Password)
	second.handler.Data(wire.End(append(b, "tulip\x00"...), at)) // before the loop has come to anything else
	w.settle()
	if all := second.peek(); len(all) > 0 || second.closed {
		t.Fatalf("told %q", all)
	}
	w.refuses("rose")
	w.takes("tulip")
	second.wantWelcome()
}
