package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// limit bounds every wait of these tests. None is expected to come near it.
const limit = time.Minute

// instance is a pgweir that runs as a process of its own.
type instance struct {
	t      *testing.T
	dir    string // of its files and its unix socket
	port   int
	config string // path of the configuration
	cmd    *exec.Cmd
	passed []*os.File    // sockets to be passed to it, as a service manager does
	lines  chan string   // what it logs to stderr, closed at its end
	said   []string      // those read so far
	done   chan struct{} // closed when it has ended
}

// prepare writes a configuration with settings in a folder of its own. The
// process is not started.
func prepare(t *testing.T, settings map[string]string) *instance {
	t.Helper()
	dir, err := os.MkdirTemp("", "pgweir") // t.TempDir is too long for a unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	in := &instance{t: t, dir: dir, port: freePort(t), config: filepath.Join(dir, "pgweir.ini")}
	in.configure(settings)
	return in
}

// configure writes the configuration anew: defaults that need no Postgres,
// with settings above them.
func (in *instance) configure(settings map[string]string) {
	in.t.Helper()
	all := map[string]string{
		"auth_type":       "any",
		"listen_addr":     "127.0.0.1",
		"listen_port":     strconv.Itoa(in.port),
		"unix_socket_dir": in.dir,
	}
	maps.Copy(all, settings)
	var b strings.Builder
	b.WriteString("[pgbouncer]\n")
	for _, key := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%s = %s\n", key, all[key])
	}
	b.WriteString("[databases]\nnowhere = host=127.0.0.1 port=1 user=nobody\n")
	if err := os.WriteFile(in.config, []byte(b.String()), 0o600); err != nil {
		in.t.Fatal(err)
	}
}

// lastPort is the last port that freePort returned. The ports below 32768 are
// not given to outgoing connections, nor by sandbox.FreePort to other tests.
var lastPort = func() *atomic.Int32 {
	var p atomic.Int32
	p.Store(int32(28_000 + os.Getpid()%3_500))
	return &p
}()

// freePort returns a port of 127.0.0.1 on which nothing listens, another one
// each time.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := int(lastPort.Add(1))
		ln, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			if err := ln.Close(); err != nil {
				t.Fatal(err)
			}
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// start starts the process, once more if it has ended, with args before the
// configuration's name and with env added to the environment.
func (in *instance) start(args []string, env ...string) {
	in.t.Helper()
	in.cmd = exec.Command(os.Args[0], append(args, in.config)...)
	if len(in.passed) > 0 {
		in.cmd = exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, os.Args[0]}, in.cmd.Args[1:]...)...)
		in.cmd.ExtraFiles = in.passed
		env = append(env, fmt.Sprintf("LISTEN_FDS=%d", len(in.passed)))
	}
	in.cmd.Env = append(os.Environ(), append(env, asProgram+"=1", "NOTIFY_SOCKET=")...)
	if i := slices.IndexFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "NOTIFY_SOCKET=") }); i >= 0 {
		in.cmd.Env = append(in.cmd.Env, env[i])
	}
	in.launch()
}

// launch starts in.cmd.
func (in *instance) launch() {
	in.t.Helper()
	if _, err := in.cmd.StdinPipe(); err != nil { // see endWithTest
		in.t.Fatal(err)
	}
	stderr, err := in.cmd.StderrPipe()
	if err != nil {
		in.t.Fatal(err)
	}
	if err := in.cmd.Start(); err != nil {
		in.t.Fatal(err)
	}
	cmd, lines, done := in.cmd, make(chan string, 1000), make(chan struct{})
	in.lines, in.said, in.done = lines, nil, done
	go func() {
		for s := bufio.NewScanner(stderr); s.Scan(); {
			lines <- s.Text()
		}
		close(lines)
		_ = cmd.Wait() // the status is in ProcessState
		close(done)
	}()
	in.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		for range lines { // so that the scanner comes to its end
		}
		<-done
	})
}

// runInstance is prepare, start, and a wait until it serves.
func runInstance(t *testing.T, settings map[string]string, env ...string) *instance {
	t.Helper()
	in := prepare(t, settings)
	in.start(nil, env...)
	in.await("process up: " + productVersion())
	return in
}

