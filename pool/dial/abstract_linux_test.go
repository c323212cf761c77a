package dial_test

import (
	"crypto/rand"
	"testing"

	"github.com/pgweir/pgweir/pool/dial"
)

// TestAbstractSocket logs in through Linux's abstract name space.
func TestAbstractSocket(t *testing.T) {
	folder := "@pgweir-test-" + rand.Text()
	newScript(t, "unix", folder+"/.s.PGSQL.5432", sends([]byte(authOK+ready)))
	r := request()
	r.Hosts, r.Port = []string{folder}, 5432
	session, err := dial.Connect(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if session.Host != folder || !session.Socket.Unix {
		t.Errorf("%q, unix %v", session.Host, session.Socket.Unix)
	}
}
