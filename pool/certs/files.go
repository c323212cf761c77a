package certs

import (
	"crypto/tls"
	"os"
	"sync"
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

// Connect is [Settings.Connect] of s. Files that were renewed serve at once. A
// nil f keeps nothing. It may block.
func (f *Files) Connect(s Settings, host string) (*tls.Config, error) {
	if f == nil {
		return s.Connect(host)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	stamps := s.stamps()
	if f.read == nil || f.of != s || f.stamps != stamps {
		read, err := s.read()
		if err != nil {
			return nil, err
		}
		f.of, f.stamps, f.read = s, stamps, read
	}
	return f.read.connect(s.Mode, host), nil
}

// stamp is by what a file's changes are noticed.
type stamp struct {
	written int64
	size    int64
}

// stamps are those of the three files; zero where there is none.
func (s Settings) stamps() (all [3]stamp) {
	for i, path := range []string{s.CertFile, s.KeyFile, s.CAFile} {
		if info, err := os.Stat(path); err == nil {
			all[i] = stamp{info.ModTime().UnixNano(), info.Size()}
		}
	}
	return all
}
