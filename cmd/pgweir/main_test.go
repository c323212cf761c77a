package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pgweir/pgweir/integration/certificates"
)

// asProgram, in the environment, makes this test binary be pgweir.
const asProgram = "TEST_AS_PGWEIR"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		if os.Getenv(daemonEnv) == "" {
			go endWithTest()
		}
		main()
		return
	}
	os.Exit(m.Run())
}

// endWithTest ends the process when the test is gone that started it, and with
// it the pipe that is its standard input.
func endWithTest() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(3)
}

func TestCommandLine(t *testing.T) {
	const try = "Try \"pgweir --help\" for more information.\n"
	dir := t.TempDir()
	t.Chdir(dir)
	write := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const good = "[pgbouncer]\nauth_type = any\nunix_socket_dir =\nlisten_addr = 127.0.0.1\n[databases]\ndb = host=h user=u\n"
	write("good.ini", good)
	write("check", good)
	write("-odd.ini", good)
	write("warned.ini", good+"db = host=h user=u pool_size=1\n")
	write("bad.ini", "[pgbouncer]\npool_mode = often\n; a comment\nlisten_port = x\n[databases]\ndb = hots=h\n")

	for _, test := range []struct {
		args   string
		status int
		stdout string // the whole, or where it ends in …, how it begins
		stderr string
	}{
		{"", 1, "", "pgweir: no configuration file specified\n" + try},
		{"-v -q", 1, "", "pgweir: no configuration file specified\n" + try},
		{"a.ini b.ini", 1, "", "pgweir: more than one configuration file specified: a.ini b.ini\n" + try},
		{"-x good.ini", 1, "", "pgweir: invalid option -- 'x'\n" + try},
		{"-qx good.ini", 1, "", "pgweir: invalid option -- 'x'\n" + try},
		{"--fast good.ini", 1, "", "pgweir: unrecognized option '--fast'\n" + try},
		{"good.ini -u", 1, "", "pgweir: option requires an argument -- 'u'\n" + try},
		{"good.ini --user", 1, "", "pgweir: option '--user' requires an argument\n" + try},
		{"--quiet=yes good.ini", 1, "", "pgweir: option '--quiet' doesn't allow an argument\n" + try},
		{"--ver good.ini", 1, "", "pgweir: option '--ver' is ambiguous; possibilities: '--verbose' '--version'\n" + try},
		{"-R good.ini", 1, "", "pgweir: -R is gone, as in PgBouncer 1.26: with so_reuseport=1 start the new process beside the old one, then send the old one SIGTERM\n"},
		{"--reboot -d good.ini", 1, "", "pgweir: -R is gone, as in PgBouncer 1.26: with so_reuseport=1 start the new process beside the old one, then send the old one SIGTERM\n"},

		{"--version", 0, "PgBouncer 1.26.1 (pgweir …", ""},
		{"good.ini -dV --nonsense", 0, "PgBouncer 1.26.1 (pgweir …", ""},
		{"--help", 0, "pgweir is a connection pooler for Postgres, in the place of PgBouncer.\n\nUsage:\n  pgweir [OPTION]... CONFIG_FILE\n…", ""},
		{"-h --nonsense", 0, "pgweir is …", ""},
		{"--he", 0, "pgweir is …", ""},

		{"check good.ini", 0, "", ""},
		{"check ./check", 0, "", ""},
		{"check -- -odd.ini", 0, "", ""},
		{"check", 1, "", "pgweir: no configuration file specified\n" + try},
		{"check good.ini bad.ini", 1, "", "pgweir: more than one configuration file specified: good.ini bad.ini\n" + try},
		{"check -v good.ini", 1, "", "pgweir: invalid option -- 'v'\n" + try},
		{"-v check good.ini", 1, "", "pgweir: options of check stand behind it\n" + try},
		{"check -h", 0, "pgweir is a connection pooler…", ""},
		{"check --dynos=4 --preboot=all good.ini", 1, "good.ini: error: --dynos: no entry has a plan to hold it against; write plan = … into [pgbouncer] (pgweir plans lists those of providers)\n", ""},
		{"check --dynos=0 good.ini", 1, "", "pgweir: --dynos=0: must be a number from 1 to 100000\n" + try},
		{"check --dynos=4 --preboot=5 good.ini", 1, "", "pgweir: --preboot=5: must be all, or a number up to that of --dynos\n" + try},
		{"check --preboot=5 good.ini", 1, "", "pgweir: --preboot needs --dynos\n" + try},
		{"plans --nonsense", 1, "", "pgweir: unrecognized option '--nonsense'\n" + try},
		{"plans neon supabase", 1, "", "pgweir: more than one plan specified: neon supabase\n" + try},
		{"plans herku", 1, "", "pgweir: no plans are known of a provider \"herku\": perhaps you meant heroku\n"},
		{"plans me", 1, "", "pgweir: no plans are known of a provider \"me\": there are heroku, rds, aurora, supabase, neon, digitalocean, cloudsql, azure, ovh\n"},
		{"plans heroku:standart-0", 1, "", "pgweir: there is no plan \"heroku:standart-0\": perhaps you meant heroku:standard-0\n"},
		{"plans ovh", 0, "plan     connections  reserve  scope   as of\novh:4gb  197          9        server  2021\n", ""},
		{"check warned.ini", 0, "warned.ini:7: warning: database db was defined before, in line 6 of warned.ini; the last one counts\n", ""},
		{"check missing.ini", 1, "missing.ini: error: cannot read missing.ini: no such file or directory\n", ""},
		{"check bad.ini", 1, "bad.ini:2: error: pool_mode…", ""},
	} {
		var stdout, stderr bytes.Buffer
		status := run(append([]string{"pgweir"}, strings.Fields(test.args)...), &stdout, &stderr)
		if status != test.status {
			t.Errorf("pgweir %s: exit status %d, want %d", test.args, status, test.status)
		}
		begin, open := strings.CutSuffix(test.stdout, "…")
		if got := stdout.String(); got != begin && (!open || !strings.HasPrefix(got, begin)) {
			t.Errorf("pgweir %s: says\n%swant\n%s", test.args, got, test.stdout)
		}
		if got := stderr.String(); got != test.stderr {
			t.Errorf("pgweir %s: stderr\n%swant\n%s", test.args, got, test.stderr)
		}
	}
}

