// Drivers does the tasks of the bench with one of Go's drivers, named by the
// first argument.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// client is one connection of a driver. A task that the driver has nothing for
// returns an absent.
type client interface {
	connect(context.Context) error
	close()

	query(context.Context) error
	prepared(context.Context) error
	transaction(context.Context) error
	batch(context.Context) error
	batchError(context.Context) error
	error(context.Context) error
	copy(context.Context) error
	cancel(context.Context) error
	large(context.Context) error
	settings(context.Context) error
}

// absent is why a driver does not do a task.
type absent string

func (a absent) Error() string { return string(a) }

// patience bounds one task of all clients.
const patience = 2 * time.Minute

func main() {
	ctx := context.Background()
	n, err := strconv.Atoi(os.Getenv("DRIVERS_CLIENTS"))
	if err != nil || len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: DRIVERS_...=... drivers NAME")
		os.Exit(2)
	}
	name := os.Args[1]
	clients := make([]client, n)
	for i := range clients {
		tag := fmt.Sprintf("%s-%d", name, i)
		switch name {
		case "pgx":
			clients[i] = &pgxClient{tag: tag}
		case "lib-pq":
			clients[i] = &pqClient{tag: tag}
		default:
			fmt.Fprintf(os.Stderr, "no driver %q\n", name)
			os.Exit(2)
		}
	}
	for _, task := range []struct {
		name string
		do   func(client, context.Context) error
	}{
		{"query", client.query},
		{"prepared", client.prepared},
		{"transaction", client.transaction},
		{"batch", client.batch},
		{"batch-error", client.batchError},
		{"error", client.error},
		{"copy", client.copy},
		{"cancel", client.cancel},
		{"large", client.large},
		{"settings", client.settings},
	} {
		report(task.name, all(ctx, clients, task.do))
	}
	for _, c := range clients {
		c.close()
	}
}

// all has every client do a task, on the connection that it has. Whoever fails
// gets a new one.
func all(ctx context.Context, clients []client, do func(client, context.Context) error) []error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	errs := make([]error, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			if errs[i] = c.connect(ctx); errs[i] != nil {
				return
			}
			errs[i] = do(c, ctx)
			if _, ok := errors.AsType[absent](errs[i]); errs[i] != nil && !ok {
				c.close()
			}
		})
	}
	wg.Wait()
	return errs
}

func report(task string, errs []error) {
	if why, ok := errors.AsType[absent](errs[0]); ok {
		fmt.Println(task, "none", why)
		return
	}
	n, first := 0, ""
	for i, err := range errs {
		if err != nil {
			n++
			if first == "" {
				first = fmt.Sprintf("client %d: %v", i, err)
			}
		}
	}
	if n == 0 {
		fmt.Println(task, "pass")
		return
	}
	fmt.Printf("%s fail %d of %d clients: %s\n", task, n, len(errs), strings.ReplaceAll(first, "\n", " / "))
}

// dsn is the target as a connection URL.
func dsn(tag string) string {
	query := url.Values{"application_name": {tag}, "sslmode": {"disable"}}
	if ca := os.Getenv("DRIVERS_CA"); ca != "" {
		query.Set("sslmode", "verify-full")
		query.Set("sslrootcert", ca)
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(os.Getenv("DRIVERS_USER"), os.Getenv("DRIVERS_PASSWORD")),
		Host:     os.Getenv("DRIVERS_HOST") + ":" + os.Getenv("DRIVERS_PORT"),
		Path:     "/" + os.Getenv("DRIVERS_DATABASE"),
		RawQuery: query.Encode(),
	}
	return u.String()
}

// same is an error unless got is want.
func same(got, want any) error {
	if reflect.DeepEqual(got, want) {
		return nil
	}
	return fmt.Errorf("got %.200v, want %.200v", got, want)
}

// body is a value of a megabyte.
func body(tag string) string { return tag + strings.Repeat("x", 1<<20) }
