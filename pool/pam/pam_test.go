package pam

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestPAM has real modules judge: pam_exec asks a script, which knows one
// password, and pam_succeed_if one user who may not come in.
func TestPAM(t *testing.T) {
	if errors.Is(authenticate("none", t.TempDir(), "nina", "tulip", ""), ErrMissing) {
		t.Skip("built without PAM: go test -tags pam ./pool/pam, which needs PAM's headers (libpam0g-dev)")
	}
	dir := t.TempDir()
	script := filepath.Join(dir, "knows")
	seen := filepath.Join(dir, "seen")
	write := func(path, text string, mode os.FileMode) {
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write(script, fmt.Sprintf("#!/bin/sh\necho \"$PAM_USER $PAM_RHOST $PAM_SERVICE\" >%s\n[ \"$(tr -d '\\000')\" = tulip ]\n", seen), 0o755)
	write(filepath.Join(dir, Service), "auth required pam_exec.so quiet expose_authtok "+script+
		"\naccount required pam_succeed_if.so quiet user != otto\n", 0o644)
	for _, tt := range []struct {
		user, password string
		ok             bool
	}{
		{"root", "tulip", true}, // the account rule looks the user up
		{"root", "rose", false},
		{"root", "", false},
		{"root", "tulip\x00", false},
		{"otto", "tulip", false},
	} {
		if err := authenticate(Service, dir, tt.user, tt.password, "192.0.2.7"); (err == nil) != tt.ok {
			t.Errorf("%s, %q: %v", tt.user, tt.password, err)
		}
	}
	if err := authenticate(Service, dir, "root", "tulip", "192.0.2.7"); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(seen); string(got) != "root 192.0.2.7 pgbouncer\n" {
		t.Errorf("the module was told %q, %v", got, err)
	}
	if err := authenticate("none", dir, "root", "tulip", ""); err == nil {
		t.Error("no rules let somebody in")
	}
}

// TestLimited: a module that hangs keeps its place, and nobody waits for it
// longer than they may.
func TestLimited(t *testing.T) {
	hang := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	began, ended := make(chan struct{}), make(chan error)
	for range cap(places) {
		go func() {
			ended <- limited(ctx, func() error {
				began <- struct{}{}
				<-hang
				return nil
			})
		}()
	}
	for range cap(places) {
		<-began
	}
	over, stop := context.WithCancel(context.Background())
	stop()
	asked := false
	if err := limited(over, func() error { asked = true; return nil }); !errors.Is(err, context.Canceled) || asked {
		t.Errorf("%v with no place left", err)
	}
	cancel()
	for range cap(places) {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("%v, and PAM has not answered", err)
		}
	}
	close(hang)
	if err := limited(context.Background(), func() error { return nil }); err != nil {
		t.Error(err)
	}
}
