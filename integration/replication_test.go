package integration

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgweir/pgweir/integration/certificates"
	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// replicated is a Postgres that may be replicated, and a pooler before it, in
// transaction mode.
type replicated struct {
	sandbox *sandbox.Sandbox
	db      *postgres.Cluster
	p       *pooler.Pooler
}

// TestReplication streams through the pooler: with TLS and SCRAM on both sides,
// and with neither.
func TestReplication(t *testing.T) {
	begin(t)
	r := newReplicated(t)
	for _, login := range []string{"user=secure password=secret sslmode=require", "user=open sslmode=disable"} {
		name, _, _ := strings.Cut(strings.TrimPrefix(login, "user="), " ")
		dsn := fmt.Sprintf("host=127.0.0.1 port=%d %s", r.p.Port, login)
		t.Run(name, func(t *testing.T) {
			t.Run("logical", func(t *testing.T) { r.logical(t, dsn, name) })
			t.Run("physical", func(t *testing.T) { r.physical(t, dsn, name) })
			t.Run("pg_recvlogical", func(t *testing.T) { r.recvlogical(t, dsn, name) })
			t.Run("pg_basebackup", func(t *testing.T) { r.basebackup(t, dsn, name) })
			t.Run("pg_receivewal", func(t *testing.T) { r.receivewal(t, dsn, name) })
		})
	}
	t.Run("refusals", r.refusals)

	eventually(t, "the servers of those who streamed are closed", func() error {
		rows, err := r.p.Console(testContext(t), "SHOW SERVERS")
		for _, row := range rows {
			if row["replication"] != "none" {
				err = fmt.Errorf("%v", row)
			}
		}
		return err
	})
}

