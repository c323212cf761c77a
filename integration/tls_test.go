package integration

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/certificates"
	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// encrypted is what the tests of TLS share: a Postgres that speaks it, and
// authorities.
type encrypted struct {
	db     *postgres.Cluster
	ca     *certificates.Authority
	caFile string
	other  string // the file of another authority

	sandbox *sandbox.Sandbox // of db
}

const encryptedHBA = `local all all trust
hostssl all bound all scram-sha-256
hostssl all certified all cert
hostssl all encrypted all trust
hostnossl all clear all trust
`

func newEncrypted(t *testing.T) *encrypted {
	t.Helper()
	s, err := sandbox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	e := &encrypted{ca: certificates.NewAuthority("authority"), sandbox: s}
	e.caFile = write(t, s, "ca.pem", e.ca.PEM)
	cert, key := e.ca.Issue(certificates.Options{Name: "db", Hosts: []string{"localhost"}, RSA: true})
	e.db, err = postgres.Start(testContext(t), s, postgres.Options{HBA: encryptedHBA, Settings: map[string]string{
		"ssl":             "on",
		"ssl_ca_file":     e.caFile,
		"ssl_cert_file":   write(t, s, "db.pem", cert),
		"ssl_key_file":    write(t, s, "db.key", key),
		"log_connections": "on",
	}})
	if err != nil {
		t.Fatal(err)
	}
	e.caFile = write(t, suite.sandbox, fmt.Sprintf("ca%d.pem", serial.Add(1)), e.ca.PEM)
	e.other = write(t, suite.sandbox, fmt.Sprintf("ca%d.pem", serial.Add(1)), certificates.NewAuthority("other").PEM)
	for _, sql := range []string{
		"create role bound login password 'secret'",
		"create role certified login", "create role encrypted login", "create role clear login",
	} {
		if err := e.db.Exec(testContext(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

func write(t *testing.T, s *sandbox.Sandbox, name string, data []byte) string {
	t.Helper()
	path, err := s.WriteFile(name, data)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// issue makes a certificate and returns its files.
func (e *encrypted) issue(t *testing.T, o certificates.Options) (cert, key string) {
	t.Helper()
	c, k := e.ca.Issue(o)
	name := fmt.Sprintf("cert%d", serial.Add(1))
	return write(t, suite.sandbox, name+".pem", c), write(t, suite.sandbox, name+".key", k)
}

// config is a pooler's configuration in front of e.
func (e *encrypted) config(settings map[string]string) pooler.Config {
	return pooler.Config{
		Settings:  settings,
		Databases: []string{fmt.Sprintf("* = host=localhost port=%d dbname=postgres", e.db.Port)},
		Userlist:  map[string]string{"bound": "secret", "certified": "", "encrypted": "", "clear": ""},
	}
}

// visit asks one question through p, as a driver that connects with the
// parameters in settings.
func visit(t *testing.T, p *pooler.Pooler, settings string) (answer string, err error) {
	t.Helper()
	c, err := pgx.ParseConfig(fmt.Sprintf("port=%d dbname=postgres %s", p.Port, settings))
	if err != nil {
		t.Fatal(err)
	}
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(testContext(t), c)
	if err != nil {
		return "", err
	}
	err = conn.QueryRow(testContext(t), "select coalesce((select version from pg_stat_ssl where pid = pg_backend_pid()), 'none')").Scan(&answer)
	return answer, errors.Join(err, conn.Close(testContext(t)))
}

func wantVisit(t *testing.T, p *pooler.Pooler, settings, want string) {
	t.Helper()
	if got, err := visit(t, p, settings); err != nil || got != want {
		t.Errorf("%s: server connection %q, %v; want %q", settings, got, err, want)
	}
}

func wantRefusal(t *testing.T, p *pooler.Pooler, settings, want string) {
	t.Helper()
	if got, err := visit(t, p, settings); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: answer %q, error %v, want one with %q", settings, got, err, want)
	}
}

// wantLog waits until p's log, which is written behind, has text.
func wantLog(t *testing.T, p *pooler.Pooler, text string) {
	t.Helper()
	eventually(t, "the log", func() error {
		if !strings.Contains(p.Log(), text) {
			return fmt.Errorf("has no %q", text)
		}
		return nil
	})
}

// TestTLS goes through the modes of both sides.
func TestTLS(t *testing.T) {
	begin(t)
	e := newEncrypted(t)
	t.Run("clients", e.clients)
	t.Run("modes", e.modes)
	t.Run("client certificates", e.clientCertificates)
	t.Run("HBA", e.hba)
	t.Run("made certificate", e.madeCertificate)
	t.Run("psql", e.psql)
	t.Run("renewal", e.renewal)
	t.Run("reload", e.reload)
	t.Run("bulk", e.bulk)
	t.Run("switching", e.switching)
	t.Run("cancel", e.cancel)
	t.Run("injection", e.injection)
	t.Run("direct", e.direct)
	t.Run("slow readers", e.slowReaders)
	t.Run("records", e.records)
	// All these poolers have ended by now, and each session in good order.
	for _, complaint := range []string{"unexpected eof", "could not receive data", "SSL error"} {
		if strings.Contains(e.db.Log(), complaint) {
			t.Errorf("Postgres complains of TLS, %q:\n%s", complaint, lastLines(e.db.Log(), 200))
		}
	}
	t.Run("abandoned", e.abandoned) // whose servers are left in the midst of their replies
	t.Run("servers", e.servers)
	t.Run("binding", e.binding)
}

// clients has drivers connect in each of their modes to poolers in each of
// theirs.
func (e *encrypted) clients(t *testing.T) {
	cert, key := e.issue(t, certificates.Options{Name: "pooler", Hosts: []string{"127.0.0.1"}})
	for mode, plain := range map[string]bool{"allow": true, "prefer": true, "require": false} {
		p := startPooler(t, e.config(map[string]string{
			"client_tls_sslmode": mode, "client_tls_cert_file": cert, "client_tls_key_file": key, "pool_mode": "transaction",
		}))
		host := "host=127.0.0.1 user=encrypted "
		wantVisit(t, p, host+"sslmode=require", "TLSv1.3")
		wantVisit(t, p, host+"sslmode=verify-full sslrootcert="+e.caFile, "TLSv1.3")
		wantVisit(t, p, host+"sslmode=verify-full sslnegotiation=direct sslrootcert="+e.caFile, "TLSv1.3")
		wantRefusal(t, p, host+"sslmode=verify-full sslrootcert="+e.other, "certificate")
		if plain {
			wantVisit(t, p, host+"sslmode=disable", "TLSv1.3")
		} else {
			wantRefusal(t, p, host+"sslmode=disable", "SSL required")
		}
		wantVisit(t, p, "host="+p.Socket+" user=encrypted sslmode=prefer", "TLSv1.3")
		wantLog(t, p, "user=encrypted tls=TLSv1.3/TLS_AES_128_GCM_SHA256/ECDH=X25519")
	}
	p := startPooler(t, e.config(map[string]string{
		"client_tls_sslmode": "require", "client_tls_cert_file": cert, "client_tls_key_file": key,
		"client_tls_protocols": "tlsv1.2", "client_tls_ciphers": "ECDHE+AESGCM:!AES128", "client_tls_ecdhcurve": "prime256v1",
		"auth_type": "scram-sha-256",
	}))
	wantVisit(t, p, "host=127.0.0.1 user=bound password=secret sslmode=require", "TLSv1.3")
	wantLog(t, p, "tls=TLSv1.2/ECDHE-ECDSA-AES256-GCM-SHA384/ECDH=prime256v1")
}

// psql has libpq connect, which binds SCRAM to the certificate.
func (e *encrypted) psql(t *testing.T) {
	cert, key := e.issue(t, certificates.Options{Name: "pooler", Hosts: []string{"localhost"}, RSA: true})
	for _, versions := range []string{"tlsv1.2", "tlsv1.3"} {
		p := startPooler(t, e.config(map[string]string{
			"client_tls_sslmode": "require", "client_tls_cert_file": cert, "client_tls_key_file": key, "client_tls_protocols": versions,
			"server_tls_protocols": versions, "server_tls_sslmode": "verify-full", "server_tls_ca_file": e.caFile,
			"auth_type": "scram-sha-256",
		}))
		dsn := fmt.Sprintf("host=localhost hostaddr=127.0.0.1 port=%d user=bound password=secret dbname=postgres sslmode=verify-full channel_binding=require sslrootcert=%s", p.Port, e.caFile)
		out, err := e.db.Psql(testContext(t), dsn, "-c", "select 'bound by ' || version from pg_stat_ssl where pid = pg_backend_pid()", "-c", "select repeat('x', 3000000) from generate_series(1, 5)", "-o", "/dev/null")
		if err != nil {
			t.Errorf("%s: %s %v", versions, out, err)
		}
	}
	// The console shows both sides.
	p := startPooler(t, e.config(map[string]string{"client_tls_sslmode": "require"}))
	conn, err := pgx.Connect(testContext(t), fmt.Sprintf("host=127.0.0.1 port=%d user=encrypted dbname=postgres sslmode=require default_query_exec_mode=exec", p.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(testContext(t))
	if _, err := conn.Exec(testContext(t), "begin"); err != nil {
		t.Fatal(err)
	}
	console, err := pgconn.Connect(testContext(t), fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=pgbouncer sslmode=require", p.Port, pooler.Admin, p.Password))
	if err != nil {
		t.Fatal(err)
	}
	defer console.Close(testContext(t))
	for _, command := range []string{"SHOW CLIENTS", "SHOW SERVERS"} {
		results, err := console.Exec(testContext(t), command).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		var seen bool
		for _, row := range results[0].Rows {
			for i, column := range results[0].FieldDescriptions {
				seen = seen || column.Name == "tls" && strings.HasPrefix(string(row[i]), "TLSv1.3/TLS_")
			}
		}
		if !seen {
			t.Errorf("%s shows no TLS: %q", command, results[0].Rows)
		}
	}
}

// clientCertificates has clients show theirs.
func (e *encrypted) clientCertificates(t *testing.T) {
	cert, key := e.issue(t, certificates.Options{Name: "pooler", Hosts: []string{"127.0.0.1"}})
	settings := func(mode string, more ...string) map[string]string {
		m := map[string]string{
			"client_tls_sslmode": mode, "client_tls_cert_file": cert, "client_tls_key_file": key, "client_tls_ca_file": e.caFile,
		}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	shows := func(o certificates.Options) string {
		cert, key := e.issue(t, o)
		return "host=127.0.0.1 user=encrypted sslmode=require sslcert=" + cert + " sslkey=" + key
	}
	own, old := shows(certificates.Options{Name: "encrypted"}), shows(certificates.Options{Name: "encrypted", Old: true})
	mallory := certificates.NewAuthority("mallory")
	foreignCert, foreignKey := mallory.Issue(certificates.Options{Name: "encrypted"})
	name := fmt.Sprintf("mallory%d", serial.Add(1))
	foreign := "host=127.0.0.1 user=encrypted sslmode=require sslcert=" + write(t, suite.sandbox, name+".pem", foreignCert) + " sslkey=" + write(t, suite.sandbox, name+".key", foreignKey)
	const none = "host=127.0.0.1 user=encrypted sslmode=require"

	c := e.config(settings("require"))
	p := startPooler(t, c)
	wantVisit(t, p, none, "TLSv1.3")
	wantVisit(t, p, own, "TLSv1.3")
	wantRefusal(t, p, old, "certificate")

	admin, adminKey := e.issue(t, certificates.Options{Name: pooler.Admin})
	console := "sslmode=require sslcert=" + admin + " sslkey=" + adminKey
	c = e.config(settings("verify-ca"))
	c.Console = console
	p = startPooler(t, c)
	wantVisit(t, p, own, "TLSv1.3")
	wantRefusal(t, p, none, "certificate required")
	wantRefusal(t, p, old, "certificate")
	wantLog(t, p, "certificate verify failed")

	c = e.config(settings("verify-full", "auth_type", "cert"))
	c.Console = console
	p = startPooler(t, c)
	wantVisit(t, p, own, "TLSv1.3")
	wantVisit(t, p, shows(certificates.Options{Name: "somebody", Hosts: []string{"encrypted"}}), "TLSv1.3")
	wantRefusal(t, p, shows(certificates.Options{Name: "bound"}), "certificate authentication failed")
	wantRefusal(t, p, shows(certificates.Options{Name: "*"}), "certificate authentication failed")
	wantRefusal(t, p, foreign, "certificate")
	wantRefusal(t, p, none, "certificate required")
	wantRefusal(t, p, strings.Replace(shows(certificates.Options{Name: "unknown"}), "user=encrypted", "user=unknown", 1), "certificate authentication failed")
	wantRefusal(t, p, strings.Replace(own, "sslmode=require", "sslmode=disable", 1), "SSL required")
}

// hba has an HBA file tell TLS from none, and certificates from each other.
func (e *encrypted) hba(t *testing.T) {
	cert, key := e.issue(t, certificates.Options{Name: "pooler", Hosts: []string{"127.0.0.1"}})
	name := fmt.Sprintf("hba%d", serial.Add(1))
	c := e.config(map[string]string{
		"client_tls_sslmode": "allow", "client_tls_cert_file": cert, "client_tls_key_file": key, "client_tls_ca_file": e.caFile,
		"auth_type": "hba",
		"auth_hba_file": write(t, suite.sandbox, name, []byte(`host pgbouncer all all trust
hostssl all bound all cert map=people
hostssl all encrypted all trust
hostnossl all bound all trust
hostssl all certified all cert
`)),
		"auth_ident_file": write(t, suite.sandbox, name+".ident", []byte("people Alice bound\npeople *.example.com bound\npeople Bob certified\n")),
	})
	p := startPooler(t, c)
	shows := func(user, name string) string {
		cert, key := e.issue(t, certificates.Options{Name: name})
		return "host=127.0.0.1 user=" + user + " password=secret sslmode=require sslcert=" + cert + " sslkey=" + key
	}
	wantVisit(t, p, "host=127.0.0.1 user=encrypted sslmode=require", "TLSv1.3")
	wantRefusal(t, p, "host=127.0.0.1 user=encrypted sslmode=disable", "no authentication method is found")
	wantVisit(t, p, "host=127.0.0.1 user=bound sslmode=disable", "TLSv1.3")
	wantRefusal(t, p, "host=127.0.0.1 user=bound sslmode=require", "certificate authentication failed")
	wantVisit(t, p, shows("bound", "Alice"), "TLSv1.3")
	wantRefusal(t, p, shows("bound", "Bob"), "certificate authentication failed")
	wantRefusal(t, p, shows("bound", "bound"), "certificate authentication failed")
	wantRefusal(t, p, shows("certified", "Bob"), "certificate authentication failed")
	wantLog(t, p, "ident map: people does not have a match")
}

// madeCertificate connects to a pooler that has none.
func (e *encrypted) madeCertificate(t *testing.T) {
	p := startPooler(t, e.config(map[string]string{"client_tls_sslmode": "require", "auth_type": "scram-sha-256"}))
	wantVisit(t, p, "host=127.0.0.1 user=bound password=secret sslmode=require", "TLSv1.3")
	wantRefusal(t, p, "host=127.0.0.1 user=bound password=secret sslmode=verify-full sslrootcert="+e.caFile, "certificate")
}

// servers goes through server_tls_sslmode.
func (e *encrypted) servers(t *testing.T) {
	cert, key := e.issue(t, certificates.Options{Name: "certified"})
	foreign, foreignKey := certificates.NewAuthority("mallory").Issue(certificates.Options{Name: "certified"})
	name := fmt.Sprintf("foreign%d", serial.Add(1))
	foreignFiles := func(protocols string) map[string]string {
		return map[string]string{
			"server_tls_sslmode": "require", "server_tls_protocols": protocols,
			"server_tls_cert_file": write(t, suite.sandbox, name+".pem", foreign), "server_tls_key_file": write(t, suite.sandbox, name+".key", foreignKey),
		}
	}
	for _, test := range []struct {
		user     string
		settings map[string]string
		want     string // of pg_stat_ssl
		log      string // else
	}{
		{"clear", map[string]string{"server_tls_sslmode": "disable"}, "none", ""},
		{"encrypted", map[string]string{"server_tls_sslmode": "allow"}, "TLSv1.3", ""},
		{"encrypted", map[string]string{"server_tls_sslmode": "prefer", "server_tls_protocols": "tlsv1.2"}, "TLSv1.2", ""},
		{"encrypted", map[string]string{"server_tls_sslmode": "require", "server_tls_ca_file": e.other}, "TLSv1.3", ""},
		{"bound", map[string]string{"server_tls_sslmode": "require"}, "TLSv1.3", ""},
		{"encrypted", map[string]string{"server_tls_sslmode": "verify-ca", "server_tls_ca_file": e.caFile}, "TLSv1.3", ""},
		{"encrypted", map[string]string{"server_tls_sslmode": "verify-full", "server_tls_ca_file": e.caFile}, "TLSv1.3", ""},
		{"certified", map[string]string{"server_tls_sslmode": "require", "server_tls_cert_file": cert, "server_tls_key_file": key}, "TLSv1.3", ""},
		{"encrypted", map[string]string{"server_tls_sslmode": "verify-ca", "server_tls_ca_file": e.other}, "", "certificate verify failed: x509"},
		{"encrypted", map[string]string{"server_tls_sslmode": "verify-full"}, "", "certificate verify failed: x509"},
		{"certified", map[string]string{"server_tls_sslmode": "require"}, "", "connection requires a valid client certificate"},
		{"certified", foreignFiles("tlsv1.2"), "", "TLS startup failed: remote error: tls: unknown certificate authority"},
		{"certified", foreignFiles("tlsv1.3"), "", "TLS startup failed: remote error: tls: unknown certificate authority"},
		{"clear", map[string]string{"server_tls_sslmode": "prefer"}, "", "no pg_hba.conf entry"},
	} {
		p := startPooler(t, e.config(test.settings))
		dsn := "host=127.0.0.1 sslmode=disable password=secret user=" + test.user
		if test.log != "" {
			if err := waits(t, p, dsn, test.log); err == nil {
				t.Errorf("%v: no error", test.settings)
			}
		} else if got, err := visit(t, p, dsn); err != nil || got != test.want {
			t.Errorf("%v: %q, %v", test.settings, got, err)
		}
	}

	// Where the certificate names another host.
	c := e.config(map[string]string{"server_tls_sslmode": "verify-full", "server_tls_ca_file": e.caFile})
	c.Databases = []string{fmt.Sprintf("* = host=127.0.0.1 port=%d dbname=postgres", e.db.Port)}
	p := startPooler(t, c)
	if err := waits(t, p, "host=127.0.0.1 user=encrypted sslmode=disable", "name `127.0.0.1' not present in server certificate"); err == nil || !strings.Contains(err.Error(), "query_wait_timeout") {
		t.Errorf("%v, want query_wait_timeout", err)
	}

	// Where the server has none.
	c = config(suite.postgres, postgres.Database, map[string]string{"server_tls_sslmode": "require"})
	p = startPooler(t, c)
	if err := waits(t, p, "host=127.0.0.1 sslmode=disable user="+user, "closing because: server refused SSL"); err == nil || !strings.Contains(err.Error(), "query_wait_timeout") {
		t.Errorf("%v, want query_wait_timeout", err)
	}
}

// waits has a client wait for a server that can't be had, until the log of p says
// why, and then lets query_wait_timeout end it. It returns what the client is told.
func waits(t *testing.T, p *pooler.Pooler, dsn, why string) error {
	t.Helper()
	told := make(chan error, 1)
	go func() {
		_, err := visit(t, p, dsn)
		told <- err
	}()
	wantLog(t, p, why)
	set(t, p, "query_wait_timeout", "0.1")
	return <-told
}

// serverName is the name in the certificate that p shows.
func serverName(t *testing.T, p *pooler.Pooler) string {
	t.Helper()
	conn, err := tls.Dial("tcp", net.JoinHostPort(p.Host, strconv.Itoa(p.Port)), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != "postgresql" {
		t.Errorf("ALPN %q", state.NegotiatedProtocol)
	}
	return state.PeerCertificates[0].Subject.CommonName
}

// renewal changes the files under a running pooler.
func (e *encrypted) renewal(t *testing.T) {
	base := fmt.Sprintf("renewed%d", serial.Add(1))
	put := func(name string) (cert, key string) {
		c, k := e.ca.Issue(certificates.Options{Name: name})
		return write(t, suite.sandbox, base+".pem", c), write(t, suite.sandbox, base+".key", k)
	}
	cert, key := put("first")
	p := startPooler(t, e.config(map[string]string{
		"client_tls_sslmode": "allow", "client_tls_cert_file": cert, "client_tls_key_file": key,
	}))
	if got := serverName(t, p); got != "first" {
		t.Errorf("shown %q at start", got)
	}
	put("second")
	if _, err := p.Console(testContext(t), "RELOAD"); err != nil {
		t.Fatal(err)
	}
	if got := serverName(t, p); got != "second" {
		t.Errorf("shown %q after RELOAD", got)
	}
	put("third")
	eventually(t, "the files are noticed", func() error {
		if got := serverName(t, p); got != "third" {
			return fmt.Errorf("shown %q", got)
		}
		return nil
	})
	// What can't be read changes nothing, noticed or told.
	write(t, suite.sandbox, base+".key", []byte("nonsense"))
	wantLog(t, p, "what was in force stays")
	if got := serverName(t, p); got != "third" {
		t.Errorf("shown %q with a key that is none", got)
	}
	if _, err := p.Console(testContext(t), "RELOAD"); err == nil {
		t.Error("RELOAD takes a key that is none")
	}
	if got := serverName(t, p); got != "third" {
		t.Errorf("shown %q after a RELOAD that failed", got)
	}
	wantLog(t, p, "config file loading failed: TLS setup failed: client_tls_cert_file: ")
	c, k := e.ca.Issue(certificates.Options{Name: "old", Old: true})
	write(t, suite.sandbox, base+".pem", c)
	write(t, suite.sandbox, base+".key", k)
	if _, err := p.Console(testContext(t), "RELOAD"); err != nil {
		t.Fatal(err)
	}
	wantLog(t, p, "client_tls_cert_file: "+cert+" has expired on ")
}

// switching turns TLS for clients on and off under a running pooler: who is in
// stays, and who comes meets what is in force then.
func (e *encrypted) switching(t *testing.T) {
	c := e.config(map[string]string{"client_tls_sslmode": "disable"})
	p := startPooler(t, c)
	var in []*pgx.Conn
	for _, step := range []struct{ mode, takes, refuses, why string }{
		{"disable", "disable", "require", "server refused TLS connection"},
		{"require", "require", "disable", "SSL required"},
		{"allow", "disable", "verify-full sslrootcert=" + e.caFile, "certificate"},
		{"disable", "disable", "require", "server refused TLS connection"},
	} {
		c.Settings["client_tls_sslmode"] = step.mode
		if err := p.Reload(testContext(t), c); err != nil {
			t.Fatal(err)
		}
		const host = "host=127.0.0.1 user=encrypted sslmode="
		wantRefusal(t, p, host+step.refuses, step.why)
		conn, err := pgx.Connect(testContext(t), fmt.Sprintf("port=%d dbname=postgres default_query_exec_mode=exec %s%s", p.Port, host, step.takes))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(testContext(t))
		in = append(in, conn)
		for i, conn := range in {
			if _, err := conn.Exec(testContext(t), "select 1"); err != nil {
				t.Errorf("client %d in mode %s: %v", i, step.mode, err)
			}
		}
	}
}

// cancel has requests come in clear and with TLS, both of which a pooler that
// requires TLS takes, and go on to a server whose certificate is verified.
func (e *encrypted) cancel(t *testing.T) {
	p := startPooler(t, e.config(map[string]string{
		"client_tls_sslmode": "require", "server_tls_sslmode": "verify-full", "server_tls_ca_file": e.caFile,
		"pool_mode": "transaction", // or a signal may come late and stop the client's own next query, as it may without a pooler
	}))
	conn, err := pgconn.Connect(testContext(t), fmt.Sprintf("host=127.0.0.1 port=%d user=encrypted dbname=postgres sslmode=require", p.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(testContext(t))
	watcher, err := e.db.Connect(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close(testContext(t))
	for _, request := range []func(string, int, uint32, []byte) error{cancelAndHangUp, cancelAndHangUpTLS} {
		sleep := make(chan error, 1)
		go func() {
			_, err := conn.Exec(testContext(t), "select pg_sleep(1000)").ReadAll()
			sleep <- err
		}()
		untilSleeps(t, watcher, "postgres")
		if err := request(p.Host, p.Port, conn.PID(), conn.SecretKey()); err != nil {
			t.Fatal(err)
		}
		var pgErr *pgconn.PgError
		if err := <-sleep; !errors.As(err, &pgErr) || pgErr.Code != queryCanceled {
			t.Fatalf("the cancelled query ended by %v, want SQLSTATE %s", err, queryCanceled)
		}
	}
}

// reload changes the settings for servers: connections made by other ones are
// used no more, and by the same ones they are.
func (e *encrypted) reload(t *testing.T) {
	c := e.config(map[string]string{"server_tls_sslmode": "require"})
	p := startPooler(t, c)
	backend := func() string {
		conn, err := pgx.Connect(testContext(t), fmt.Sprintf("host=127.0.0.1 port=%d user=encrypted dbname=postgres sslmode=disable default_query_exec_mode=exec", p.Port))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(testContext(t))
		var pid string
		if err := conn.QueryRow(testContext(t), "select pg_backend_pid()::text").Scan(&pid); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	reload := func(key, value string) {
		c.Settings[key] = value
		if err := p.Reload(testContext(t), c); err != nil {
			t.Fatal(err)
		}
	}
	first := backend()
	reload("server_tls13_ciphers", "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256")
	if got := backend(); got != first {
		t.Error("the server was closed though its settings are the same")
	}
	reload("server_tls_sslmode", "verify-ca")
	reload("server_tls_ca_file", e.caFile)
	if got := backend(); got == first {
		t.Error("a server whose certificate was not verified is used where it must be")
	}
}

// bulk moves much at once, both ways, with TLS on both sides.
func (e *encrypted) bulk(t *testing.T) {
	p := startPooler(t, e.config(map[string]string{"client_tls_sslmode": "require", "loops": "2", "pool_mode": "transaction"}))
	conn, err := pgx.Connect(testContext(t), fmt.Sprintf("host=127.0.0.1 port=%d user=encrypted dbname=postgres sslmode=require default_query_exec_mode=exec", p.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(testContext(t))
	long := strings.Repeat("0123456789", 1<<18)
	for range 3 {
		var back string
		if err := conn.QueryRow(testContext(t), "select reverse($1::text)", long).Scan(&back); err != nil {
			t.Fatal(err)
		}
		if len(back) != len(long) || !strings.HasPrefix(back, "9876543210") {
			t.Fatal("what comes back is not what was sent")
		}
	}
}
