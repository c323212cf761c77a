package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestPidfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	p := pidfile(path)
	if stale, err := p.claim(); stale || err != nil {
		t.Fatalf("claim of nothing: %v, %v", stale, err)
	}
	if err := p.write(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if want := fmt.Sprintln(os.Getpid()); err != nil || string(text) != want {
		t.Errorf("the file holds %q, %v, want %q", text, err, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&^0o644 != 0 {
		t.Errorf("the file's mode is %v, %v", info.Mode(), err)
	}
	if err := p.write(); err == nil || !strings.Contains(err.Error(), "could not open pidfile '"+path+"': file exists") {
		t.Errorf("a second write: %v", err)
	}
	p.remove()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("after remove: %v", err)
	}
}

func TestPidfileClaim(t *testing.T) {
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pid")
	inUse := "pidfile '" + path + "' exists, another instance running?"
	for _, test := range []struct {
		what, text string
		err        string
	}{
		{"an ended process", fmt.Sprintln(gone.Process.Pid), ""},
		{"this process, left over from before the container restarted", fmt.Sprintln(os.Getpid()), ""},
		{"a living process", fmt.Sprintln(os.Getppid()), inUse},
		{"without a line's end", fmt.Sprint(os.Getppid()), inUse},
		{"nothing", "", inUse},
		{"no number", "pgbouncer\n", inUse},
		{"no process id", "-1\n", inUse},
	} {
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		stale, err := pidfile(path).claim()
		_, kept := os.Stat(path)
		if test.err == "" {
			if !stale || err != nil || !os.IsNotExist(kept) {
				t.Errorf("%s: %v, %v; the file: %v; want it stale and removed", test.what, stale, err, kept)
			}
		} else if err == nil || err.Error() != test.err || kept != nil {
			t.Errorf("%s: %v; the file: %v; want %q", test.what, err, kept, test.err)
		}
	}
}

func TestNoPidfile(t *testing.T) {
	p := pidfile("")
	if stale, err := p.claim(); stale || err != nil {
		t.Errorf("claim: %v, %v", stale, err)
	}
	if err := p.write(); err != nil {
		t.Error(err)
	}
	p.remove()
}
