package integration

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/integration/postgres"
)

// TestTranscripts sends the same client bytes to Postgres and through the
// pooler and wants the same bytes back, in every pool mode in which the
// transcript is legal, also when the client's bytes come one at a time. Postgres
// is the only oracle: the files hold what to send, not what to expect.
func TestTranscripts(t *testing.T) {
	begin(t)
	// Some transcripts change settings of the server.
	db := ownPostgres(t)
	const database = postgres.Database
	if err := db.Exec(testContext(t), "create table lines (line text)"); err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob("transcripts/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatal("no transcripts")
	}
	var scripts []*script
	for _, path := range paths {
		s, err := readScript(path)
		if err != nil {
			t.Fatal(err)
		}
		scripts = append(scripts, s)
	}
	wants := map[string][]reply{}
	for _, s := range scripts {
		want, err := s.play(testContext(t), db, fmt.Sprintf("%s:%d", db.Host, db.Port), postgres.Superuser, 0)
		if err != nil {
			t.Fatalf("%s, directly to Postgres: %v", s.name, err)
		}
		wants[s.name] = want
	}
	for _, mode := range []string{"session", "transaction", "statement"} {
		t.Run(mode, func(t *testing.T) {
			p := startPooler(t, config(db, database, map[string]string{"pool_mode": mode, "default_pool_size": "2"}))
			base := atRest(t, p, database)
			for _, s := range scripts {
				if !slices.Contains(s.modes, mode) {
					continue
				}
				for _, cut := range []int{0, 1} {
					name := s.name
					if cut > 0 {
						name += ", cut"
					}
					t.Run(name, func(t *testing.T) {
						ctx, cancel := context.WithTimeout(testContext(t), patience/3)
						defer cancel()
						got, err := s.play(ctx, db, fmt.Sprintf("%s:%d", p.Host, p.Port), user, cut)
						if err != nil {
							t.Fatal(err)
						}
						compare(t, got, wants[s.name])
					})
				}
			}
			base.check(t)
		})
	}
}

// TestLoginTellsWhatPostgresTells compares the ParameterStatus messages at
// login. A pooler may tell more.
func TestLoginTellsWhatPostgresTells(t *testing.T) {
	begin(t)
	db := suite.postgres
	p := startPooler(t, config(db, postgres.Database, nil))
	want, err := loginParameters(testContext(t), fmt.Sprintf("%s:%d", db.Host, db.Port), postgres.Superuser)
	if err != nil {
		t.Fatal(err)
	}
	for _, visit := range []string{"first client", "second client"} {
		got, err := loginParameters(testContext(t), fmt.Sprintf("%s:%d", p.Host, p.Port), user)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range want {
			if got[name] != value {
				t.Errorf("%s: %s = %q, Postgres says %q", visit, name, got[name], value)
			}
		}
	}
}

// A script is one transcript file. Its lines, apart from comments:
//
//	modes session transaction statement     in which it is legal; once, first
//	MESSAGE argument...                     queue a message of the client
//	repeat N ... end                        so many times
//	await CZ                                send what is queued; read until these messages came
//	elsewhere "sql"                         run it on another connection, past the pooler
//
// A message has the name that the protocol manual gives it, with these
// arguments (strings as in Go, "x"*5 meaning five of them, and NULL):
//
//	Query "sql"                             Sync, Flush, CopyDone
//	Parse "name" "sql" typeOID...           Close S|P "name"
//	Bind "portal" "name" value...           Describe S|P "name"
//	Execute "portal" maxRows                CopyData "bytes"
//	FunctionCall functionOID value...       CopyFail "reason"
type script struct {
	name  string
	modes []string
	steps []step
}

// step is one line: a message, an await or an elsewhere.
type step struct {
	line      int
	send      []byte
	await     string // types of messages
	elsewhere string
}

// reply is one message of the server.
type reply struct {
	line int // of the await that read it
	typ  byte
	body []byte
}

