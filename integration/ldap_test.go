package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// directory is an LDAP server that knows passwords by DN. It answers a search
// with the entries whose DN begins with the value in its filter.
type directory map[string]string

// serve starts the server, which ends with the test, and returns its port.
func (d directory) serve(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go d.talk(conn)
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// talk answers one client.
func (d directory) talk(conn net.Conn) {
	defer conn.Close()
	bound := "none"
	for {
		request, err := ber.ReadPacket(conn)
		if err != nil || len(request.Children) < 2 {
			return
		}
		id, op := request.Children[0], request.Children[1]
		answer := func(tag ber.Tag, code int, entry string) {
			p := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
			p.AppendChild(id)
			r := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
			if tag == 4 { // an entry
				r.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, entry, ""))
				r.AppendChild(ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, ""))
			} else {
				r.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, code, ""))
				r.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", ""))
				r.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", ""))
			}
			p.AppendChild(r)
			_, _ = conn.Write(p.Bytes()) // a client that is gone needs no answer
		}
		switch op.Tag {
		case 0: // bind
			dn := string(op.Children[1].ByteValue)
			password := op.Children[2].Data.String()
			if password == "" {
				bound = ""
				answer(1, 0, "")
			} else if d[dn] == password {
				bound = dn
				answer(1, 0, "")
			} else {
				answer(1, 49, "")
			}
		case 3: // search
			if bound != "cn=finder" {
				answer(5, 50, "")
				continue
			}
			value := string(op.Children[6].Children[1].ByteValue)
			for dn := range d {
				if strings.HasPrefix(dn, "uid="+value+",") {
					answer(4, 0, dn)
				}
			}
			answer(5, 0, "")
		default:
			return
		}
	}
}

// TestLDAP has clients log in with passwords that an LDAP server knows, to a
// Postgres that asks for the same ones.
func TestLDAP(t *testing.T) {
	begin(t)
	s, err := sandbox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	db, err := postgres.Start(testContext(t), s, postgres.Options{HBA: "local all all trust\nhost all all all scram-sha-256\n"})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Exec(testContext(t), "create role nina login password 'tulip'; create role twin login password 'tulip'"); err != nil {
		t.Fatal(err)
	}
	port := directory{
		"cn=finder": "found", "uid=nina,ou=people": "tulip", "uid=twin,ou=people": "tulip", "uid=twin,ou=others": "tulip",
	}.serve(t)
	hba := func(options string) map[string]string {
		file := fmt.Sprintf("ldap%d.conf", serial.Add(1))
		text := "host pgbouncer all all md5\nhost all all all ldap " + options + "\n"
		if _, err := suite.sandbox.WriteFile(file, []byte(text)); err != nil {
			t.Fatal(err)
		}
		return map[string]string{"auth_type": "hba", "auth_hba_file": suite.sandbox.Path(file)}
	}
	bind := fmt.Sprintf(`ldapserver=127.0.0.1 ldapport=%d ldapprefix="uid=" ldapsuffix=",ou=people"`, port)
	search := fmt.Sprintf(`ldapserver="127.0.0.1:1 127.0.0.1" ldapport=%d ldapbasedn="dc=x" ldapbinddn="cn=finder" ldapbindpasswd=found`, port)
	for _, tt := range []struct {
		name     string
		settings map[string]string
		twin     bool // who is there twice may come in
	}{
		{"bind", hba(bind), true},
		{"search and bind", hba(search), false},
		{"filter", hba(search + ` ldapsearchfilter="(uid=$username)"`), false},
		{"url", hba(fmt.Sprintf(`ldapurl="ldap://127.0.0.1:%d/dc=x?uid?sub" ldapbinddn=cn=finder ldapbindpasswd=found`, port)), false},
	} {
		p := startPooler(t, pooler.Config{
			Settings:  tt.settings,
			Databases: []string{fmt.Sprintf("%s = host=%s port=%d", postgres.Database, db.Host, db.Port)},
		})
		visit := func(user, password string) error {
			conn, err := pgconn.Connect(testContext(t), p.DSN(user, password, postgres.Database))
			if err != nil {
				return err
			}
			_, err = conn.Exec(testContext(t), "select 1").ReadAll()
			return errors.Join(err, conn.Close(context.Background()))
		}
		if err := visit("nina", "tulip"); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err := visit("twin", "tulip"); (err == nil) != tt.twin {
			t.Errorf("%s: of two entries: %v", tt.name, err)
		}
		for _, wrong := range [][2]string{{"nina", "rose"}, {"otto", "tulip"}, {"*", "tulip"}} {
			if err := visit(wrong[0], wrong[1]); err == nil || !strings.Contains(err.Error(), "LDAP authentication failed") {
				t.Errorf("%s: %v: %v", tt.name, wrong, err)
			}
		}
		if strings.Contains(p.Log(), "tulip") || strings.Contains(p.Log(), "found") && strings.Contains(p.Log(), "ldapbindpasswd") {
			t.Errorf("%s: the log tells a password", tt.name)
		}
	}

	p := startPooler(t, pooler.Config{
		Settings:  map[string]string{"auth_type": "hba", "auth_hba_file": hba(bind)["auth_hba_file"]},
		Databases: []string{fmt.Sprintf("%s = host=%s port=%d auth_user=nina", postgres.Database, db.Host, db.Port)},
	})
	_, err = pgconn.Connect(testContext(t), p.DSN("otto", "tulip", postgres.Database))
	if err == nil {
		t.Error("LDAP together with auth_user let somebody in")
	}
}
