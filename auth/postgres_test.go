package auth_test

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgweir/pgweir/auth"
	"github.com/pgweir/pgweir/integration/postgres"
	"github.com/pgweir/pgweir/integration/sandbox"
)

// passwords are easy and hard to prepare. Each is used as it is here to make a
// role in Postgres.
var passwords = map[string]string{
	"ascii":                "s3cret",
	"blank":                "two words",
	"control":              "a\x01\x7fb",
	"comma and equals":     "a,b=c,p=",
	"latin":                "Grüße",
	"decomposed":           "Gru\u0308ße",
	"compatibility":        "\ufb01ve²½\u2168",
	"full width":           "\uff41\uff22\uff11",
	"no-break space":       "a\u00a0b\u3000c",
	"zero width space":     "a\u200bb",
	"soft hyphen":          "a\u00adb\u2060c\ufeff",
	"only a soft hyphen":   "\u00ad",
	"right to left":        "\u05d0\u05d1\u05d2",
	"right to left, digit": "\u05d01\u05d1",
	"ends with a digit":    "\u05d0\u05d11\u00bd",
	"both directions":      "\u05d0\u00e9\u05d1\u00bd",
	"control in non-ascii": "é\x01²",
	"private use":          "\ue000²",
	"unassigned in 3.2":    "\U0001f600²",
	"assigned later":       "\u1e9e²",
	"direction mark":       "\u200e²",
	"tag":                  "\U000e0041²",
	"hangul":               "\u1112\u1161\u11ab",
	"composition excluded": "\u0958²",
	"three marks":          "q\u0307\u0323\u0308²",
	"not UTF-8":            "a\xff\xb2",
}

// TestPostgresSecrets: what Postgres stores for a password is a secret that the
// password opens, and none that another does.
func TestPostgresSecrets(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	box, err := sandbox.New()
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := box.Close(); err != nil {
			t.Error(err)
		}
	}()
	cluster, err := postgres.Start(ctx, box, postgres.Options{})
	if errors.Is(err, postgres.ErrNotFound) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	// In SQL_ASCII a password need not be UTF-8.
	if err := cluster.Exec(ctx, "create database bytes encoding 'SQL_ASCII' template template0"); err != nil {
		t.Fatal(err)
	}
	conn, err := pgconn.Connect(ctx, cluster.DSN(postgres.Superuser, "bytes")+"&client_encoding=SQL_ASCII")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	stored := func(method, password string) auth.Secret {
		t.Helper()
		results, err := conn.Exec(ctx, "set password_encryption = '"+method+"'; "+
			"drop role if exists joe; create role joe password '"+password+"'; "+
			"select rolpassword from pg_authid where rolname = 'joe'").ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		return auth.ParseSecret(string(results[len(results)-1].Rows[0][0]))
	}
	for name, password := range passwords {
		t.Run(name, func(t *testing.T) {
			for method, kind := range map[string]auth.Kind{"md5": auth.KindMD5, "scram-sha-256": auth.KindSCRAM} {
				secret := stored(method, password)
				if secret.Kind() != kind {
					t.Fatalf("%s made %v", method, secret)
				}
				if !opens(password, secret) {
					t.Errorf("%s: the password does not open the secret", method)
				}
				if opens(password+"x", secret) {
					t.Errorf("%s: another password opens the secret", method)
				}
			}
		})
	}
}

// opens sends password to a client's plain-text exchange.
func opens(password string, secret auth.Secret) bool {
	e := auth.New(auth.MethodPlain, "joe", secret, false, nil, rand.Reader)
	_, v := e.Step(nil, append([]byte(password), 0))
	if v == auth.Busy {
		e.Work()
		_, v = e.Step(nil, nil)
	}
	return v == auth.Accepted
}