func newReplicated(t *testing.T) *replicated {
	t.Helper()
	s, err := sandbox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	ca := certificates.NewAuthority("authority")
	cert, key := ca.Issue(certificates.Options{Name: "localhost", Hosts: []string{"localhost", "127.0.0.1"}})
	r := &replicated{sandbox: s}
	r.db, err = postgres.Start(testContext(t), s, postgres.Options{
		HBA: "local all all trust\nhostssl all,replication secure all scram-sha-256\nhost all,replication open,weak all trust\n",
		Settings: map[string]string{
			"wal_level": "logical", "max_wal_senders": "10", "max_replication_slots": "10",
			"ssl": "on", "ssl_cert_file": write(t, s, "db.pem", cert), "ssl_key_file": write(t, s, "db.key", key),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"create role secure login replication password 'secret'",
		"create role open login replication", "create role weak login",
		"create table changes (line text)", "grant all on changes to secure, open", "create publication everything for all tables",
	} {
		if err := r.db.Exec(testContext(t), sql); err != nil {
			t.Fatal(err)
		}
	}
	hba := write(t, suite.sandbox, fmt.Sprintf("hba%d.conf", serial.Add(1)), []byte(`
host pgbouncer all all md5
hostssl all,replication secure all scram-sha-256
hostnossl all,replication open all trust
host replication weak all trust
host all all all trust
`))
	cert, key = ca.Issue(certificates.Options{Name: "localhost", Hosts: []string{"localhost", "127.0.0.1"}})
	name := fmt.Sprintf("cert%d", serial.Add(1))
	r.p = startPooler(t, pooler.Config{
		Settings: map[string]string{
			"pool_mode": "transaction", "default_pool_size": "3", "auth_type": "hba", "auth_hba_file": hba,
			"client_tls_sslmode": "allow", "client_tls_cert_file": write(t, suite.sandbox, name+".pem", cert),
			"client_tls_key_file": write(t, suite.sandbox, name+".key", key),
		},
		Databases: []string{fmt.Sprintf("* = host=localhost port=%d", r.db.Port)},
		Userlist:  map[string]string{"secure": "secret", "open": "", "weak": "", "other": ""},
	})
	return r
}

// insert writes a line through the pooler, and returns how far the log has come.
func (r *replicated) insert(t *testing.T, dsn, line string) (lsn string) {
	t.Helper()
	c, err := pgx.ParseConfig(dsn + " dbname=postgres")
	if err != nil {
		t.Fatal(err)
	}
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(testContext(t), c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(testContext(t), "insert into changes values ($1)", line); err != nil {
		t.Fatal(err)
	}
	if err := conn.QueryRow(testContext(t), "select pg_current_wal_insert_lsn()::text").Scan(&lsn); err != nil {
		t.Fatal(err)
	}
	return lsn
}

// connect opens a replication connection.
func (r *replicated) connect(t *testing.T, dsn, kind string) (*pgconn.PgConn, error) {
	t.Helper()
	conn, err := pgconn.Connect(testContext(t), dsn+" replication="+kind)
	if err == nil {
		t.Cleanup(func() { conn.Close(context.Background()) })
	}
	return conn, err
}

// ask runs a command of replication, and returns the first column of its row.
func ask(t *testing.T, conn *pgconn.PgConn, command string, column int) string {
	t.Helper()
	results, err := conn.Exec(testContext(t), command).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	if len(results) == 0 || len(results[0].Rows) == 0 {
		return ""
	}
	return string(results[0].Rows[0][column])
}

// stream starts to stream by command, until seen is content with what came, and
// ends it.
func stream(t *testing.T, conn *pgconn.PgConn, command string, began func(), seen func(data []byte) bool) {
	t.Helper()
	send := func(m pgproto3.FrontendMessage) {
		conn.Frontend().Send(m)
		if err := conn.Frontend().Flush(); err != nil {
			t.Fatal(err)
		}
	}
	send(&pgproto3.Query{String: command})
	ended := false
	for {
		m, err := conn.ReceiveMessage(testContext(t))
		if err != nil {
			t.Fatalf("%s: %v", command, err)
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			t.Fatalf("%s: %s", command, m.Message)
		case *pgproto3.CopyBothResponse:
			began()
		case *pgproto3.CopyData:
			if !ended && m.Data[0] == 'w' && seen(m.Data) {
				status := append([]byte{'r'}, make([]byte, 8*3)...) // nothing is confirmed: the slot goes with us
				send(&pgproto3.CopyData{Data: append(binary.BigEndian.AppendUint64(status, 0), 0)})
				send(&pgproto3.CopyDone{})
				ended = true
			}
		case *pgproto3.ReadyForQuery:
			if !ended {
				t.Fatalf("%s ended by itself", command)
			}
			return
		}
	}
}

// logical streams changes to rows, and then goes on with the connection.
func (r *replicated) logical(t *testing.T, dsn, name string) {
	conn, err := r.connect(t, dsn+` dbname=postgres application_name=walker lock_timeout=7s options='-c statement_timeout=50s -c search_path=pg_catalog,\\ app --extra-float-digits=2'`, "database")
	if err != nil {
		t.Fatal(err)
	}
	ask(t, conn, "CREATE_REPLICATION_SLOT "+name+"_logical TEMPORARY LOGICAL pgoutput", 0)
	if got := ask(t, conn, "select current_setting('application_name')", 0); got != "walker" { // SQL works too
		t.Errorf("application_name %q", got)
	}
	if got := ask(t, conn, "select concat_ws(' ', current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('search_path'), current_setting('extra_float_digits'))", 0); got != "50s 7s pg_catalog, app 2" {
		t.Errorf("parameters are %q", got)
	}
	if got := ask(t, conn, "select backend_type from pg_stat_activity where pid = pg_backend_pid()", 0); got != "walsender" {
		t.Errorf("the server is a %q", got)
	}
	stream(t, conn, "START_REPLICATION SLOT "+name+"_logical LOGICAL 0/0 (proto_version '1', publication_names 'everything')",
		func() {
			r.wantReplication(t, "logical")
			set(t, r.p, "query_timeout", "0.1") // for queries: a stream is none
			<-time.After(time.Second)           // time in which it could end
			set(t, r.p, "query_timeout", "0")
			r.insert(t, dsn, name+" through the pooler")
		},
		func(data []byte) bool { return strings.Contains(string(data), name+" through the pooler") })
	if got := ask(t, conn, "select 'still here'", 0); got != "still here" {
		t.Errorf("%q after the stream", got)
	}
}

// physical streams the log itself.
func (r *replicated) physical(t *testing.T, dsn, name string) {
	conn, err := r.connect(t, dsn+" dbname=replication", "true")
	if err != nil {
		t.Fatal(err)
	}
	at := ask(t, conn, "IDENTIFY_SYSTEM", 2)
	stream(t, conn, "START_REPLICATION PHYSICAL "+at,
		func() {
			r.wantReplication(t, "physical")
			r.insert(t, dsn, name+" in the log")
		},
		func(data []byte) bool { return strings.Contains(string(data), name+" in the log") })
	if got := ask(t, conn, "SHOW wal_level", 0); got != "logical" {
		t.Errorf("%q after the stream", got)
	}
}

// wantReplication checks that a client and its server are shown as what they
// are.
func (r *replicated) wantReplication(t *testing.T, kind string) {
	t.Helper()
	for _, command := range []string{"SHOW CLIENTS", "SHOW SERVERS"} {
		rows, err := r.p.Console(testContext(t), command)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, row := range rows {
			found = found || row["replication"] == kind && row["state"] == "active" && row["link"] != ""
		}
		if !found {
			t.Errorf("%s shows no %s replication: %v", command, kind, rows)
		}
	}
}

// tool is the path of one of Postgres' programs. sameMajor skips the test if
// there is none of the server's own version.
func (r *replicated) tool(t *testing.T, name string, sameMajor bool) string {
	t.Helper()
	own := filepath.Join(r.db.Install.Bin, name)
	if _, err := os.Stat(own); err == nil || !sameMajor {
		path, err := r.db.Install.Tool(name)
		if err != nil {
			t.Skip(err)
		}
		return path
	}
	t.Skipf("%s has no %s, and that of another version does not speak to Postgres %s", r.db.Install.Bin, name, r.db.Install.Version)
	return ""
}

func (r *replicated) run(t *testing.T, path string, args ...string) string {
	t.Helper()
	out, err := r.sandbox.Run(testContext(t), sandbox.Command{Path: path, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// recvlogical has pg_recvlogical make a slot, stream, end when it is told to,
// and drop the slot.
func (r *replicated) recvlogical(t *testing.T, dsn, name string) {
	tool := r.tool(t, "pg_recvlogical", false)
	slot := name + "_recvlogical"
	args := []string{"-d", dsn + " dbname=postgres", "--slot", slot}
	r.run(t, tool, append(args, "--create-slot", "-P", "pgoutput")...)
	file := r.sandbox.Path(slot + ".out")
	p, err := r.sandbox.Start(sandbox.Command{Path: tool, Name: slot, Stop: syscall.SIGINT, Args: append(args,
		"--start", "--no-loop", "-f", file, "-F", "1", "-s", "1", "-o", "proto_version=1", "-o", "publication_names=everything")})
	if err != nil {
		t.Fatal(err)
	}
	r.insert(t, dsn, name+" by pg_recvlogical")
	if err := p.Await(testContext(t), func(context.Context) error {
		data, err := os.ReadFile(file)
		if err == nil && !strings.Contains(string(data), name+" by pg_recvlogical") {
			err = errors.New("the change has not come")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if err := p.Err(); err != nil {
		t.Errorf("%v: %s", err, p.Log())
	}
	r.run(t, tool, append(args, "--drop-slot")...)
}

// basebackup has pg_basebackup copy the cluster, with its log streamed over a
// second connection meanwhile.
func (r *replicated) basebackup(t *testing.T, dsn, name string) {
	tool := r.tool(t, "pg_basebackup", true)
	r.insert(t, dsn, name+" before the backup")
	dir := r.sandbox.Path(name + "_backup")
	r.run(t, tool, "-d", dsn, "-D", dir, "-X", "stream", "-c", "fast", "--no-sync")
	r.run(t, r.tool(t, "pg_verifybackup", true), "-e", dir)
}

// receivewal has pg_receivewal write the log up to a change.
func (r *replicated) receivewal(t *testing.T, dsn, name string) {
	tool := r.tool(t, "pg_receivewal", true)
	dir, err := r.sandbox.Mkdir(name + "_wal")
	if err != nil {
		t.Fatal(err)
	}
	slot := name + "_receivewal"
	r.run(t, tool, "-d", dsn, "--slot", slot, "--create-slot")
	p, err := r.sandbox.Start(sandbox.Command{
		Path: tool, Name: slot, Args: []string{"-d", dsn, "--slot", slot, "-D", dir, "--no-loop", "-s", "1"}, Stop: syscall.SIGINT,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.insert(t, dsn, name+" by pg_receivewal")
	if err := p.Await(testContext(t), func(context.Context) error {
		files, err := filepath.Glob(dir + "/*")
		for _, file := range files {
			if data, err := os.ReadFile(file); err == nil && strings.Contains(string(data), name+" by pg_receivewal") {
				return nil
			}
		}
		return errors.Join(err, errors.New("the change has not come"))
	}); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	if err := p.Err(); err != nil {
		t.Errorf("%v: %s", err, p.Log())
	}
	r.run(t, tool, "-d", dsn, "--slot", slot, "--drop-slot")
}

// refusals: physical replication needs a rule of its own in the HBA file, and
// what Postgres refuses the client hears in its words.
func (r *replicated) refusals(t *testing.T) {
	dsn := fmt.Sprintf("host=127.0.0.1 port=%d sslmode=disable ", r.p.Port)
	for _, tt := range []struct{ user, kind, want string }{
		{"other", "true", "no authentication method is found"},
		{"weak", "true", "SQLSTATE 42501"}, // must be superuser, or have the REPLICATION attribute
		{"weak", "database", "SQLSTATE 42501"},
	} {
		if _, err := r.connect(t, dsn+"dbname=postgres user="+tt.user, tt.kind); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, replication=%s: %v, want %q", tt.user, tt.kind, err, tt.want)
		}
	}
	// Nothing of this counts against others.
	conn, err := pgconn.Connect(testContext(t), dsn+"dbname=postgres user=weak")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if got := ask(t, conn, "select 1", 0); got != "1" {
		t.Errorf("%q", got)
	}
}
