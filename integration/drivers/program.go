package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// target is where a driver connects to.
type target struct {
	host           string
	port           int
	user, password string
	database       string

	// ca is the file of the certificate that the server's is signed by, to be
	// verified, host name included. Empty means no TLS.
	ca string

	clients int
}

// env is how a driver's program is told the target. Its one argument is the
// driver's name.
//
// The program prints one line for each task: the task, a space, "pass", "fail"
// or "none", a space, the reason. Standard error is shown when it fails.
func (t target) env() []string {
	return []string{
		"DRIVERS_HOST=" + t.host,
		"DRIVERS_PORT=" + strconv.Itoa(t.port),
		"DRIVERS_USER=" + t.user,
		"DRIVERS_PASSWORD=" + t.password,
		"DRIVERS_DATABASE=" + t.database,
		"DRIVERS_CA=" + t.ca,
		"DRIVERS_CLIENTS=" + strconv.Itoa(t.clients),
	}
}

// sslmode is the target's, in libpq's words.
func (t target) sslmode() string {
	if t.ca == "" {
		return "disable"
	}
	return "verify-full"
}

// conninfo is the target as libpq's programs take it.
func (t target) conninfo() string {
	s := fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=%s", t.host, t.port, t.user, t.password, t.database, t.sslmode())
	if t.ca != "" {
		s += " sslrootcert=" + t.ca
	}
	return s
}

// programTime bounds how long a driver's program may take for all its tasks.
const programTime = 5 * time.Minute

// runProgram runs a driver's program and returns what it reports.
func runProgram(ctx context.Context, command []string, env []string) row {
	ctx, cancel := context.WithTimeout(ctx, programTime)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := newCommand(ctx, command, env)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("not done after %v", programTime)
	}
	r := row{}
	for line := range strings.Lines(stdout.String()) {
		name, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		verdict, reason, _ := strings.Cut(rest, " ")
		r[task(name)] = outcome{verdicts[verdict], reason}
	}
	for _, t := range tasks {
		if r[t].verdict == missing {
			why := "the program reported nothing"
			if err != nil {
				why += ": " + err.Error()
			}
			r[t] = outcome{missing, strings.TrimSpace(why + "\n" + lastLines(stderr.String(), 12))}
		}
	}
	return r
}

var verdicts = map[string]verdict{"pass": passed, "fail": failed, "none": absent}

// newCommand is a command that ends, with its children, when ctx does.
func newCommand(ctx context.Context, command []string, env []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// output runs a command and returns what it printed. A failure carries what it
// wrote to standard error.
func output(ctx context.Context, command []string, env []string, input string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := newCommand(ctx, command, env)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), errors.Join(fmt.Errorf("%s: %w", command[0], err), errors.New(lastLines(stderr.String(), 12)))
	}
	return stdout.String(), nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
