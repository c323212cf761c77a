package dial

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"testing"

	"github.com/pgweir/pgweir/auth"
)

// canned is a server whose every byte is known beforehand.
type canned struct {
	net.Conn
	io.Reader
}

func (c canned) Read(p []byte) (int, error)  { return c.Reader.Read(p) }
func (c canned) Write(p []byte) (int, error) { return len(p), nil }

// FuzzLogin: whatever a server sends, a login ends, in a session or in an error
// with a reason, holds no more than the limits say, and loses no byte that
// comes behind it.
func FuzzLogin(f *testing.F) {
	const ok = "R\x00\x00\x00\x08\x00\x00\x00\x00"
	const ready = "Z\x00\x00\x00\x05I"
	for _, seed := range []string{
		ok + ready,
		ok + "S\x00\x00\x00\x08a\x00b\x00K\x00\x00\x00\x0c12345678" + ready + "behind",
		"R\x00\x00\x00\x08\x00\x00\x00\x03" + ok + ready,
		"R\x00\x00\x00\x0c\x00\x00\x00\x05salt" + ok,
		"R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00",
		"E\x00\x00\x00\x0dC57P03\x00M\x00\x00",
		"N\x7f\xff\xff\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		l := newLogin(canned{Reader: bytes.NewReader(sent)}, &Request{Secret: auth.Plain("s3cret"), Random: rand.Reader})
		failed := l.run()
		if cap(l.body) > maxMessage {
			t.Fatalf("a buffer of %d bytes", cap(l.body))
		}
		if failed != nil {
			if failed.Kind == 0 || failed.Reason == "" {
				t.Fatalf("%+v", failed)
			}
			return
		}
		if !l.granted {
			t.Fatal("a session without AuthenticationOk")
		}
		unread, err := io.ReadAll(l.conn)
		if err != nil {
			t.Fatal(err)
		}
		if behind := append(l.rest(), unread...); l.total+len(behind) != len(sent) || !bytes.HasSuffix(sent, behind) {
			t.Fatalf("%d bytes of messages, %q behind, of %d", l.total, behind, len(sent))
		}
		if n := len(l.session.Key); n != 0 && (n < minKey || n > maxKey) {
			t.Fatalf("a key of %d bytes", n)
		}
	})
}
