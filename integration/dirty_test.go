package integration

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgweir/pgweir/integration/load"
	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/wire"
)

// dirty is a client that does not log in as it should.
type dirty struct {
	name string
	send []string // each after the answer to the one before; NONCE is the server's
	want string   // how the error begins that it is told; "": only the connection ends
}

const (
	sslRequest    = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
	gssencRequest = "\x00\x00\x00\x08\x04\xd2\x16\x30"
	loginTimeout  = "client_login_timeout"
)

// password is an answer to a request for authentication.
func password(body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{wire.Password}, uint32(4+len(body)))) + body
}

// saslFirst is a SASLInitialResponse.
func saslFirst(mechanism, message string) string {
	return password(mechanism + "\x00" + string(binary.BigEndian.AppendUint32(nil, uint32(len(message)))) + message)
}

// startupOf is a StartupMessage of protocol 3.0.
func startupOf(params ...string) string {
	var pairs [][2]string
	for i := 0; i+1 < len(params); i += 2 {
		pairs = append(pairs, [2]string{params[i], params[i+1]})
	}
	return string(wire.AppendStartup(nil, pairs))
}

// dirtyClients are clients of database that do everything wrong.
func dirtyClients(database string) []dirty {
	hello := startupOf("user", user, "database", database)
	first := saslFirst("SCRAM-SHA-256", "n,,n=,r=abcdef")
	proof := "p=" + strings.Repeat("A", 43) + "="
	many := []string{"user", user, "database", database}
	for i := range 1000 {
		many = append(many, fmt.Sprintf("my.parameter%d", i), strings.Repeat("v", 30))
	}
	const refused = "SASL authentication failed"
	return []dirty{
		{"says nothing", []string{""}, loginTimeout},
		{"sends a length", []string{"\x00\x00\xff\xff"}, loginTimeout},
		{"sends less than it said", []string{"\x00\x00\xff\xff\x00\x03\x00\x00" + strings.Repeat("x", 60000)}, loginTimeout},
		{"sends a length of 2^31-1", []string{"\x7f\xff\xff\xff"}, "bad packet header"},
		{"sends HTTP", []string{"GET / HTTP/1.1\r\nHost: pgweir\r\n\r\n"}, "bad packet header"},
		{"asks for TLS, and then nothing", []string{sslRequest}, ""},
		{"asks for GSSAPI, then for TLS, and then nothing", []string{gssencRequest, sslRequest}, ""},
		{"asks for TLS, and sends something else", []string{sslRequest, strings.Repeat("x", 500)}, ""},
		{"asks for GSSAPI again and again", []string{gssencRequest, gssencRequest}, "bad packet header"},
		{"begins a handshake at once, and then nothing", []string{"\x16\x03\x01\x02\x00\x01"}, ""},
		{"has 1000 parameters", []string{startupOf(many...)}, loginTimeout},
		{"has NULs in its name", []string{startupOf("user", "ni\x00na")}, "invalid startup packet layout"},
		{"has a name of 10 KB", []string{startupOf("user", strings.Repeat("u", 10<<10), "database", database)}, "username too long"},
		{"has a name that is not UTF-8", []string{startupOf("user", "\xff\xfe\xc0", "database", "\xff"), saslFirst("SCRAM-SHA-256", "n,,n=\xff,r=abcdef"), password("c=biws,r=NONCE," + proof)}, refused},
		{"asks for another database in the midst of it", []string{hello, hello}, "client re-sent startup pkt"},
		{"stops in the midst of it", []string{hello, first}, loginTimeout},
		{"sends a password of 2^31 bytes", []string{hello, "p\x80\x00\x00\x00"}, "bad packet header"},
		{"sends a query instead", []string{hello, "Q\x00\x00\x00\x0dselect 1\x00"}, ""},
		{"chooses a worse mechanism", []string{hello, saslFirst("PLAIN", "\x00me\x00secret")}, "client selected an invalid SASL authentication mechanism"},
		{"chooses a mechanism that needs TLS", []string{hello, saslFirst("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=abcdef")}, "client selected an invalid SASL authentication mechanism"},
		{"sends a message that is longer than it is", []string{hello, password("SCRAM-SHA-256\x00\x7f\xff\xff\xffn,,n=,r=abcdef")}, refused},
		{"sends a nonce of 60 KB", []string{hello, saslFirst("SCRAM-SHA-256", "n,,n=,r="+strings.Repeat("a", 60000))}, refused},
		{"sends what is not base64", []string{hello, first, password("c=biws,r=NONCE,p=%%%%")}, refused},
		{"sends its own nonce alone", []string{hello, first, password("c=biws,r=abcdef," + proof)}, refused},
		{"sends another nonce", []string{hello, first, password("c=biws,r=NONCEx," + proof)}, refused},
		{"sends no nonce", []string{hello, first, password("c=biws," + proof)}, refused},
		{"says it binds, and had said it can't", []string{hello, first, password("c=eSws,r=NONCE," + proof)}, refused},
		{"sends a wrong proof", []string{hello, first, password("c=biws,r=NONCE," + proof)}, refused},
	}
}

