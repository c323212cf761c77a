package certs

import (
	"crypto/tls"
	"os"
	"sync"
	"syscall"
)

// Files has what the files of settings for servers hold, so that connections
// share it and logins don't parse it anew: the certificates of all authorities
// there are take 300 KB and 13 ms. The zero Files has nothing yet. It may be
// used by several goroutines.
type Files struct {
	mu     sync.Mutex // held over reading
	of     Settings
	stamps [3]stamp
	read   *material
}

// Connect is [Settings.Connect] of s. Files that were renewed serve at once; if
// they can't be used, half written for one, what they held before does. Whoever
// asks [Keeper.Refresh] learns of it. A nil f keeps nothing. It may block.
func (f *Files) Connect(s Settings, host string) (*tls.Config, error) {
	if f == nil {
		return s.Connect(host)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	stamps := s.stamps()
	if f.read == nil || f.of != s || f.stamps != stamps {
		read, err := s.read()
		switch {
		case err == nil:
			f.of, f.read = s, read
		case f.read == nil || f.of != s:
			return nil, err
		}
		f.stamps = stamps
	}
	return f.read.connect(s.Mode, host), nil
}

// stamp is by what a file's changes are noticed. One that was moved into the
// place of another may be as long, and as old.
type stamp struct {
	number  uint64 // the file's, by which the system knows it
	written int64
	size    int64
}

// stamps are those of the three files; zero where there is none.
func (s Settings) stamps() (all [3]stamp) {
	for i, path := range []string{s.CertFile, s.KeyFile, s.CAFile} {
		if info, err := os.Stat(path); err == nil {
			all[i] = stamp{written: info.ModTime().UnixNano(), size: info.Size()}
			if known, ok := info.Sys().(*syscall.Stat_t); ok {
				all[i].number = known.Ino
			}
		}
	}
	return all
}
