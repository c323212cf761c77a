package sandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain turns the test binary into the program that TestOwnerKilled kills.
func TestMain(m *testing.M) {
	if os.Getenv("SANDBOX_OWNER") == "" {
		os.Exit(m.Run())
	}
	s, err := New()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	p, err := s.Start(Command{Path: "/bin/sleep", Args: []string{"1000"}})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.Path(), p.PID())
	select {}
}

func TestOwnerKilled(t *testing.T) {
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), "SANDBOX_OWNER=1")
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var dir string
	var pid int
	if _, err := fmt.Sscan(line, &dir, &pid); err != nil {
		t.Fatalf("the owner says %q: %v", line, err)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the program does not run: %v", err)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := owner.Wait(); err == nil {
		t.Fatal("the owner ended well, but it was killed")
	}

	gone := func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, os.ErrNotExist) && !running(pid)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !gone(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s or process %d is still there", dir, pid)
		}
	}
}

// running reports whether pid is a process that is not a zombie: an orphan's
// remains are up to whoever adopts it.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

func TestStop(t *testing.T) {
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	polite, err := s.Start(Command{Path: "/bin/sleep", Args: []string{"1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := polite.Stop(); err != nil {
		t.Error(err)
	}
	stubborn, err := s.Start(Command{
		Path:  "/bin/sh",
		Args:  []string{"-c", "trap '' TERM; echo listening; while :; do sleep 1; done"},
		Name:  "stubborn",
		Grace: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	err = stubborn.Await(context.Background(), func(context.Context) error {
		if !strings.Contains(stubborn.Log(), "listening") {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := stubborn.Stop(); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("Stop of a program that ignores SIGTERM = %v, want that it was killed", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Start(Command{Path: "/bin/sleep"}); err == nil {
		t.Error("Start after Close succeeded")
	}
}

func TestAwaitTellsWhyAProgramEnded(t *testing.T) {
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p, err := s.Start(Command{Path: "/bin/sh", Args: []string{"-c", "echo no luck; exit 3"}})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Await(context.Background(), func(context.Context) error { return errors.New("not yet") })
	if err == nil || !strings.Contains(err.Error(), "no luck") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("Await = %v, want the exit status and the log", err)
	}
}
