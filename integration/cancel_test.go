package integration

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// queryCanceled is the SQLSTATE of a query that a cancel request ended.
const queryCanceled = "57014"

// TestCancelStorm has clients cancel their own queries at every moment: in the
// midst, at the end, and when another client has the server already. The crowd
// beside them is the oracle: it cancels nothing, so an error there, and be it a
// cancelled query, fails the test.
func TestCancelStorm(t *testing.T) {
	begin(t)
	const cancelers, rounds = 30, 25
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, map[string]string{"default_pool_size": "5"}))
	base := atRest(t, p, database)
	innocent := startCrowd(t, p, database, pgx.QueryExecModeExec, 20)

	var all sync.WaitGroup
	errs := make([]error, cancelers)
	hits := make([]int, cancelers)
	for i := range cancelers {
		random := rand.New(rand.NewPCG(1, uint64(i)))
		all.Go(func() { hits[i], errs[i] = cancelOwn(testContext(t), p.DSN(user, "", database), rounds, random) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(firstLines(err.Error(), 5))
	}
	total := 0
	for _, n := range hits {
		total += n
	}
	if total == 0 {
		t.Error("no cancel request ever hit its query")
	}
	innocent.progress(t, "after the storm", 100)
	if err := innocent.stop(); err != nil {
		t.Error(err)
	}
	base.check(t)
}

// cancelOwn runs queries that are just long enough for a request not to be held
// back until they are over, and sends cancel requests around them. It
// returns how many were hit.
func cancelOwn(ctx context.Context, dsn string, rounds int, random *rand.Rand) (hits int, err error) {
	conn, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	for range rounds {
		var requests sync.WaitGroup
		for range 1 + random.IntN(3) {
			delay := time.Duration(random.IntN(75000)) * time.Microsecond
			requests.Go(func() {
				<-time.After(delay)
				// A pooler answers no cancel request, not even one in vain.
				conn.CancelRequest(ctx)
			})
		}
		_, err := conn.Exec(ctx, "select pg_sleep(0.06)").ReadAll()
		requests.Wait()
		var pgErr *pgconn.PgError
		switch {
		case errors.As(err, &pgErr) && pgErr.Code == queryCanceled:
			hits++
		case err != nil:
			return hits, err
		}
	}
	return hits, nil
}

// TestCancel cancels a query that would run for long; the connection is as good
// as before. A request with a wrong key does nothing.
func TestCancel(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, map[string]string{"default_pool_size": "1"}))
	base := atRest(t, p, database)
	ctx := testContext(t)

	busy := connect(t, p, database, pgx.QueryExecModeSimpleProtocol).PgConn()
	sleep := make(chan error, 1)
	go func() {
		_, err := busy.Exec(ctx, "select pg_sleep(1000)").ReadAll()
		sleep <- err
	}()
	active := func() error {
		rows, err := p.Console(ctx, "SHOW POOLS")
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row["database"] == database && row["sv_active"] == "1" {
				return nil
			}
		}
		return fmt.Errorf("nobody is active: %v", rows)
	}
	eventually(t, "a running query", active)

	wrong := append([]byte(nil), busy.SecretKey()...)
	wrong[0] ^= 0xff
	if err := sendCancel(p.Host, p.Port, busy.PID(), wrong); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-sleep:
		t.Fatalf("a cancel request with a wrong key ended the query: %v", err)
	case <-time.After(100 * time.Millisecond): // time in which it could
	}
	if err := busy.CancelRequest(ctx); err != nil {
		t.Fatal(err)
	}
	var pgErr *pgconn.PgError
	if err := <-sleep; !errors.As(err, &pgErr) || pgErr.Code != queryCanceled {
		t.Errorf("the cancelled query ended by %v, want SQLSTATE %s", err, queryCanceled)
	}
	if _, err := busy.Exec(ctx, "select 1").ReadAll(); err != nil {
		t.Errorf("after the cancel: %v", err)
	}
	if err := busy.Close(ctx); err != nil {
		t.Error(err)
	}
	base.check(t)
}