// Every error is told, each with its line, not only the first one.
func TestCheckTellsAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bad.ini")
	if err := os.WriteFile(path, []byte("[pgbouncer]\npool_mode = often\nlisten_port = x\n[databases]\ndb = hots=h\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var stdout bytes.Buffer
	if status := run([]string{"pgweir", "check", path}, &stdout, os.Stderr); status != 1 {
		t.Errorf("exit status %d, want 1", status)
	}
	for _, line := range []int{2, 3, 5} {
		if want := fmt.Sprintf("%s:%d: error: ", path, line); !strings.Contains(stdout.String(), want) {
			t.Errorf("no line begins with %q in\n%s", want, &stdout)
		}
	}
}

// Files of TLS settings are opened, and the line that names one is to blame.
func TestCheckOpensTLSFiles(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ca := certificates.NewAuthority("authority")
	expired := ""
	for name, o := range map[string]certificates.Options{"good": {Name: "x"}, "other": {Name: "y"}, "old": {Name: "z", Old: true}} {
		cert, key := ca.Issue(o)
		if name == "old" {
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			expired = pair.Leaf.NotAfter.UTC().Format(time.DateOnly)
		}
		write(name+".pem", cert)
		write(name+".key", key)
	}
	write("ca.pem", ca.PEM)
	write("nonsense.pem", []byte("hello"))
	for _, tt := range []struct {
		cert, key, ca string
		server        string // server_tls_ca_file
		want          string
		status        int
	}{
		{"good.pem", "good.key", "ca.pem", "ca.pem", "", 0},
		{"missing.pem", "good.key", "ca.pem", "ca.pem", "$:5: error: client_tls_cert_file: cannot read %missing.pem: No such file or directory\n", 1},
		{"good.pem", "missing.key", "ca.pem", "ca.pem", "$:6: error: client_tls_key_file: cannot read %missing.key: No such file or directory\n", 1},
		{"good.pem", "other.key", "ca.pem", "ca.pem", "$:5: error: client_tls_cert_file: %good.pem with key %other.key: tls: private key does not match public key\n", 1},
		{"nonsense.pem", "good.key", "ca.pem", "ca.pem", "$:5: error: client_tls_cert_file: %nonsense.pem with key %good.key: tls: failed to find any PEM data in certificate input\n", 1},
		{"good.pem", "good.key", "nonsense.pem", "missing.pem", "$:7: error: client_tls_ca_file: %nonsense.pem holds no certificate in PEM format\n" +
			"$:9: error: server_tls_ca_file: cannot read %missing.pem: No such file or directory\n", 1},
		{"old.pem", "old.key", "ca.pem", "ca.pem", "$:5: warning: client_tls_cert_file: %old.pem has expired on " + expired + "\n", 0},
	} {
		write("tls.ini", fmt.Appendf(nil, "[databases]\n* = host=h\n[pgbouncer]\nclient_tls_sslmode = verify-full\nclient_tls_cert_file = %s\nclient_tls_key_file = %s\nclient_tls_ca_file = %s\nserver_tls_sslmode = verify-full\nserver_tls_ca_file = %s\nauth_type = cert\n",
			path(tt.cert), path(tt.key), path(tt.ca), path(tt.server)))
		var stdout bytes.Buffer
		status := run([]string{"pgweir", "check", path("tls.ini")}, &stdout, os.Stderr)
		want := strings.NewReplacer("$", path("tls.ini"), "%", dir+"/").Replace(tt.want)
		if got := stdout.String(); got != want || status != tt.status {
			t.Errorf("exit status %d, says\n%swant\n%s", status, got, want)
		}
	}
}

func TestHelpNamesEveryOption(t *testing.T) {
	var stdout bytes.Buffer
	run([]string{"pgweir", "--help"}, &stdout, os.Stderr)
	for _, option := range []string{
		"-d, --daemon ", "-q, --quiet ", "-u, --user=NAME ", "-v, --verbose ", "-R, --reboot ", "-V, --version ", "-h, --help ",
	} {
		if !strings.Contains(stdout.String(), "\n  "+option) {
			t.Errorf("no %q in\n%s", option, &stdout)
		}
	}
}

// What exporters look for in SHOW VERSION.
func TestProductVersion(t *testing.T) {
	if v := productVersion(); !regexp.MustCompile(`^PgBouncer 1\.26\.1 \(pgweir \S+\)$`).MatchString(v) {
		t.Errorf("productVersion() = %q", v)
	}
	if !strings.HasPrefix(versionText(), productVersion()+"\n") {
		t.Errorf("--version does not begin with the cell of SHOW VERSION:\n%s", versionText())
	}
}
