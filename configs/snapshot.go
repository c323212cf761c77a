package configs

import (
	"cmp"
	"fmt"
	"slices"
)

// Snapshot is one whole configuration. It never changes, nor does anything that
// it points to.
type Snapshot struct {
	Path      string // the ini file, as it was named
	Main      Main
	Databases []*Database      // in the order of the file, the template left out
	AutoDB    *Database        // the template, entry "*"; nil without one
	Users     map[string]*User // section [users], by name
	Peers     []*Peer          // in the order of the file
	Plans     map[string]*Plan // section [plans], by name
	Auth      *Userlist        // nil without auth_file
	HBA       *HBA             // nil but with auth_type hba; without rules nobody gets in
	LDAP      *LDAP            // auth_ldap_options, nil without
	Warnings  []Problem        // what Load or Reload had to say

	byName map[string]*Database
	values []value        // of the settings in Table, in its order
	at     map[string]pos // where the files set them
}

// value is a setting as SHOW CONFIG prints it.
type value struct {
	text string
	null bool
	set  bool // by the file, SET, or the command line; else it is the default
}

// entries yields every entry, the template last.
func (s *Snapshot) entries() func(yield func(*Database) bool) {
	return func(yield func(*Database) bool) {
		for _, d := range s.Databases {
			if !yield(d) {
				return
			}
		}
		if s.AutoDB != nil {
			yield(s.AutoDB)
		}
	}
}

// Database returns the entry of that name, or nil. Entries that came from the
// template are not found here, see Auto.
func (s *Snapshot) Database(name string) *Database { return s.byName[name] }

// Auto makes an entry for name from the template: the * entry with that name,
// and with that database unless the template names another. It returns nil when
// there is no template, or when no entry can have that name. Each call makes a
// new one; the caller registers it.
func (s *Snapshot) Auto(name string) *Database {
	if s.AutoDB == nil || checkDatabaseName(name) != nil {
		return nil
	}
	d := *s.AutoDB
	d.Name, d.DBName, d.Auto = name, cmp.Or(d.DBName, name), true
	return &d
}

// Value returns the setting of that name as SHOW CONFIG prints it: times in
// seconds by %g, other numbers in decimal, a password within hidden. null is true
// when it is unset, ok is false when there is no such setting.
func (s *Snapshot) Value(key string) (val string, null, ok bool) {
	i, ok := tableIndex[key]
	if !ok {
		return "", false, false
	}
	v := s.values[i]
	if key == "auth_ldap_options" {
		v.text = shownLDAP(v.text)
	}
	return v.text, v.null, true
}

// Position is where a setting was last set, in a file as it was named. Without a
// line it was not.
func (s *Snapshot) Position(key string) (file string, line int) {
	at := s.at[key]
	return at.file, at.line
}

// IsSet reports whether the setting was given a value, be it its default.
func (s *Snapshot) IsSet(key string) bool {
	i, ok := tableIndex[key]
	return ok && s.values[i].set
}

// With returns a Snapshot with other values of settings, given as pairs of key
// and value, as the console's SET wants it. A key that takes effect only at
// start leaves everything as it is, without an error. An unknown key, or a value
// that it can't have, is an error; if all are right by themselves, but not
// together, it is a [*Conflict]. Of the files that settings name only those with
// rules (HBA, ident) are read, when they come into force, or are another one from
// here on: what is wrong in them is an error. It may block.
func (s *Snapshot) With(pairs ...string) (*Snapshot, error) {
	var now []string
	rules := false
	for i := 0; i < len(pairs); i += 2 {
		if set := Find(pairs[i]); set != nil && set.Restart {
			continue
		}
		now = append(now, pairs[i:i+2]...)
		switch pairs[i] {
		case "auth_type", "auth_hba_file", "auth_ident_file", "auth_ldap_options":
			rules = true
		}
	}
	next, err := s.Override(now...)
	if err != nil || !rules {
		return next, err
	}
	l := newLoader(s.Path, s)
	l.snap = next
	l.hba()
	l.ldap()
	for _, p := range l.problems {
		if p.Severity == Error {
			return nil, p
		}
	}
	return next, nil
}

// Conflict is the error of settings that are each right by themselves, but not
// together.
type Conflict struct {
	Key  string // the one to blame
	Text string
}

// Error implements error.
func (c *Conflict) Error() string { return c.Key + ": " + c.Text }

// Override is With for the command line, before anything started: it changes
// any setting. Reload keeps the value where the key takes effect only at start,
// and that of verbose when the file doesn't say.
func (s *Snapshot) Override(pairs ...string) (*Snapshot, error) {
	next := *s
	next.values = slices.Clone(s.values)
	plans := false
	for at := 0; at < len(pairs); at += 2 {
		key := pairs[at]
		i, ok := tableIndex[key]
		if !ok {
			return nil, fmt.Errorf("unknown parameter: %s/%s", sectionMain, key)
		}
		if _, err := next.set(i, pairs[at+1]); err != nil {
			return nil, err
		}
		plans = plans || key == "plan" || key == "plan_processes"
	}
	if key, text := checkMain(&next.Main); key != "" {
		return nil, &Conflict{key, text}
	}
	if plans {
		if err := next.replan(); err != nil {
			return nil, err
		}
	}
	return &next, nil
}

// set gives setting i a value. It is called only on a Snapshot that nobody else
// has yet.
func (s *Snapshot) set(i int, text string) (note string, err error) {
	shown, note, err := Table[i].set(&s.Main, text)
	if err != nil {
		return "", err
	}
	s.values[i] = value{text: shown, set: true}
	return note, nil
}

// reset gives setting i its default.
func (s *Snapshot) reset(i int) {
	if Table[i].Null {
		Table[i].clear(&s.Main)
		s.values[i] = value{null: true}
		return
	}
	if _, err := s.set(i, Table[i].Default); err != nil {
		panic("BUG: configs: default: " + err.Error())
	}
	s.values[i].set = false
}
