package integration

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/wire"
)

// session is a client's TLS session, logged in, whose bytes the test moves.
type session struct {
	*tls.Conn
	in *bufio.Reader
}

// enter logs in to p over TLS.
func (e *encrypted) enter(t *testing.T, p *pooler.Pooler, config *tls.Config) *session {
	t.Helper()
	plain, err := net.Dial("tcp", net.JoinHostPort(p.Host, strconv.Itoa(p.Port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plain.Close() })
	if err := plain.SetDeadline(time.Now().Add(3 * patience)); err != nil { // for the whole session
		t.Fatal(err)
	}
	var answer [1]byte
	_, err = plain.Write(wire.AppendSSLRequest(nil))
	if err == nil {
		_, err = io.ReadFull(plain, answer[:])
	}
	if err != nil || answer[0] != 'S' {
		t.Fatalf("%q, %v", answer, err)
	}
	config.InsecureSkipVerify = true
	s := &session{Conn: tls.Client(plain, config)}
	s.in = bufio.NewReader(s)
	if _, err := s.Write(wire.AppendStartup(nil, [][2]string{{"user", "encrypted"}, {"database", "postgres"}})); err != nil {
		t.Fatal(err)
	}
	s.until(t, wire.ReadyForQuery, nil)
	return s
}

// until reads messages up to one of type typ, and tells each of them.
func (s *session) until(t *testing.T, typ byte, each func(typ byte, body []byte)) {
	t.Helper()
	for {
		var header [5]byte
		if _, err := io.ReadFull(s.in, header[:]); err != nil {
			t.Fatal(err)
		}
		body := make([]byte, binary.BigEndian.Uint32(header[1:])-4)
		if _, err := io.ReadFull(s.in, body); err != nil {
			t.Fatal(err)
		}
		if header[0] == wire.ErrorResponse {
			t.Fatalf("%+v", wire.ParseFields(body))
		}
		if each != nil {
			each(header[0], body)
		}
		if header[0] == typ {
			return
		}
	}
}

// letters is a query for rows of width bytes, each of one letter.
func letters(rows, width int) []byte {
	return wire.AppendQuery(nil, fmt.Sprintf("select repeat(chr(65 + i %% 26), %d) from generate_series(0, %d) i", width, rows-1))
}

// wantLetters reads the whole reply to letters.
func (s *session) wantLetters(t *testing.T, rows, width int) {
	t.Helper()
	got := 0
	s.until(t, wire.ReadyForQuery, func(typ byte, body []byte) {
		if typ != wire.DataRow {
			return
		}
		const head = 2 + 4 // one column, its length
		if len(body) != head+width || bytes.Count(body[head:], []byte{byte('A' + got%26)}) != width {
			t.Errorf("row %d is not what it was", got)
		}
		got++
	})
	if got != rows {
		t.Fatalf("%d rows of %d", got, rows)
	}
}

// slowReaders have clients ask for much over TLS and read nothing: memory stays
// bounded, and when they read at last all of it is there.
func (e *encrypted) slowReaders(t *testing.T) {
	const readers, rows, width = 15, 200, 100_000 // 20 MB each
	p := startPooler(t, e.config(map[string]string{
		"client_tls_sslmode": "require", "server_tls_sslmode": "require", "pool_mode": "transaction", "default_pool_size": "20",
	}))
	var slow []*session
	for range readers {
		s := e.enter(t, p, &tls.Config{})
		if _, err := s.Write(letters(rows, width)); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, s)
	}
	quick := e.enter(t, p, &tls.Config{})
	for range 50 {
		if _, err := quick.Write(letters(10, width)); err != nil {
			t.Fatal(err)
		}
		quick.wantLetters(t, 10, width)
	}
	rss, _, err := p.Memory()
	if err != nil {
		t.Fatal(err)
	}
	if bound := int64(128 << 20); rss > bound {
		t.Errorf("the pooler takes %d MB while slow readers wait for 300 MB", rss>>20)
	}
	for _, s := range slow {
		s.wantLetters(t, rows, width)
	}
}

// records has requests come in records of one byte each, and of all sizes up to
// the largest, while the server's replies fill records of their own.
func (e *encrypted) records(t *testing.T) {
	p := startPooler(t, e.config(map[string]string{"client_tls_sslmode": "require", "server_tls_sslmode": "require", "pool_mode": "transaction"}))
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		s := e.enter(t, p, &tls.Config{MinVersion: version, MaxVersion: version, DynamicRecordSizingDisabled: true})
		for _, size := range []int{1, 2, 5, 1000, 16 << 10} { // of a record
			const queries, rows, width = 60, 7, 3000
			asked := make(chan error, 1)
			go func() {
				for b := range slices.Chunk(bytes.Repeat(letters(rows, width), queries), size) {
					if _, err := s.Write(b); err != nil {
						asked <- err
						return
					}
				}
				asked <- nil
			}()
			for range queries {
				s.wantLetters(t, rows, width)
			}
			if err := <-asked; err != nil {
				t.Fatal(err)
			}
		}
	}
}

// abandoned has clients leave in the midst of handshakes, logins and records:
// nothing of them stays. Sessions are never resumed.
func (e *encrypted) abandoned(t *testing.T) {
	p := startPooler(t, e.config(map[string]string{"client_tls_sslmode": "allow", "pool_mode": "transaction"}))
	base := atRestAs(t, p, "encrypted", "postgres")
	tickets := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(10), ServerName: "pooler"}
	for range 2 {
		s := e.enter(t, p, tickets)
		if s.ConnectionState().DidResume {
			t.Error("a session was resumed")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	hello := e.hello(t)
	for i := range 300 {
		conn, err := net.Dial("tcp", net.JoinHostPort(p.Host, strconv.Itoa(p.Port)))
		if err != nil {
			t.Fatal(err)
		}
		n := len(hello) * i / 300
		switch i % 3 {
		case 0: // direct
			_, err = conn.Write(hello[:n])
		case 1: // without waiting for the answer, which is no way to begin
			_, err = conn.Write(append(wire.AppendSSLRequest(nil), hello[:n]...))
		case 2:
			_, err = conn.Write(wire.AppendSSLRequest(nil))
			if err == nil {
				_, err = io.ReadFull(conn, make([]byte, 1))
			}
			if err == nil {
				_, err = conn.Write(hello[:n])
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			err = conn.(*net.TCPConn).SetLinger(0) // a reset
		}
		if err == nil {
			err = conn.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 30 {
		s := e.enter(t, p, &tls.Config{})
		query := letters(1000, 10_000)
		if _, err := s.Write(query[:len(query)-i%2]); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			_ = s.Close()
		}
		_ = s.NetConn().Close()
	}
	base.check(t)
}

// hello is the first flight of a handshake.
func (e *encrypted) hello(t *testing.T) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		_ = tls.Client(far, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}}).Handshake()
	}()
	defer far.Close()
	b := make([]byte, 16<<10)
	n, err := near.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}
