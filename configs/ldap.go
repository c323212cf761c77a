package configs

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// LDAP says which LDAP servers to ask about a client's password, and how: with
// a simple bind as Prefix, the user's name and Suffix, or, if BaseDN is set, by
// a search for the user's entry and a bind as that. It may hold a password.
type LDAP struct {
	Servers []string // host or host:port, asked in turn; none: those that the DNS names for BaseDN
	Port    int      // of servers without one
	TLS     bool     // ldapscheme=ldaps
	Start   bool     // ldaptls=1: TLS after StartTLS

	Prefix, Suffix string

	BaseDN, BindDN, BindPassword string
	Attribute                    string // to be equal to the user's name; "" with Filter
	Filter                       string // with $username in the place of the name
	Scope                        LDAPScope
}

// LDAPScope says how deep a search goes.
type LDAPScope uint8

// The scopes.
const (
	LDAPSub LDAPScope = iota
	LDAPBase
	LDAPOne
)

// Search reports whether the user's entry has to be looked for.
func (o *LDAP) Search() bool { return o.BaseDN != "" }

// maxLDAP is the length of the longest options.
const maxLDAP = 1023

// parseLDAP reads the options of an HBA rule, or of auth_ldap_options. An error
// names no value that may be a password.
func parseLDAP(s string) (*LDAP, error) {
	if len(s) > maxLDAP {
		return nil, fmt.Errorf("the options are longer than %d bytes", maxLDAP)
	}
	o := &LDAP{}
	given := map[string]bool{}
	for s = strings.TrimLeft(s, ldapBlank); s != ""; {
		name, value, rest, err := cutLDAP(s)
		if err == nil {
			err = o.set(name, value)
		}
		if err != nil {
			return nil, err
		}
		given[name], s = true, rest
	}
	return o, o.complete(given)
}

// ldapBlank is what stands between options.
const ldapBlank = isspace + ","

// cutLDAP cuts the option off that s begins with, and what is blank behind it.
func cutLDAP(s string) (name, value, rest string, err error) {
	name, rest, ok := strings.Cut(s, "=")
	if !ok || strings.ContainsAny(name, ldapBlank+`"`) {
		return "", "", "", errors.New("the options are name=value, with blanks or commas between them")
	}
	if quoted, ok := strings.CutPrefix(rest, `"`); ok {
		if value, rest, ok = cutQuoted(quoted, '"'); !ok {
			return "", "", "", fmt.Errorf("%s: a quote is not closed", name)
		}
	} else {
		end := strings.IndexAny(rest, ldapBlank)
		if end < 0 {
			end = len(rest)
		}
		value, rest = rest[:end], rest[end:]
	}
	return name, value, strings.TrimLeft(rest, ldapBlank), nil
}

// shownLDAP is options that can be read, without the password among them.
func shownLDAP(s string) string {
	var shown strings.Builder
	for s != "" {
		name, _, rest, err := cutLDAP(strings.TrimLeft(s, ldapBlank))
		switch {
		case err != nil:
			return "(hidden)"
		case name == "ldapbindpasswd":
			shown.WriteString("ldapbindpasswd=(hidden) ")
		default:
			shown.WriteString(s[:len(s)-len(rest)])
		}
		s = rest
	}
	return strings.TrimRight(shown.String(), " ")
}

func (o *LDAP) set(name, value string) (err error) {
	switch name {
	case "ldapserver":
		o.Servers = strings.Fields(value)
	case "ldapport":
		if o.Port, err = strconv.Atoi(value); err != nil || o.Port < 1 || o.Port > 65535 {
			return fmt.Errorf("ldapport: %q is no port", value)
		}
	case "ldapscheme":
		return either(&o.TLS, name, value, "ldap", "ldaps")
	case "ldaptls":
		return either(&o.Start, name, value, "0", "1")
	case "ldapprefix":
		o.Prefix = value
	case "ldapsuffix":
		o.Suffix = value
	case "ldapbasedn":
		o.BaseDN = value
	case "ldapbinddn":
		o.BindDN = value
	case "ldapbindpasswd":
		o.BindPassword = value
	case "ldapsearchattribute":
		o.Attribute = value
	case "ldapsearchfilter":
		o.Filter = value
	case "ldapurl":
		return o.url(value)
	default:
		return fmt.Errorf("unknown LDAP option %q", name)
	}
	return nil
}

// either sets on to whether an option says yes; it must say that or no.
func either(on *bool, name, value, no, yes string) error {
	if value != no && value != yes {
		return fmt.Errorf("%s: %q must be %s or %s", name, value, no, yes)
	}
	*on = value == yes
	return nil
}

// url reads ldap://host:port/basedn?attribute?scope?filter.
func (o *LDAP) url(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "ldap" && u.Scheme != "ldaps" || u.User != nil {
		return errors.New("ldapurl: must be ldap[s]://host[:port]/basedn[?attribute[?scope[?filter]]]")
	}
	o.TLS = u.Scheme == "ldaps"
	if u.Host != "" {
		o.Servers = []string{u.Host}
	}
	o.BaseDN = strings.TrimPrefix(u.Path, "/")
	parts := strings.SplitN(u.RawQuery, "?", 3)
	for i, part := range parts {
		if parts[i], err = url.PathUnescape(part); err != nil {
			return errors.New("ldapurl: a % that begins no escape")
		}
	}
	parts = append(parts, "", "")
	o.Attribute, o.Filter = parts[0], ""
	switch parts[1] {
	case "", "sub":
		o.Scope = LDAPSub
	case "base":
		o.Scope = LDAPBase
	case "one":
		o.Scope = LDAPOne
	default:
		return fmt.Errorf("ldapurl: scope %q must be base, one or sub", parts[1])
	}
	if len(parts) > 4 {
		o.Filter = parts[2]
	}
	return nil
}

// complete checks what the options mean together.
func (o *LDAP) complete(given map[string]bool) error {
	bind := given["ldapprefix"] || given["ldapsuffix"]
	search := o.BaseDN != "" || given["ldapbinddn"] || given["ldapbindpasswd"] || given["ldapsearchattribute"] || given["ldapsearchfilter"]
	switch {
	case bind && search:
		return errors.New("ldapprefix and ldapsuffix don't go together with a search (ldapbasedn and the like)")
	case search && o.BaseDN == "":
		return errors.New("a search needs ldapbasedn")
	case !bind && !search:
		return errors.New("ldapprefix, ldapsuffix or ldapbasedn must say who a user is")
	case o.Attribute != "" && o.Filter != "":
		return errors.New("a search has an attribute or a filter, not both")
	case len(o.Servers) == 0 && o.BaseDN == "":
		return errors.New("ldapserver is missing")
	case o.TLS && o.Start:
		return errors.New("ldaptls=1 doesn't go together with ldaps")
	}
	if search && o.Attribute == "" && o.Filter == "" {
		o.Attribute = "uid"
	}
	if o.Port == 0 {
		if o.Port = 389; o.TLS {
			o.Port = 636
		}
	}
	return nil
}

// ldap reads auth_ldap_options.
func (l *loader) ldap() {
	text := l.snap.Main.AuthLDAPOptions
	if text == "" {
		return
	}
	o, err := parseLDAP(text)
	if err != nil {
		l.errorAt(l.settingAt("auth_ldap_options"), "auth_ldap_options: "+err.Error())
		return
	}
	l.snap.LDAP = o
}