func readScript(path string) (*script, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	s := &script{name: strings.TrimSuffix(filepath.Base(path), ".txt")}
	repeat, block := 0, 0 // times, and the index of the first step
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		words, err := split(strings.TrimSpace(line))
		if err == nil && len(words) > 0 {
			switch words[0] {
			case "modes":
				s.modes = words[1:]
			case "repeat":
				block = len(s.steps)
				repeat, err = strconv.Atoi(words[1])
			case "end":
				s.steps = append(s.steps[:block], slices.Repeat(s.steps[block:], repeat)...)
			case "await":
				s.steps = append(s.steps, step{line: number, await: words[1]})
			case "elsewhere":
				s.steps = append(s.steps, step{line: number, elsewhere: words[1]})
			default:
				var message []byte
				if message, err = encode(words); err == nil {
					s.steps = append(s.steps, step{line: number, send: message})
				}
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, number, err)
		}
	}
	if len(s.modes) == 0 {
		return nil, fmt.Errorf("%s: no modes", path)
	}
	return s, nil
}

// null stands for NULL among the words of a line.
const null = "\x00null"

// split takes a line apart: words, "strings", "strings"*times.
func split(line string) (words []string, err error) {
	for line != "" && line[0] != '#' {
		if line[0] != '"' {
			word, rest, _ := strings.Cut(line, " ")
			if word == "NULL" {
				word = null
			}
			words = append(words, word)
			line = strings.TrimLeft(rest, " ")
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, err
		}
		text, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		times, rest, _ := strings.Cut(line[len(quoted):], " ")
		if times != "" {
			n, err := strconv.Atoi(strings.TrimPrefix(times, "*"))
			if err != nil {
				return nil, err
			}
			text = strings.Repeat(text, n)
		}
		words = append(words, text)
		line = strings.TrimLeft(rest, " ")
	}
	return words, nil
}

// encode makes the message of a line.
func encode(words []string) (_ []byte, err error) {
	defer func() {
		if r := recover(); r != nil { // an argument is missing
			err = fmt.Errorf("%s: %v", words[0], r)
		}
	}()
	values := func(words []string) (values [][]byte) {
		for _, word := range words {
			if word == null {
				values = append(values, nil)
			} else {
				values = append(values, []byte(word))
			}
		}
		return values
	}
	var numbers []uint32
	for _, word := range words[1:] {
		if n, err := strconv.ParseUint(word, 10, 32); err == nil {
			numbers = append(numbers, uint32(n))
		}
	}
	var m pgproto3.FrontendMessage
	switch words[0] {
	case "Query":
		m = &pgproto3.Query{String: words[1]}
	case "Parse":
		m = &pgproto3.Parse{Name: words[1], Query: words[2], ParameterOIDs: numbers}
	case "Bind":
		m = &pgproto3.Bind{DestinationPortal: words[1], PreparedStatement: words[2], Parameters: values(words[3:])}
	case "Describe":
		m = &pgproto3.Describe{ObjectType: words[1][0], Name: words[2]}
	case "Execute":
		m = &pgproto3.Execute{Portal: words[1], MaxRows: numbers[0]}
	case "Close":
		m = &pgproto3.Close{ObjectType: words[1][0], Name: words[2]}
	case "Sync":
		m = &pgproto3.Sync{}
	case "Flush":
		m = &pgproto3.Flush{}
	case "CopyData":
		m = &pgproto3.CopyData{Data: []byte(words[1])}
	case "CopyDone":
		m = &pgproto3.CopyDone{}
	case "CopyFail":
		m = &pgproto3.CopyFail{Message: words[1]}
	case "FunctionCall":
		m = &pgproto3.FunctionCall{Function: numbers[0], Arguments: values(words[2:])}
	default:
		return nil, fmt.Errorf("no message is called %s", words[0])
	}
	return m.Encode(nil)
}

// play logs in at address and goes through the script. With cut, the first
// bytes of whatever is sent go in writes of cut bytes each.
func (s *script) play(ctx context.Context, db *postgres.Cluster, address, user string, cut int) (replies []reply, err error) {
	conn, err := login(ctx, address, user, postgres.Database)
	if err != nil {
		return nil, err
	}
	defer conn.close()
	var queued []byte
	for _, step := range s.steps {
		switch {
		case step.elsewhere != "":
			if err := db.Exec(ctx, step.elsewhere); err != nil {
				return nil, fmt.Errorf("line %d: %w", step.line, err)
			}
		case step.await != "":
			got, err := conn.exchange(queued, step.await, cut)
			for _, r := range got {
				r.line = step.line
				replies = append(replies, r)
			}
			if err != nil {
				return nil, fmt.Errorf("line %d: await %s: %w, after %v", step.line, step.await, err, got)
			}
			queued = nil
		default:
			queued = append(queued, step.send...)
		}
	}
	return replies, nil
}

