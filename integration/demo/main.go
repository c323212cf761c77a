// Demo shows pgweir at work: a Postgres, pgweir in front of it, ten seconds of
// load from many clients over few server connections, and then a prompt to try
// both the database and the console. Ctrl-C ends it at any moment and leaves
// nothing behind.
//
// The Postgres is a private one in a temporary folder, or the one that
// $DATABASE_URL names, to which only SELECTs are sent.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	binary := flag.String("pgweir", "bin/pgweir", "the `program` to show")
	clients := flag.Int("clients", 200, "client connections")
	servers := flag.Int("servers", 10, "server connections")
	duration := flag.Duration("time", 10*time.Second, "how long the load lasts")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	show := &show{binary: *binary, clients: *clients, servers: *servers, duration: *duration}
	err := show.run(ctx)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Println("\ninterrupted; everything is ended and removed")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// user and database are what the clients ask pgweir for.
const (
	user     = "demo"
	database = "demo"
)

// step says what happens next.
func step(format string, args ...any) { fmt.Printf("\n» "+format+"\n", args...) }

// shellQuote makes s one word for a shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// backend is the Postgres behind pgweir.
type backend struct {
	entry string // its line in [databases]
	query string // what the clients ask, with one parameter
	also  string // what else ends with the demo
}

// backendFromURL is the Postgres that raw, a connection URL, names.
func backendFromURL(raw string) (backend, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Hostname() == "" {
		// The URL holds a password: the error of url.Parse would quote it.
		return backend{}, errors.New("DATABASE_URL is not of the form postgres://user:password@host:port/database")
	}
	port := u.Port()
	if port == "" {
		port = "5432"
	}
	name := strings.TrimPrefix(u.Path, "/")
	if name == "" {
		name = u.User.Username()
	}
	b := backend{
		entry: fmt.Sprintf("%s = host=%s port=%s dbname=%s user=%s", database, u.Hostname(), port, iniQuote(name), iniQuote(u.User.Username())),
		query: "select $1::int + 1",
	}
	if password, ok := u.User.Password(); ok {
		b.entry += " password=" + iniQuote(password)
	}
	return b, nil
}

// iniQuote quotes a value in a [databases] line.
func iniQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// absolute returns path, which sandboxed programs need from the root.
func absolute(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(abs); err != nil {
		return "", fmt.Errorf("%w; make build makes it", err)
	}
	return abs, nil
}
