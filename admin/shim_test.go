package admin

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/pgweir/pgweir/pool"
	"github.com/pgweir/pgweir/wire"
)

// serve puts sessions of c behind a TCP listener, with a login that lets
// everybody in, and returns its address. It ends with the test.
func serve(t *testing.T, c *Console) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var clients sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		clients.Wait()
	})
	clients.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			clients.Go(func() {
				defer conn.Close()
				if err := serveClient(conn, c); err != nil && !errors.Is(err, io.EOF) {
					t.Errorf("client: %v", err)
				}
			})
		}
	})
	return listener.Addr().String()
}

// serveClient does for one connection what the pool does: the login, then
// messages one at a time.
func serveClient(conn net.Conn, c *Console) error {
	user, err := startup(conn)
	if err != nil {
		return err
	}
	s := c.Open(pool.ConsoleClient{ID: 1, User: user, Admin: true})
	defer s.Close()
	if _, err := conn.Write(s.Welcome(nil)); err != nil {
		return err
	}
	done := make(chan struct{})
	defer close(done)
	for {
		header := make([]byte, wire.HeaderLen)
		if _, err := io.ReadFull(conn, header); err != nil {
			return err
		}
		typ, size, _, err := wire.Peek(header, 1<<20)
		if err != nil {
			return err
		}
		body := make([]byte, size-wire.HeaderLen)
		if _, err := io.ReadFull(conn, body); err != nil {
			return err
		}
		reply, end := s.Handle(done, typ, body, nil)
		if _, err := conn.Write(reply); err != nil || end {
			return err
		}
	}
}

// startup reads the first packets, and returns the user that they name.
func startup(conn net.Conn) (user string, err error) {
	backend := pgproto3.NewBackend(pgproto3.NewChunkReader(conn), conn)
	for {
		m, err := backend.ReceiveStartupMessage()
		if err != nil {
			return "", err
		}
		switch m := m.(type) {
		case *pgproto3.SSLRequest, *pgproto3.GSSEncRequest:
			if _, err := conn.Write([]byte{'N'}); err != nil {
				return "", err
			}
		case *pgproto3.StartupMessage:
			return m.Parameters["user"], nil
		default:
			return "", errors.New("unexpected first packet")
		}
	}
}
