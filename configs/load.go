package configs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
)

// The sections of the file.
const (
	sectionMain      = "pgbouncer"
	sectionDatabases = "databases"
	sectionUsers     = "users"
	sectionPeers     = "peers"
	sectionPlans     = "plans"
)

// Load reads the configuration at path, with every file that it includes and
// its auth_file. The error is a Problem: the first one with Severity Error.
// What does not keep the configuration from being used is in Warnings.
//
// A second [pgbouncer] header sets everything back to the defaults, as in
// PgBouncer. An auth_file that is missing is a warning. So is one with a broken
// line, and then only the users before that line are known.
func Load(path string) (*Snapshot, error) {
	l := newLoader(path, nil)
	l.ini().file(pos{}, path)
	return l.finish()
}

// Parse is Load for a text that stands for the file of that name.
func Parse(name, text string) (*Snapshot, error) {
	l := newLoader(name, nil)
	l.ini().text(name, text)
	return l.finish()
}

// ParseFiles is Load for files that stand in memory, by their names. What isn't
// among them doesn't exist.
func ParseFiles(path string, files map[string]string) (*Snapshot, error) {
	l := newLoader(path, nil)
	l.read = func(path string) ([]byte, error) {
		text, ok := files[path]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		}
		return []byte(text), nil
	}
	l.ini().file(pos{}, path)
	return l.finish()
}

// Check reads the configuration at path as Load does, and returns everything
// that is wrong with it, in the order in which it was found. Nothing wrong is
// nil. An Error among them is one for Load.
func Check(path string) []Problem {
	l := newLoader(path, nil)
	l.ini().file(pos{}, path)
	_, _ = l.finish()
	return l.problems
}

// loader collects a Snapshot and what is wrong with it.
type loader struct {
	snap     *Snapshot
	old      *Snapshot // what Reload replaces, or nil
	problems []Problem
	path     string
	read     func(path string) ([]byte, error)

	section    string         // the current one; "" before the first and in an unknown one
	begun      bool           // a section header was read
	main       bool           // [pgbouncer] was read
	at         map[string]pos // where a setting was last set
	databaseAt map[string]pos
	userAt     map[string]pos
	peerAt     map[int]pos
	planAt     map[string]pos
}

func newLoader(path string, old *Snapshot) *loader {
	l := &loader{
		path: path, old: old, read: os.ReadFile,
		snap: &Snapshot{
			Path:   path,
			Users:  make(map[string]*User),
			Plans:  make(map[string]*Plan),
			byName: make(map[string]*Database),
			values: make([]value, len(Table)),
		},
		at:         make(map[string]pos),
		databaseAt: make(map[string]pos),
		userAt:     make(map[string]pos),
		peerAt:     make(map[int]pos),
		planAt:     make(map[string]pos),
	}
	for i := range Table {
		l.snap.reset(i)
	}
	l.mustSet("conffile", path)
	return l
}

func (l *loader) ini() *iniReader {
	return &iniReader{section: l.enter, key: l.key, fail: l.errorAt, read: l.read}
}

func (l *loader) errorAt(at pos, text string) {
	l.problems = append(l.problems, Problem{File: at.file, Line: at.line, Severity: Error, Text: text})
}

func (l *loader) warnAt(at pos, text string) {
	l.problems = append(l.problems, Problem{File: at.file, Line: at.line, Severity: Warning, Text: text})
}

// mustSet sets a setting to a value that is known to be good.
func (l *loader) mustSet(key, val string) {
	if _, err := l.snap.set(tableIndex[key], val); err != nil {
		panic("BUG: configs: " + err.Error())
	}
}

// enter begins a section.
func (l *loader) enter(at pos, name string) {
	l.begun = true
	l.section = name
	switch name {
	case sectionMain:
		if l.main {
			l.warnAt(at, "a second [pgbouncer] section: every setting before it is back at its default")
		}
		l.main = true
		for i := range Table {
			if !Table[i].Null {
				l.snap.reset(i)
				delete(l.at, Table[i].Name)
			}
		}
	case sectionDatabases, sectionUsers, sectionPeers, sectionPlans:
	default:
		l.errorAt(at, fmt.Sprintf("unknown section [%s]: must be pgbouncer, databases, users, peers or plans", name))
		l.section = ""
	}
}

// key takes one key = value line.
func (l *loader) key(at pos, key, val string) {
	switch l.section {
	case sectionMain:
		l.setting(at, key, val)
	case sectionDatabases:
		l.database(at, key, val)
	case sectionUsers:
		l.user(at, key, val)
	case sectionPeers:
		l.peer(at, key, val)
	case sectionPlans:
		l.plan(at, key, val)
	default:
		if !l.begun {
			l.errorAt(at, key+" comes before any section; [pgbouncer] is missing above it")
		}
	}
}

func (l *loader) setting(at pos, key, val string) {
	i, ok := tableIndex[key]
	if !ok {
		l.errorAt(at, fmt.Sprintf("unknown parameter: %s/%s", sectionMain, key))
		return
	}
	if first, ok := l.at[key]; ok {
		l.warnAt(at, fmt.Sprintf("%s was set before, in line %d of %s; the last one counts", key, first.line, first.file))
	}
	note, err := l.snap.set(i, val)
	if err != nil {
		l.errorAt(at, err.Error())
		return
	}
	if note != "" {
		l.warnAt(at, note)
	}
	l.at[key] = at
}

