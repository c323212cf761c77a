package configs

import "fmt"

// Reload reads the configuration again, from where the setting conffile says.
// The new Snapshot is what Load would return, except that
//   - settings that take effect only at start keep their values, and a warning
//     names each one that has another in the file now;
//   - verbose keeps its value unless the file sets it;
//   - a database entry keeps its forced user if it would lose it;
//   - the users known so far are kept when the auth_file is missing, and a
//     broken line in it is an error.
//
// Values that With gave are lost. On an error s is to stay in force.
func (s *Snapshot) Reload() (*Snapshot, error) {
	l := newLoader(s.Main.ConfFile, s)
	l.ini().file(pos{}, s.Main.ConfFile)
	return l.finish()
}

// keepOld takes over from the old Snapshot what a reload can't change.
func (l *loader) keepOld() {
	if l.old == nil {
		return
	}
	for i := range Table {
		s, was, is := &Table[i], l.old.values[i], l.snap.values[i]
		if !s.Restart && (s.Name != "verbose" || is.set) {
			continue
		}
		if was.text != is.text || was.null != is.null {
			if at, ok := l.at[s.Name]; ok {
				l.warnAt(at, fmt.Sprintf("%s stays as it was: it takes effect only at start", s.Name))
			}
		}
		if l.snap.reset(i); !was.null {
			l.mustSet(s.Name, was.text)
			l.snap.values[i] = was
		}
	}
	for name, at := range l.databaseAt {
		is, was := l.snap.byName[name], l.old.byName[name]
		if name == "*" {
			is, was = l.snap.AutoDB, l.old.AutoDB
		}
		if is != nil && was != nil && was.User != "" && is.User == "" {
			is.User, is.Password = was.User, was.Password
			l.warnAt(at, fmt.Sprintf("database %s: losing forced user not supported, keeping old setting", name))
		}
	}
}