// rawConn is a connection whose bytes the test sees.
type rawConn struct {
	net.Conn
	parameters map[string]string
}

func loginParameters(ctx context.Context, address, user string) (map[string]string, error) {
	conn, err := login(ctx, address, user, postgres.Database)
	if err != nil {
		return nil, err
	}
	conn.close()
	return conn.parameters, nil
}

// login opens a connection that needs no password.
func login(ctx context.Context, address, user, database string) (*rawConn, error) {
	var dialer net.Dialer
	socket, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := &rawConn{Conn: socket, parameters: map[string]string{}}
	deadline, _ := ctx.Deadline()
	if err := socket.SetDeadline(deadline); err != nil {
		return nil, err
	}
	startup, err := startupMessage(user, database)
	if err != nil {
		return nil, err
	}
	replies, err := conn.exchange(startup, "Z", 0)
	if err != nil {
		socket.Close()
		return nil, fmt.Errorf("login: %w, after %v", err, replies)
	}
	for _, r := range replies {
		if r.typ == 'S' {
			name, value, _ := bytes.Cut(r.body[:len(r.body)-1], []byte{0})
			conn.parameters[string(name)] = string(value)
		}
	}
	return conn, nil
}

func startupMessage(user, database string) ([]byte, error) {
	return (&pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30,
		Parameters:      map[string]string{"user": user, "database": database},
	}).Encode(nil)
}

func (c *rawConn) close() {
	terminate, err := (&pgproto3.Terminate{}).Encode(nil)
	if err == nil {
		c.Write(terminate)
	}
	c.Conn.Close()
}

// exchange sends the bytes and reads until the messages of the awaited types
// have come, in this order, with any others between them.
func (c *rawConn) exchange(send []byte, await string, cut int) (replies []reply, err error) {
	// Both at once: neither side's buffers hold what a large transcript has in
	// flight.
	sent := make(chan error, 1)
	go func() { sent <- c.send(send, cut) }()
	for await != "" {
		r, err := c.receive()
		if err != nil {
			return replies, errors.Join(err, c.SetDeadline(time.Now()), <-sent)
		}
		replies = append(replies, r)
		if r.typ == await[0] {
			await = await[1:]
		}
	}
	return replies, <-sent
}

// send writes all of p. With cut, the first 4 KB go in writes of cut bytes each,
// and the rest in pieces of an odd size.
func (c *rawConn) send(p []byte, cut int) error {
	const finely, coarse = 4 << 10, 9973
	for sent := 0; sent < len(p); {
		n := len(p) - sent
		if cut > 0 && sent < finely {
			n = min(n, cut)
		} else if cut > 0 {
			n = min(n, coarse)
		}
		if _, err := c.Write(p[sent : sent+n]); err != nil {
			return err
		}
		sent += n
	}
	return nil
}

func (c *rawConn) receive() (reply, error) {
	var header [5]byte
	if _, err := io.ReadFull(c, header[:]); err != nil {
		return reply{}, err
	}
	body := make([]byte, binary.BigEndian.Uint32(header[1:])-4)
	if _, err := io.ReadFull(c, body); err != nil {
		return reply{}, err
	}
	return reply{typ: header[0], body: body}, nil
}

// String shows a message as a person reads it.
func (r reply) String() string {
	const most = 200
	text := strconv.Quote(string(r.body[:min(len(r.body), most)]))
	if len(r.body) > most {
		text += fmt.Sprintf("... (%d bytes)", len(r.body))
	}
	return fmt.Sprintf("%c %s", r.typ, text)
}

// compare wants the same messages.
func compare(t *testing.T, got, want []reply) {
	t.Helper()
	if difference := differ(got, want); difference != "" {
		t.Fatal(difference)
	}
}

// differ says where the messages are not the same, nothing if they are. Only the
// process id in a NotificationResponse is another one each time.
func differ(got, want []reply) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Sprintf("line %d: missing %v", want[i].line, want[i])
		case i >= len(want):
			return fmt.Sprintf("line %d: more than Postgres sends: %v", got[i].line, got[i])
		}
		g, w := got[i], want[i]
		if g.typ == w.typ && g.typ == 'A' {
			g.body, w.body = g.body[4:], w.body[4:]
		}
		if g.typ != w.typ || !bytes.Equal(g.body, w.body) {
			return fmt.Sprintf("line %d, message %d:\n got %v\nwant %v", w.line, i, got[i], want[i])
		}
	}
	return ""
}
