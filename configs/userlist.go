package configs

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"strings"
)

// MaxSecret is the length in bytes of the longest secret in an auth_file.
const MaxSecret = 65530

// Userlist is the content of an auth_file: user names and their secrets. What
// kind a secret is (plain text, md5 or SCRAM) is package auth's business. The
// zero Userlist, and a nil one, know nobody.
type Userlist struct {
	secrets map[string]string
}

// Lookup returns the secret of a user. An empty secret is a known user whom no
// password lets in.
func (l *Userlist) Lookup(name string) (secret string, ok bool) {
	if l == nil {
		return "", false
	}
	secret, ok = l.secrets[name]
	return secret, ok
}

// Len returns the number of users.
func (l *Userlist) Len() int {
	if l == nil {
		return 0
	}
	return len(l.secrets)
}

// Names returns the names of all users, in no order.
func (l *Userlist) Names() iter.Seq[string] {
	if l == nil {
		return func(func(string) bool) {}
	}
	return maps.Keys(l.secrets)
}

// String tells the number of users; no secret gets out.
func (l *Userlist) String() string { return fmt.Sprintf("%d users", l.Len()) }

// GoString is String, for %#v.
func (l *Userlist) GoString() string { return l.String() }

// ParseUserlist reads src as the content of the auth_file of that name: one
// line for each user, "name" "secret", with "" inside for a quote. What follows
// on the line is ignored, as are empty lines and lines that begin with a
// semicolon. The last line for a name wins. The first line that can't be read
// ends the reading: err, a Problem, tells why, and the Userlist holds the users
// before it, as in PgBouncer.
func ParseUserlist(name, src string) (*Userlist, error) {
	l := &Userlist{secrets: make(map[string]string)}
	n := 0
	for line := range strings.SplitSeq(src, "\n") {
		n++
		line = strings.TrimLeft(line, isspace)
		if line == "" || line[0] == ';' {
			continue
		}
		user, secret, err := parseUserline(line)
		if err != nil {
			return l, Problem{File: name, Line: n, Severity: Error, Text: "broken auth file: " + err.Error()}
		}
		l.secrets[user] = secret
	}
	return l, nil
}

func parseUserline(line string) (user, secret string, err error) {
	if line[0] == '#' {
		return "", "", errors.New("comments begin with ; here, not with #")
	}
	if strings.IndexByte(line, 0) >= 0 {
		return "", "", errors.New("a zero byte; the file must be plain text")
	}
	if line[0] != '"' {
		return "", "", errors.New(`the user name must stand in double quotes`)
	}
	user, rest, ok := cutQuoted(line[1:], '"')
	if !ok {
		return "", "", errors.New("the user name has no closing quote")
	}
	if len(user) > MaxUserName {
		return "", "", fmt.Errorf("the user name is longer than %d bytes", MaxUserName)
	}
	rest = strings.TrimLeft(rest, isspace)
	if rest == "" || rest[0] != '"' {
		return "", "", errors.New("the secret, in double quotes, must follow the user name")
	}
	if secret, _, ok = cutQuoted(rest[1:], '"'); !ok {
		return "", "", errors.New("the secret has no closing quote")
	}
	if len(secret) > MaxSecret {
		return "", "", fmt.Errorf("the secret is longer than %d bytes", MaxSecret)
	}
	return user, secret, nil
}
