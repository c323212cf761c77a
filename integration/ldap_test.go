package integration

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/certificates"
	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
)

// directory is an LDAP server that knows passwords by DN. It answers a search
// with the entries whose DN begins with the value in its filter.
type directory struct {
	passwords map[string]string // "" for any
	tls       *tls.Config       // for StartTLS, or from the begin on; nil: without
	ldaps     bool

	clear atomic.Int32 // binds with a password that were not encrypted
}

// serve starts the server, which ends with the test, and returns its port.
func (d *directory) serve(t *testing.T) int {
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
			if d.ldaps {
				conn = tls.Server(conn, d.tls)
			}
			go d.talk(conn)
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// talk answers one client.
func (d *directory) talk(conn net.Conn) {
	defer func() { conn.Close() }()
	bound, encrypted := "none", d.ldaps
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
			if password != "" && !encrypted {
				d.clear.Add(1)
			}
			if password == "" {
				bound = ""
				answer(1, 0, "")
			} else if right, known := d.passwords[dn]; known && (right == "" || right == password) {
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
			for dn := range d.passwords {
				if strings.HasPrefix(dn, "uid="+value+",") {
					answer(4, 0, dn)
				}
			}
			answer(5, 0, "")
		case 23: // an extended operation; only StartTLS is sent
			if d.tls == nil {
				answer(24, 2, "")
				continue
			}
			answer(24, 0, "")
			conn, encrypted = tls.Server(conn, d.tls), true
		default:
			return
		}
	}
}

// TestLDAP has clients log in with passwords that an LDAP server knows, to a
// Postgres that asks for the same ones.
func TestLDAP(t *testing.T) {
	begin(t)
	db := strict(t, "create role nina login password 'tulip'; create role twin login password 'tulip'")
	ca := certificates.NewAuthority("authority")
	config := func(a *certificates.Authority, host string) *tls.Config {
		cert, err := tls.X509KeyPair(a.Issue(certificates.Options{Name: host, Hosts: []string{host}}))
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	trusted := "SSL_CERT_FILE=" + write(t, suite.sandbox, fmt.Sprintf("ca%d.pem", serial.Add(1)), ca.PEM)
	const finder = "find, but not tell"
	passwords := map[string]string{
		"cn=finder": finder, "uid=nina,ou=people": "tulip", "uid=twin,ou=people": "tulip", "uid=twin,ou=others": "tulip",
		"uid=" + pooler.Admin + ",ou=people": "",
	}
	plain := &directory{passwords: passwords}
	port := plain.serve(t)
	starts := &directory{passwords: passwords, tls: config(ca, "127.0.0.1")}
	secure := &directory{passwords: passwords, tls: starts.tls, ldaps: true}
	other := &directory{passwords: passwords, tls: config(ca, "127.0.0.2")}
	stranger := &directory{passwords: passwords, tls: config(certificates.NewAuthority("stranger"), "127.0.0.1"), ldaps: true}
	hba := func(options string) map[string]string {
		file := fmt.Sprintf("ldap%d.conf", serial.Add(1))
		text := "host pgbouncer all all md5\nhost all all all ldap " + options + "\n"
		if _, err := suite.sandbox.WriteFile(file, []byte(text)); err != nil {
			t.Fatal(err)
		}
		return map[string]string{"auth_type": "hba", "auth_hba_file": suite.sandbox.Path(file), "verbose": "3"}
	}
	bindTo := func(port int) string {
		return fmt.Sprintf(`ldapserver=127.0.0.1 ldapport=%d ldapprefix="uid=" ldapsuffix=",ou=people" `, port)
	}
	searchAt := func(port int) string {
		return fmt.Sprintf(`ldapserver="127.0.0.1:1 127.0.0.1" ldapport=%d ldapbasedn="dc=x" ldapbinddn="cn=finder" ldapbindpasswd="%s" `, port, finder)
	}
	bind, search := bindTo(port), searchAt(port)
	for _, tt := range []struct {
		name     string
		settings map[string]string
		twin     bool // who is there twice may come in
	}{
		{"bind", hba(bind), true},
		{"auth_type", map[string]string{"auth_type": "ldap", "auth_ldap_options": search, "verbose": "3"}, false},
		{"search and bind", hba(search), false},
		{"filter", hba(search + ` ldapsearchfilter="(uid=$username)"`), false},
		{"url", hba(fmt.Sprintf(`ldapurl="ldap://127.0.0.1:%d/dc=x?uid?sub" ldapbinddn=cn=finder ldapbindpasswd="%s"`, port, finder)), false},
		{"StartTLS, bind", hba(bindTo(starts.serve(t)) + "ldaptls=1"), true},
		{"StartTLS, search and bind", hba(searchAt(starts.serve(t)) + "ldaptls=1"), false},
		{"ldaps, bind", hba(bindTo(secure.serve(t)) + "ldapscheme=ldaps"), true},
		{"ldaps, search and bind", hba(searchAt(secure.serve(t)) + "ldapscheme=ldaps"), false},
		{"ldaps, url", hba(fmt.Sprintf(`ldapurl="ldaps://127.0.0.1:%d/dc=x?uid?one" ldapbinddn=cn=finder ldapbindpasswd="%s"`, secure.serve(t), finder)), false},
	} {
		p := startPooler(t, pooler.Config{
			Settings:  tt.settings,
			Databases: []string{fmt.Sprintf("%s = host=%s port=%d", postgres.Database, db.Host, db.Port)},
		}, trusted)
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
		wantUntold(t, p, "tulip", "rose", finder)
		if rows, err := p.Console(testContext(t), "SHOW CONFIG"); err != nil || strings.Contains(fmt.Sprint(rows), finder) {
			t.Errorf("%s: SHOW CONFIG tells a password (%v)", tt.name, err)
		}
	}

	if n := starts.clear.Load() + secure.clear.Load(); n > 0 {
		t.Errorf("%d passwords went over the network in clear", n)
	}

	// Servers that are not who they should be, or don't do TLS, hear no password.
	for _, d := range []struct {
		name string
		*directory
		options string
	}{
		{"another host's certificate", other, "ldaptls=1"},
		{"an unknown authority", stranger, "ldapscheme=ldaps"},
		{"no TLS", plain, "ldaptls=1"},
	} {
		before := d.clear.Load()
		p := startPooler(t, pooler.Config{
			Settings:  hba(bindTo(d.serve(t)) + d.options),
			Databases: []string{fmt.Sprintf("%s = host=%s port=%d", postgres.Database, db.Host, db.Port)},
		}, trusted)
		_, err := pgconn.Connect(testContext(t), p.DSN("nina", "tulip", postgres.Database))
		if err == nil || !strings.Contains(err.Error(), "LDAP authentication failed") || d.clear.Load() != before {
			t.Errorf("%s: %v", d.name, err)
		}
	}

	p := startPooler(t, pooler.Config{
		Settings:  map[string]string{"auth_type": "hba", "auth_hba_file": hba(bind)["auth_hba_file"], "auth_query": "select $1, 'rose'"},
		Databases: []string{fmt.Sprintf("%s = host=%s port=%d auth_user=nina", postgres.Database, db.Host, db.Port)},
		Userlist:  map[string]string{"nina": "tulip"},
	})
	_, err := pgconn.Connect(testContext(t), p.DSN("otto", "tulip", postgres.Database))
	if err == nil || !strings.Contains(err.Error(), "bouncer config error") {
		t.Errorf("LDAP together with auth_user: %v", err)
	}
	wantLog(t, p, "LDAP can't be asked: it needs auth_ldap_options, and no auth_user for the database")
}