// TestCancelAndHangUp cancels as drivers do that don't wait for anything: the
// request, and right behind it the end of the connection. With TLS both come
// together with the end of the handshake.
func TestCancelAndHangUp(t *testing.T) {
	begin(t)
	db := suite.postgres
	database := ownDatabase(t, db)
	p := startPooler(t, manyOverFew(db, database, map[string]string{"default_pool_size": "1", "client_tls_sslmode": "allow"}))
	base := atRest(t, p, database)
	ctx := testContext(t)
	watcher, err := db.Connect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close(ctx)
	busy := connect(t, p, database, pgx.QueryExecModeSimpleProtocol).PgConn()
	for round := range 20 {
		hangUp := cancelAndHangUp
		if round%2 == 1 {
			hangUp = cancelAndHangUpTLS
		}
		sleep := make(chan error, 1)
		go func() {
			_, err := busy.Exec(ctx, "select pg_sleep(1000)").ReadAll()
			sleep <- err
		}()
		untilSleeps(t, watcher, database)
		if err := hangUp(p.Host, p.Port, busy.PID(), busy.SecretKey()); err != nil {
			t.Fatal(err)
		}
		var pgErr *pgconn.PgError
		if err := <-sleep; !errors.As(err, &pgErr) || pgErr.Code != queryCanceled {
			t.Fatalf("round %d: the cancelled query ended by %v, want SQLSTATE %s", round, err, queryCanceled)
		}
	}
	if err := busy.Close(ctx); err != nil {
		t.Error(err)
	}
	base.check(t)
}

// untilSleeps waits until Postgres runs a pg_sleep in database.
func untilSleeps(t *testing.T, watcher *pgx.Conn, database string) {
	t.Helper()
	eventually(t, "a running query", func() error {
		n := 0
		err := watcher.QueryRow(testContext(t), "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep%' and datname = $1", database).Scan(&n)
		if err == nil && n != 1 {
			err = fmt.Errorf("%d run", n)
		}
		return err
	})
}

// cancelRequest is a CancelRequest.
func cancelRequest(pid uint32, key []byte) []byte {
	const code = 80877102
	m := binary.BigEndian.AppendUint32(nil, uint32(12+len(key)))
	m = binary.BigEndian.AppendUint32(m, code)
	m = binary.BigEndian.AppendUint32(m, pid)
	return append(m, key...)
}

// cancelAndHangUp sends a CancelRequest and closes the connection.
func cancelAndHangUp(host string, port int, pid uint32, key []byte) error {
	conn, err := net.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	_, err = conn.Write(cancelRequest(pid, key))
	return errors.Join(err, conn.Close())
}

// cancelAndHangUpTLS does the same with TLS.
func cancelAndHangUpTLS(host string, port int, pid uint32, key []byte) error {
	conn, err := net.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := conn.Write(binary.BigEndian.AppendUint64(nil, 8<<32|80877103)); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		return err
	}
	last := &keeper{Conn: conn}
	session := tls.Client(last, &tls.Config{InsecureSkipVerify: true})
	if err := session.Handshake(); err != nil {
		return err
	}
	if _, err := session.Write(cancelRequest(pid, key)); err != nil {
		return err
	}
	if err := session.CloseWrite(); err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil { // CloseWrite lets later writes fail
		return err
	}
	_, err = conn.Write(last.kept)
	return err
}

// keeper is a connection that keeps all that is written to it after the first
// answer.
type keeper struct {
	net.Conn
	answered bool
	kept     []byte
}

func (k *keeper) Read(p []byte) (int, error) {
	k.answered = true
	return k.Conn.Read(p)
}

func (k *keeper) Write(p []byte) (int, error) {
	if !k.answered {
		return k.Conn.Write(p)
	}
	k.kept = append(k.kept, p...)
	return len(p), nil
}

// sendCancel sends a CancelRequest and waits for the connection to end.
func sendCancel(host string, port int, pid uint32, key []byte) error {
	conn, err := net.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(cancelRequest(pid, key)); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(patience / 2)); err != nil {
		return err
	}
	if n, err := conn.Read(make([]byte, 1)); n > 0 {
		return errors.New("an answer to a cancel request")
	} else if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return err
	}
	return nil
}
