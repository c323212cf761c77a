package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"
	"testing"
	"time"
)

// FuzzINI reads any text as a configuration whose includes and auth_file are
// that text again. What loads must hold together, and survive being set again
// from what SHOW CONFIG prints.
func FuzzINI(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		l := newLoader("fuzz.ini", nil)
		l.read = func(path string) ([]byte, error) {
			if path == "self" {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		l.ini().text("fuzz.ini", text)
		s, err := l.finish()
		if err != nil {
			if p, ok := errors.AsType[Problem](err); !ok || p.Severity != Error || p.Text == "" || s != nil {
				t.Fatalf("an error that says nothing: %#v", err)
			}
			return
		}
		for i := range Table {
			set := &Table[i]
			switch f := set.field(&s.Main).(type) {
			case *time.Duration:
				if *f < 0 || *f > Never {
					t.Fatalf("%s is %v", set.Name, *f)
				}
			case *int:
				if *f < set.min || set.max > 0 && *f > set.max {
					t.Fatalf("%s is %d", set.Name, *f)
				}
			case enum:
				if f.String() == "" {
					t.Fatalf("%s has no value", set.Name)
				}
			}
			val, null, _ := s.Value(set.Name)
			if null {
				continue
			}
			again, err := s.Override(set.Name, val)
			if err != nil {
				t.Fatalf("%s = %q can't be set again: %v", set.Name, val, err)
			}
			if got, _, _ := again.Value(set.Name); got != val && !strings.Contains(val, "e+") {
				t.Fatalf("%s = %q turns into %q", set.Name, val, got)
			}
		}
		seen := make(map[string]bool)
		for d := range l.snap.entries() {
			if seen[d.Name] || d.Name == Console {
				t.Fatalf("an entry %q too many", d.Name)
			}
			seen[d.Name] = true
			if d != s.AutoDB && (s.Database(d.Name) != d || d.DBName == "") {
				t.Fatalf("entry %q can't be found", d.Name)
			}
			for name := range s.Users {
				p := s.ForPool(d, name)
				if p.PoolMode == PoolInherit || p.PoolSize < 0 || p.MinPoolSize < 0 || p.ReservePoolSize < 0 || p.PoolSize > 0 && p.MinPoolSize > p.PoolSize {
					t.Fatalf("%s of %s: %+v", name, d.Name, p)
				}
				if c := s.ForClient(d, name); c.QueryWaitTimeout < 0 || c.ClientIdleTimeout < 0 {
					t.Fatalf("%s of %s: %+v", name, d.Name, c)
				}
			}
		}
	})
}

// FuzzConnectString writes what was read in quotes and reads it again.
func FuzzConnectString(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		pairs, _, err := parseConnString(text)
		if err != nil {
			return
		}
		var b strings.Builder
		for _, p := range pairs {
			fmt.Fprintf(&b, "%s = '%s'  ", p.key, strings.ReplaceAll(p.value, "'", "''"))
		}
		again, notes, err := parseConnString(b.String())
		if err != nil || len(notes) != 0 || fmt.Sprint(again) != fmt.Sprint(pairs) {
			t.Fatalf("%q reads as %q, but %q as %q (%v, %v)", text, pairs, b.String(), again, notes, err)
		}
		for _, table := range []func() error{
			func() error { _, err := parseParams(newDatabase("d"), databaseParams, text); return err },
			func() error { _, err := parseParams(newUser("u"), userParams, text); return err },
		} {
			if err := table(); err != nil && err.Error() == "" {
				t.Fatal("an error that says nothing")
			}
		}
	})
}

// FuzzUserlist writes what was read and reads it again.
func FuzzUserlist(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ParseUserlist("users.txt", text)
		if p, ok := errors.AsType[Problem](err); err != nil && (!ok || p.Line == 0) {
			t.Fatalf("an error without a line: %v", err)
		}
		var b strings.Builder
		for name, secret := range l.secrets {
			if len(name) > MaxUserName || len(secret) > MaxSecret {
				t.Fatalf("%d bytes of name, %d of secret", len(name), len(secret))
			}
			fmt.Fprintf(&b, " \"%s\"\t\"%s\" more\r\n", strings.ReplaceAll(name, `"`, `""`), strings.ReplaceAll(secret, `"`, `""`))
		}
		again, err := ParseUserlist("again.txt", b.String())
		if err != nil || !maps.Equal(again.secrets, l.secrets) {
			t.Fatalf("%q reads as %q, written and read again as %q (%v)", text, l.secrets, again.secrets, err)
		}
	})
}
