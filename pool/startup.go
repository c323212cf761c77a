package pool

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/configs"
	"github.com/pgweir/pgweir/pool/params"
	"github.com/pgweir/pgweir/wire"
)

// firstPacket deals with the untyped packet at the begin of b. It returns its
// length, 0 if there is nothing to go on with now.
func (c *Client) firstPacket(b []byte) int {
	if b[0] == typeHandshake && !c.encrypted() {
		if config := c.offersTLS(); config != nil {
			c.login.direct = true
			c.startTLS(config)
			return c.feed(b)
		}
	}
	f, size, ok, err := wire.PeekFirst(b)
	switch {
	case err != nil && b[0] == wire.Password:
		c.disconnect(true, "client password pkt before startup packet")
		return 0
	case err != nil:
		c.disconnect(true, badHeader(b))
		return 0
	case !ok:
		return 0
	}
	switch f.Kind {
	case wire.FirstSSL:
		return c.requestTLS(b, size)
	case wire.FirstGSSENC:
		return c.refuseEncryption(b, size, &c.login.refused[1], "GSSAPI encryption")
	case wire.FirstOld:
		c.disconnect(true, "old V2 protocol not supported")
		return 0
	case wire.FirstCancel:
		c.endLogin()
		c.cancelRequest(f.Key)
	case wire.FirstStartup:
		if c.w.p.Snapshot().Main.ClientTLSSSLMode.Required() && !c.unix && !c.encrypted() {
			c.disconnect(true, "SSL required")
			return 0
		}
		c.startup(f)
	}
	return size
}

// refuseEncryption answers the request of that size at the begin of b: there
// is none. A client that asks again is refused, for it could have answers pile
// up. It returns what firstPacket does.
func (c *Client) refuseEncryption(b []byte, size int, refused *bool, what string) int {
	switch {
	case len(b) > size:
		c.disconnect(true, "received unencrypted data after "+what+" request")
		return 0
	case *refused:
		c.disconnect(true, badHeader(b))
		return 0
	}
	*refused = true
	c.conn.Write([]byte{'N'})
	return size
}

// startup deals with the StartupMessage.
func (c *Client) startup(f wire.First) {
	l, main := c.login, &c.w.p.Snapshot().Main
	l.negoti = f.Minor > 0
	l.replication = replicationOf(f)
	for _, options := range []bool{true, false} { // what they say, the others overrule
		var refused string
		err := f.Params(func(name, value []byte) bool {
			if (string(name) == "options") == options {
				refused = c.startupParam(main, name, string(value))
			}
			return refused == ""
		})
		if err != nil {
			refused = err.Error()
		}
		if refused != "" {
			c.disconnect(true, refused)
			return
		}
	}
	if l.database == "" {
		l.database = l.user
	}
	if l.user == "" {
		c.disconnect(true, "no username supplied")
		return
	}
	if len(l.user) > maxUserName {
		c.disconnect(true, "username too long")
		return
	}
	if main.ApplicationNameAddHost && l.replication == replicatesNot { // by its name the primary knows a synchronous standby
		c.addHost()
	}
	c.admit(main)
}

// startupParam takes one parameter of the StartupMessage. It returns what to
// refuse the client with, empty if nothing is wrong.
func (c *Client) startupParam(main *configs.Main, key []byte, value string) string {
	l := c.login
	switch string(key) {
	case "user":
		l.user = value
		return ""
	case "database":
		l.database = value
		return ""
	case "replication":
		return ""
	}
	if l.replication != replicatesNot {
		c.passOn(main, string(key), value)
		return ""
	}
	if string(key) == "options" {
		return c.startupOptions(main, value)
	}
	if i, ok := c.w.p.tracked.Find(key); ok { // no copy of a name that is as it should be
		c.want(i, value)
		return ""
	}
	name := string(key)
	switch {
	case strings.HasPrefix(name, "_pq_."):
		l.negoti = true
		l.unknown = append(l.unknown, name)
		return ""
	case c.wantParam(name, value), slices.Contains(main.IgnoreStartupParameters, name), c.wantExtra(name, value):
		return ""
	}
	c.log(Warning, fmt.Sprintf("unsupported startup parameter: %s=%s", name, value))
	return "unsupported startup parameter: " + name
}

// wantParam notes the value of a tracked parameter. It reports whether the
// parameter is tracked.
func (c *Client) wantParam(name, value string) bool {
	i, ok := c.w.p.tracked.Lookup(name)
	if ok {
		c.want(i, value)
	}
	return ok
}

// want notes that the client asks for a value of the i-th tracked parameter.
func (c *Client) want(i int, text string) {
	l, n := c.login, len(c.w.p.tracked.Names)
	if len(l.want) == 0 {
		l.want = slices.Grow(l.want, n)[:n]
	}
	l.want[i] = params.Value{Text: text, Known: true}
}

// startupOptions takes the parameters out of options, which is a command line:
// words with backslashes as escapes, "-c name=value" or "--name=value", where a
// name may have dashes for underscores.
func (c *Client) startupOptions(main *configs.Main, options string) string {
	ignoreOthers := slices.Contains(main.IgnoreStartupParameters, "options")
	words := splitOptions(options)
	for i := 0; i < len(words); i++ {
		word := words[i]
		switch {
		case word == "-c" && i+1 < len(words):
			i++
			word = words[i]
		case strings.HasPrefix(word, "-c") && word != "-c":
			word = word[2:]
		case strings.HasPrefix(word, "--"):
			word = word[2:]
		default:
			word = ""
		}
		written, value, ok := strings.Cut(word, "=")
		name := strings.ReplaceAll(written, "-", "_")
		switch {
		case !ok || name == "":
			if !ignoreOthers {
				return "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"
			}
		case c.wantParam(name, value), ignoreOthers, slices.Contains(main.IgnoreStartupParameters, name), c.wantExtra(name, value):
		default:
			c.log(Warning, fmt.Sprintf("unsupported startup parameter in options: %s=%s", written, value))
			return "unsupported startup parameter in options: " + written
		}
	}
	return ""
}

// splitOptions splits at white space that no backslash stands before.
func splitOptions(s string) (words []string) {
	var word []byte
	in := false
	for i := 0; i < len(s); i++ {
		switch ch := s[i]; {
		case ch == '\\' && i+1 < len(s):
			i++
			word, in = append(word, s[i]), true
		case strings.IndexByte(" \t\n\v\f\r", ch) >= 0:
			if in {
				words, word, in = append(words, string(word)), nil, false
			}
		default:
			word, in = append(word, ch), true
		}
	}
	if in {
		words = append(words, string(word))
	}
	return words
}

// addHost puts the client's address into its application_name.
func (c *Client) addHost() {
	t := c.w.p.tracked
	i, _ := t.Lookup("application_name")
	app := "app"
	if w := c.login.want; len(w) > 0 && w[i].Known && w[i].Text != "" {
		app = w[i].Text
	}
	from := c.from()
	if c.unix {
		p := c.w.p
		from = fmt.Sprintf("unix(%d@%s):%d", c.pid, p.opts.Hostname, p.Snapshot().Main.ListenPort)
	}
	c.wantParam("application_name", app+" - "+from)
}
