package integration

import (
	"crypto/md5"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/pgweir/pgweir/integration/load"
)

// TestLoginStorm has a thousand clients come in at once, a part of them with a
// wrong password or an unknown name.
func TestLoginStorm(t *testing.T) {
	begin(t)
	const storm = 1000
	db := suite.postgres
	database := ownDatabase(t, db)
	const secret = "open sesame"
	hash := fmt.Sprintf("md5%x", md5.Sum([]byte(secret+user)))
	for authType, stored := range map[string]string{"trust": "", "plain": secret, "md5": hash, "scram-sha-256": secret} {
		t.Run(authType, func(t *testing.T) {
			c := manyOverFew(db, database, map[string]string{"auth_type": authType, "max_client_conn": fmt.Sprint(2 * storm)})
			c.Userlist[user] = stored
			p := startPooler(t, c)
			address := fmt.Sprintf("%s:%d", p.Host, p.Port)
			visit := func(name, password string) error {
				client, err := load.Dial(testContext(t), load.Login{Address: address, User: name, Database: database, Password: password})
				if err != nil {
					return err
				}
				_, err = client.Query("select 1")
				return errors.Join(err, client.Close())
			}
			if err := visit(user, secret); err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			errs := make([]error, storm)
			for i := range storm {
				all.Go(func() {
					switch {
					case i%10 == 1:
						if err := visit("nobody knows", secret); err == nil {
							errs[i] = errors.New("an unknown user came in")
						}
					case i%10 == 2 && authType != "trust":
						if err := visit(user, "open barley"); err == nil {
							errs[i] = errors.New("a wrong password was right")
						} else if !strings.Contains(err.Error(), "authentication failed") {
							errs[i] = fmt.Errorf("a wrong password: %w", err)
						}
					default:
						errs[i] = visit(user, secret)
					}
				})
			}
			all.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Error(firstLines(err.Error(), 5))
			}
		})
	}
}

func firstLines(text string, n int) string {
	lines := strings.SplitAfterN(text, "\n", n+1)
	return strings.Join(lines[:min(n, len(lines))], "")
}
