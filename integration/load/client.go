package load

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
)

// Client is a client of the Postgres protocol that does as little as it can: it
// looks at the type and length of each message and skips the rest, so that the
// machine is left to what is measured. It is for one goroutine.
type Client struct {
	conn net.Conn
	buf  []byte
	have []byte // read and not yet looked at, part of buf
}

// Login says whom to log in to what. An empty Password means none.
type Login struct {
	Address  string // host:port
	User     string
	Database string
	Password string
	TLS      *tls.Config // nil means none
}

// clientBuffer is large enough that a 5 MB result costs few reads.
const clientBuffer = 64 << 10

// Dial connects and logs in: without a password, or by cleartext, MD5 or
// SCRAM-SHA-256.
func Dial(ctx context.Context, to Login) (*Client, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", to.Address)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			conn.Close()
			return nil, err
		}
	}
	if to.TLS != nil {
		secure, err := encrypt(ctx, conn, to.TLS)
		if err != nil {
			conn.Close()
			return nil, err
		}
		conn = secure
	}
	c := &Client{conn: conn, buf: make([]byte, clientBuffer)}
	if err := c.login(to); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// encrypt asks for TLS and does the handshake.
func encrypt(ctx context.Context, conn net.Conn, config *tls.Config) (net.Conn, error) {
	const sslRequest = 80877103
	if _, err := conn.Write(binary.BigEndian.AppendUint64(nil, 8<<32|sslRequest)); err != nil {
		return nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return nil, err
	}
	if answer[0] != 'S' {
		return nil, fmt.Errorf("the server answers %q to the request for TLS", answer[0])
	}
	secure := tls.Client(conn, config)
	return secure, secure.HandshakeContext(ctx)
}

func (c *Client) login(to Login) error {
	const protocol30 = 3 << 16
	startup := binary.BigEndian.AppendUint32(make([]byte, 4), protocol30)
	startup = append(startup, "user\x00"+to.User+"\x00database\x00"+to.Database+"\x00\x00"...)
	binary.BigEndian.PutUint32(startup, uint32(len(startup)))
	if _, err := c.conn.Write(startup); err != nil {
		return err
	}
	var scram *scramClient
	for {
		typ, body, err := c.message()
		if err != nil {
			return err
		}
		if typ == 'Z' {
			return nil
		}
		if typ != 'R' {
			continue // ParameterStatus, BackendKeyData, notices
		}
		var reply []byte
		switch kind := binary.BigEndian.Uint32(body); kind {
		case 0: // AuthenticationOk
			continue
		case 3: // AuthenticationCleartextPassword
			reply = append([]byte(to.Password), 0)
		case 5: // AuthenticationMD5Password
			inner := md5.Sum([]byte(to.Password + to.User))
			outer := md5.Sum(append([]byte(hex.EncodeToString(inner[:])), body[4:8]...))
			reply = append([]byte("md5"+hex.EncodeToString(outer[:])), 0)
		case 10: // AuthenticationSASL
			scram = newScramClient(to.Password)
			first := scram.first()
			reply = append([]byte("SCRAM-SHA-256\x00"), binary.BigEndian.AppendUint32(nil, uint32(len(first)))...)
			reply = append(reply, first...)
		case 11: // AuthenticationSASLContinue
			if reply, err = scram.final(body[4:]); err != nil {
				return err
			}
		case 12: // AuthenticationSASLFinal
			continue
		default:
			return fmt.Errorf("the server wants authentication method %d", kind)
		}
		if err := c.send('p', reply); err != nil {
			return err
		}
	}
}

// Query runs sql by the simple protocol and returns the number of bytes of the
// answer. An ErrorResponse is an error.
func (c *Client) Query(sql string) (int, error) {
	if err := c.send('Q', append([]byte(sql), 0)); err != nil {
		return 0, err
	}
	total := 0
	for {
		typ, size, err := c.skip()
		if err != nil {
			return total, err
		}
		total += size
		if typ == 'Z' {
			return total, nil
		}
	}
}

// Close says goodbye and closes the connection.
func (c *Client) Close() error {
	if err := c.send('X', nil); err != nil {
		c.conn.Close()
		return err
	}
	return c.conn.Close()
}

func (c *Client) send(typ byte, body []byte) error {
	m := binary.BigEndian.AppendUint32([]byte{typ}, uint32(4+len(body)))
	_, err := c.conn.Write(append(m, body...))
	return err
}

// header is the type byte and the length word.
const header = 5

// fill reads until at least n bytes are at hand, n <= len(buf).
func (c *Client) fill(n int) error {
	if len(c.have) >= n {
		return nil
	}
	c.have = c.buf[:copy(c.buf, c.have)]
	for len(c.have) < n {
		m, err := c.conn.Read(c.buf[len(c.have):])
		c.have = c.buf[:len(c.have)+m]
		if err != nil {
			return err
		}
	}
	return nil
}

// message reads one message that fits the buffer. The body is valid until the
// next call.
func (c *Client) message() (typ byte, body []byte, err error) {
	if err := c.fill(header); err != nil {
		return 0, nil, err
	}
	typ = c.have[0]
	size := 1 + int(binary.BigEndian.Uint32(c.have[1:]))
	if size < header || size > len(c.buf) {
		return 0, nil, fmt.Errorf("message %q of %d bytes", typ, size)
	}
	if err := c.fill(size); err != nil {
		return 0, nil, err
	}
	body, c.have = c.have[header:size], c.have[size:]
	if typ == 'E' {
		return 0, nil, serverError(body)
	}
	return typ, body, nil
}

// skip reads past one message of any size.
func (c *Client) skip() (typ byte, size int, err error) {
	if err := c.fill(header); err != nil {
		return 0, 0, err
	}
	if c.have[0] == 'E' {
		_, _, err := c.message()
		return 'E', 0, err
	}
	typ = c.have[0]
	size = 1 + int(binary.BigEndian.Uint32(c.have[1:]))
	for left := size; ; {
		n := min(left, len(c.have))
		c.have = c.have[n:]
		if left -= n; left == 0 {
			return typ, size, nil
		}
		if err := c.fill(1); err != nil {
			return 0, 0, err
		}
	}
}

// serverError is the message of an ErrorResponse.
func serverError(body []byte) error {
	fields := map[byte]string{}
	for field := range bytes.SplitSeq(body, []byte{0}) {
		if len(field) > 0 {
			fields[field[0]] = string(field[1:])
		}
	}
	return fmt.Errorf("%s: %s (SQLSTATE %s)", fields['S'], fields['M'], fields['C'])
}