// await waits for a line of the log that contains text, and returns it.
func (in *instance) await(text string) string {
	in.t.Helper()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		select {
		case line, ok := <-in.lines:
			if !ok {
				in.t.Fatalf("it ended before it logged %q; the log:\n%s", text, strings.Join(in.said, "\n"))
			}
			in.said = append(in.said, line)
			if strings.Contains(line, text) {
				return line
			}
		case <-timeout.C:
			in.t.Fatalf("it has not logged %q; the log:\n%s", text, strings.Join(in.said, "\n"))
		}
	}
}

// end waits for the end of the process and returns its exit status and its
// whole log.
func (in *instance) end() (status int, log string) {
	in.t.Helper()
	select {
	case <-in.done:
	case <-time.After(limit):
		in.t.Fatalf("it has not ended; the log:\n%s", strings.Join(in.said, "\n"))
	}
	for line := range in.lines {
		in.said = append(in.said, line)
	}
	return in.cmd.ProcessState.ExitCode(), strings.Join(in.said, "\n") + "\n"
}

// ends checks that the process ends with success.
func (in *instance) ends() {
	in.t.Helper()
	if status, log := in.end(); status != 0 {
		in.t.Errorf("exit status %d; the log:\n%s", status, log)
	}
}

// fails checks that the process ends with status 1 and logs each text.
func (in *instance) fails(texts ...string) {
	in.t.Helper()
	status, log := in.end()
	if status != 1 {
		in.t.Errorf("exit status %d, want 1", status)
	}
	for _, text := range texts {
		if !strings.Contains(log, text) {
			in.t.Errorf("no %q in the log:\n%s", text, log)
		}
	}
}

func (in *instance) signal(s syscall.Signal) {
	in.t.Helper()
	if err := in.cmd.Process.Signal(s); err != nil {
		in.t.Fatal(err)
	}
}

// socket is the path of the unix socket.
func (in *instance) socket() string {
	return filepath.Join(in.dir, fmt.Sprintf(".s.PGSQL.%d", in.port))
}

// console logs in to the console over the unix socket, as the operating
// system's user who runs the process.
func (in *instance) console() *console {
	in.t.Helper()
	c, err := dialConsole(in.dir, in.port)
	if err != nil {
		in.t.Fatal(err)
	}
	in.t.Cleanup(c.close)
	return c
}

// console is a session on the console.
type console struct{ *pgconn.PgConn }

func dialConsole(host string, port int) (*console, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%d user=pgbouncer dbname=pgbouncer sslmode=disable", host, port))
	return &console{c}, err
}

// try runs a command and returns its rows, as key and value of the first two
// columns; of one column alone the key is "".
func (c *console) try(command string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	results, err := c.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, err
	}
	rows := make(map[string]string)
	for _, row := range results[0].Rows {
		if len(row) == 1 {
			rows[""] = string(row[0])
		} else {
			rows[string(row[0])] = string(row[1])
		}
	}
	return rows, nil
}

// do is try for a command that must succeed.
func (c *console) do(t *testing.T, command string) map[string]string {
	t.Helper()
	rows, err := c.try(command)
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return rows
}

// gone waits until the server closes the session.
func (c *console) gone(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if _, err := c.ReceiveMessage(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the console is still there: %v", err)
	}
}

func (c *console) close() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_ = c.Close(ctx) // it may be closed already
}

// ask sends the question for TLS to a listening socket and returns the answer,
// N: somebody is there.
func ask(network, address string) (byte, error) {
	c, err := net.DialTimeout(network, address, limit)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return askOn(c)
}

func askOn(c net.Conn) (byte, error) {
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return 0, err
	}
	if _, err := c.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil { // SSLRequest
		return 0, err
	}
	var answer [1]byte
	_, err := io.ReadFull(c, answer[:])
	return answer[0], err
}

// serves checks that somebody answers at address.
func serves(t *testing.T, network, address string) {
	t.Helper()
	if answer, err := ask(network, address); answer != 'N' || err != nil {
		t.Errorf("%s %s: answers %q, %v", network, address, answer, err)
	}
}

// refuses waits until connections to address are refused.
func refuses(t *testing.T, address string) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; {
		_, err := ask("tcp", address)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not refused: %v", address, err)
		}
	}
}