var serverNonce = regexp.MustCompile(`r=([^,]+)`)

// behave does what d does, to the end, and returns an error if that is not as it
// should be. It calls sent when it has sent all, or never will.
func (d dirty) behave(address string, sent func()) (err error) {
	sent = sync.OnceFunc(sent)
	defer sent()
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	answer := make([]byte, 4<<10)
	nonce := ""
	for i, message := range d.send {
		if _, err := io.WriteString(conn, strings.ReplaceAll(message, "NONCE", nonce)); err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		if i == len(d.send)-1 {
			break
		}
		n, err := conn.Read(answer) // they are short, and come in one piece
		if err != nil {
			return fmt.Errorf("%s: the answer to message %d: %w", d.name, i, err)
		}
		if m := serverNonce.FindSubmatch(answer[:n]); m != nil {
			nonce = string(m[1])
		}
	}
	sent()
	rest, err := io.ReadAll(conn)
	if err != nil && !strings.Contains(err.Error(), "connection reset") {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	told := ""
	if i := bytes.Index(rest, []byte("SFATAL\x00")); i >= wire.HeaderLen {
		told = wire.ParseFields(rest[i:]).Message
	}
	if d.want == "" && told != "" || !strings.HasPrefix(told, d.want) {
		return fmt.Errorf("%s: told %q, want %q", d.name, told, d.want)
	}
	return nil
}

// TestDirtyClients has clients by the thousand that never log in, in every way
// that there is to fail: each is told why, or its connection ends, within
// client_login_timeout. They take little memory, and nobody else notices.
func TestDirtyClients(t *testing.T) {
	begin(t)
	if suite.pgbouncer {
		t.Skip("PgBouncer fails some of these")
	}
	const each, visits = 25, 10
	db := suite.postgres
	database := ownDatabase(t, db)
	c := manyOverFew(db, database, map[string]string{
		"auth_type": "scram-sha-256", "max_client_conn": "3000", "client_login_timeout": "3600",
		"client_tls_sslmode": "prefer", "log_pooler_errors": "0", "log_disconnections": "0",
		// A full backlog makes the kernel forget those who have connected and say nothing.
		"listen_backlog": "4096",
	})
	c.Userlist[user] = "tulip"
	p := startPooler(t, c)
	address := fmt.Sprintf("%s:%d", p.Host, p.Port)
	come := func() error {
		client, err := load.Dial(testContext(t), load.Login{Address: address, User: user, Database: database, Password: "tulip"})
		if err != nil {
			return err
		}
		_, err = client.Query("select 1")
		return errors.Join(err, client.Close())
	}
	if err := come(); err != nil {
		t.Fatal(err)
	}
	before := peakMemory(t, p)

	var crowd, sent sync.WaitGroup
	var mu sync.Mutex
	var wrong []error
	kinds := dirtyClients(database)
	sent.Add(each * len(kinds))
	for range each {
		for _, d := range kinds {
			crowd.Go(func() {
				if err := d.behave(address, sent.Done); err != nil {
					mu.Lock()
					defer mu.Unlock()
					wrong = append(wrong, err)
				}
			})
		}
	}
	for i := range visits {
		if err := come(); err != nil {
			t.Errorf("visit %d, while they come: %v", i, err)
		}
	}
	sent.Wait()
	for i := range visits {
		if err := come(); err != nil {
			t.Errorf("visit %d, while they are there: %v", i, err)
		}
	}
	set(t, p, "client_login_timeout", "0.5")
	crowd.Wait()
	if len(wrong) > 0 {
		t.Errorf("%d of %d: %v", len(wrong), each*len(kinds), errors.Join(wrong[:min(5, len(wrong))]...))
	}
	if after := peakMemory(t, p); after-before > 96<<20 && !strings.Contains(os.Getenv("PGWEIR_BUILD"), "-race") {
		t.Errorf("%d MiB more for %d clients", (after-before)>>20, each*len(kinds))
	}
	eventually(t, "clients", func() error {
		rows, err := p.Console(testContext(t), "SHOW LISTS")
		for _, row := range rows {
			if n := row["items"]; row["list"] == "login_clients" && n != "0" || row["list"] == "used_clients" && n != "1" {
				err = errors.Join(err, fmt.Errorf("%s: %s", row["list"], n))
			}
		}
		return err
	})
}

var peakLine = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peakMemory is the most resident memory that p has had, in bytes.
func peakMemory(t *testing.T, p *pooler.Pooler) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	m := peakLine.FindSubmatch(status)
	if m == nil {
		t.Fatalf("no VmHWM in %s", status)
	}
	kb, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kb << 10
}
