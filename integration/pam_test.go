//go:build pam

package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/integration/pooler"
	"github.com/pgweir/pgweir/integration/postgres"
)

// pamRules has pam_exec ask a script, so that the test says who gets in, and
// needs no user of the system.
const pamRules = `auth required pam_exec.so quiet expose_authtok /bin/sh %[1]s
account required pam_exec.so quiet /bin/sh %[1]s
`

// pamScript knows passwords, and one user who has the right one and may not
// come in. It writes down what it is told, but the password. The console's user
// comes in with any. Who hangs does so until the file %[2]s is there.
const pamScript = `[ "$PAM_TYPE" = auth ] || { [ "$PAM_USER" != otto ]; exit; }
echo "$PAM_SERVICE $PAM_USER from $PAM_RHOST" >>%[1]s
password=$(tr -d '\000')
case $PAM_USER in
admin) exit 0 ;;
nina) [ "$password" = pam-tulip ] ;;
otto) [ "$password" = pam-rose ] ;;
hangs) until [ -e %[2]s ]; do sleep 0.1; done; exit 1 ;;
*) exit 1 ;;
esac
`

// pamStart stands before libpam's function of that name, and has the rules of
// $PAM_CONFDIR in the place of those in /etc/pam.d: the test changes nothing
// outside of its folder. All else is libpam's.
const pamStart = `#include <stdlib.h>
#include <security/pam_appl.h>

int pam_start(const char *service, const char *user, const struct pam_conv *conv, pam_handle_t **h)
{
	return pam_start_confdir(service, user, conv, getenv("PAM_CONFDIR"), h);
}
`

// pamConf writes rules of that name into a folder of their own, and returns the
// environment in which a program goes by them.
func pamConf(t *testing.T, service, rules string) []string {
	t.Helper()
	name := fmt.Sprintf("pam%d", serial.Add(1))
	dir, err := suite.sandbox.Mkdir(name)
	if err != nil {
		t.Fatal(err)
	}
	write(t, suite.sandbox, name+"/"+service, []byte(rules))
	source, library := write(t, suite.sandbox, name+"/start.c", []byte(pamStart)), dir+"/start.so"
	out, err := exec.CommandContext(testContext(t), "cc", "-shared", "-fPIC", "-o", library, source, "-lpam").CombinedOutput()
	if err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	return []string{"LD_PRELOAD=" + library, "PAM_CONFDIR=" + dir}
}

// TestPAM has clients log in with passwords that PAM knows, to a Postgres that
// asks for the same ones: what PAM took is what servers are logged in to with.
func TestPAM(t *testing.T) {
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("PAM needs a C compiler: ", err)
	}
	begin(t)
	db := strict(t, "create role nina login password 'pam-tulip'; create role otto login password 'pam-rose'")
	name := fmt.Sprintf("pamscript%d", serial.Add(1))
	seen, free := suite.sandbox.Path(name+".seen"), suite.sandbox.Path(name+".free")
	script := write(t, suite.sandbox, name, fmt.Appendf(nil, pamScript, seen, free))
	env := pamConf(t, "pgbouncer", fmt.Sprintf(pamRules, script))
	start := func(settings map[string]string) *pooler.Pooler {
		return startPooler(t, pooler.Config{
			Settings:  settings,
			Databases: []string{fmt.Sprintf("%s = host=%s port=%d", postgres.Database, db.Host, db.Port)},
			Userlist:  map[string]string{"nina": "listed", "listed": "listed"},
		}, env...)
	}
	p := start(map[string]string{
		// What users are known by otherwise does not matter to PAM.
		"auth_type": "pam", "auth_user": "nina", "pool_mode": "transaction", "default_pool_size": "3", "verbose": "3",
		"client_login_timeout": "3600", // of those who hang
	})
	visitTo := func(p *pooler.Pooler, where, user, password string) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, err := pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%d user=%s password='%s' dbname=%s sslmode=disable", where, p.Port, user, password, postgres.Database))
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		results, err := conn.Exec(ctx, "select current_user").ReadAll()
		if err == nil && string(results[0].Rows[0][0]) != user {
			err = fmt.Errorf("%s is %s", user, results[0].Rows[0][0])
		}
		return err
	}
	visit := func(where, user, password string) error { return visitTo(p, where, user, password) }
	want := func(err error, text string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want %s", err, text)
		}
	}
	for _, where := range []string{p.Host, p.Socket} {
		if err := visit(where, "nina", "pam-tulip"); err != nil {
			t.Error(err)
		}
		want(visit(where, "nina", "pam-rose"), "PAM authentication failed (SQLSTATE 08P01)")
		want(visit(where, "nina", "listed"), "PAM authentication failed") // the auth_file has no say
		want(visit(where, "otto", "pam-rose"), "PAM authentication failed")
		want(visit(where, "listed", "listed"), "PAM authentication failed")
		want(visit(where, "nina", ""), "empty password returned by client")
	}
	told := func(line string, n int) error {
		data, err := os.ReadFile(seen)
		if err != nil || strings.Count(string(data), "pgbouncer "+line+"\n") < n {
			return fmt.Errorf("PAM was not told %q %d times: %q, %w", line, n, data, err)
		}
		return nil
	}
	if err := errors.Join(told("nina from 127.0.0.1", 1), told("nina from ", 1), told("otto from 127.0.0.1", 1)); err != nil {
		t.Error(err)
	}

	// Modules that hang keep some of the 20 places; the rest serves all others.
	var hang, storm sync.WaitGroup
	for range 10 {
		hang.Go(func() { want(visit(p.Host, "hangs", "pam-any"), "PAM authentication failed") })
	}
	eventually(t, "modules that hang", func() error { return told("hangs from 127.0.0.1", 10) })
	for i := range 60 {
		storm.Go(func() {
			if i%3 == 0 {
				want(visit(p.Host, "nina", "pam-wrong"), "PAM authentication failed")
			} else if err := visit(p.Socket, "nina", "pam-tulip"); err != nil {
				t.Error(err)
			}
		})
	}
	storm.Wait()
	hasty := start(map[string]string{"auth_type": "pam", "client_login_timeout": "2"})
	want(visitTo(hasty, hasty.Host, "hangs", "pam-any"), "client_login_timeout")
	write(t, suite.sandbox, name+".free", nil)
	hang.Wait()

	// A method of the HBA file it is not, as in PgBouncer.
	hba := write(t, suite.sandbox, name+".hba", []byte("host pgbouncer all all trust\nhost all all all pam\n"))
	ruled := start(map[string]string{"auth_type": "hba", "auth_hba_file": hba})
	wantLog(t, ruled, `could not parse hba config line 2: method "pam" is not supported`)
	want(visitTo(ruled, ruled.Host, "nina", "pam-tulip"), "no authentication method is found")

	wantUntold(t, p, "pam-tulip", "pam-rose", "pam-wrong", "pam-any")
}