func (l *loader) database(at pos, name, val string) {
	if err := checkDatabaseName(name); err != nil {
		l.errorAt(at, err.Error())
		return
	}
	l.twice(at, l.databaseAt, "database", name)
	d := newDatabase(name)
	notes, err := parseParams(d, databaseParams, val)
	if err == nil && d.Password != "" && d.PasswordCommand != "" {
		err = errors.New("password and password_command: it can have only one of them")
	}
	l.tell(at, "database "+name, notes, err)
	if err != nil {
		return
	}
	if name == "*" {
		l.snap.AutoDB = d
		return
	}
	if d.DBName == "" {
		d.DBName = name
	}
	if i := slices.IndexFunc(l.snap.Databases, func(d *Database) bool { return d.Name == name }); l.snap.byName[name] != nil {
		l.snap.Databases[i] = d
	} else {
		l.snap.Databases = append(l.snap.Databases, d)
	}
	l.snap.byName[name] = d
}

func (l *loader) user(at pos, name, val string) {
	if len(name) > MaxUserName {
		l.errorAt(at, fmt.Sprintf("user name too long: %d bytes, at most %d", len(name), MaxUserName))
		return
	}
	l.twice(at, l.userAt, "user", name)
	u := newUser(name)
	notes, err := parseParams(u, userParams, val)
	l.tell(at, "user "+name, notes, err)
	if err == nil {
		l.snap.Users[name] = u
	}
}

func (l *loader) peer(at pos, name, val string) {
	p, err := newPeer(name)
	if err != nil {
		l.errorAt(at, err.Error())
		return
	}
	if first, ok := l.peerAt[p.ID]; ok {
		l.errorAt(at, fmt.Sprintf("peer %d was defined before, in line %d of %s", p.ID, first.line, first.file))
		return
	}
	l.peerAt[p.ID] = at
	notes, err := parseParams(p, peerParams, val)
	if err == nil && p.Host == "" {
		err = fmt.Errorf("host was not provided for peer %d", p.ID)
	}
	l.tell(at, "peer "+name, notes, err)
	if err == nil {
		l.snap.Peers = append(l.snap.Peers, p)
	}
}

// twice warns of an entry whose name was there before.
func (l *loader) twice(at pos, seen map[string]pos, what, name string) {
	if first, ok := seen[name]; ok {
		l.warnAt(at, fmt.Sprintf("%s %s was defined before, in line %d of %s; the last one counts", what, name, first.line, first.file))
	}
	seen[name] = at
}

// tell reports what there is to say about the connect string of entry.
func (l *loader) tell(at pos, entry string, notes []string, err error) {
	for _, note := range notes {
		l.warnAt(at, entry+": "+note)
	}
	if err != nil {
		l.errorAt(at, entry+": "+err.Error())
	}
}

// finish does what needs the whole file, and returns the Snapshot or the first
// error.
func (l *loader) finish() (*Snapshot, error) {
	if !l.main && len(l.problems) == 0 {
		l.errorAt(pos{file: l.path}, "main section missing from config file: there must be a [pgbouncer]")
	}
	l.keepOld()
	l.localHosts()
	l.plans()
	l.auth()
	l.hba()
	l.ldap()
	l.check()
	for _, p := range l.problems {
		if p.Severity == Error {
			return nil, p
		}
	}
	l.snap.Warnings = l.problems
	l.snap.at = l.at
	return l.snap, nil
}

// localHosts lets entries without a host find their server where the pooler's
// own unix socket is.
func (l *loader) localHosts() {
	if l.snap.Main.UnixSocketDir == "" {
		return
	}
	local := []string{l.snap.Main.UnixSocketDir}
	for d := range l.snap.entries() {
		if d.Host == "" {
			d.Hosts = local
		}
	}
}

// auth reads the auth_file.
func (l *loader) auth() {
	path := l.snap.Main.AuthFile
	if path == "" {
		return
	}
	src, err := l.read(path)
	if err == nil {
		l.snap.Auth, err = ParseUserlist(path, string(src))
	}
	broken, isBroken := errors.AsType[Problem](err)
	switch {
	case err == nil:
	case isBroken && l.old == nil:
		broken.Severity = Warning
		broken.Text += "; the users from here on are not known"
		l.problems = append(l.problems, broken)
	case isBroken:
		l.problems = append(l.problems, broken)
	case l.old == nil:
		l.warnAt(l.at["auth_file"], "auth_file: "+reason(err)+"; no user is known")
	default:
		l.snap.Auth = l.old.Auth
		l.warnAt(l.at["auth_file"], "auth_file: "+reason(err)+"; the users known so far are kept")
	}
}

// reason is the text of a failure to read a file.
func reason(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Sprintf("cannot read %s: %v", e.Path, e.Err)
	}
	return strings.TrimSpace(err.Error())
}

// openFiles is how many files the process may have open.
func openFiles() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1<<64 - 1
	}
	return uint64(limit.Cur)
}
