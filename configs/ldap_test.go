package configs

import (
	"fmt"
	"strings"
	"testing"
)

func TestLDAPOptions(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`ldapserver=a ldapprefix="cn=" ldapsuffix=", dc=x"`, `{Servers:[a] Port:389 TLS:false Start:false Prefix:cn= Suffix:, dc=x BaseDN: BindDN: BindPassword: Attribute: Filter: Scope:0}`},
		{`ldapscheme=ldaps,ldapbasedn="dc=x"`, `{Servers:[] Port:636 TLS:true Start:false Prefix: Suffix: BaseDN:dc=x BindDN: BindPassword: Attribute:uid Filter: Scope:0}`},
		{`ldapserver=a ldaptls=1 ldapbasedn=x ldapsearchfilter="(a=$username)"`, `{Servers:[a] Port:389 TLS:false Start:true Prefix: Suffix: BaseDN:x BindDN: BindPassword: Attribute: Filter:(a=$username) Scope:0}`},
		{`ldapurl="ldaps://h:7/dc=x,dc=y?mail?one"`, `{Servers:[h:7] Port:636 TLS:true Start:false Prefix: Suffix: BaseDN:dc=x,dc=y BindDN: BindPassword: Attribute:mail Filter: Scope:2}`},
		{`ldapurl="ldap:///dc=x???(a=%20b)"`, `{Servers:[] Port:389 TLS:false Start:false Prefix: Suffix: BaseDN:dc=x BindDN: BindPassword: Attribute: Filter:(a= b) Scope:0}`},
	} {
		o, err := parseLDAP(tt.text)
		if err != nil || fmt.Sprintf("%+v", *o) != tt.want {
			t.Errorf("%s:\n got %+v, %v\nwant %s", tt.text, o, err, tt.want)
		}
	}
	for text, want := range map[string]string{
		"":                                       "must say who a user is",
		"ldapserver":                             "the options are name=value",
		"ldapserver=a":                           "must say who a user is",
		"ldapprefix=a":                           "ldapserver is missing",
		"ldapserver=a ldapport=x":                "is no port",
		"ldapserver=a ldapport=65536":            "is no port",
		"ldapserver=a ldapscheme=x":              "must be ldap or ldaps",
		"ldapserver=a ldaptls=2":                 "must be 0 or 1",
		"ldapserver=a ldapprefix=a ldapbasedn=x": "don't go together with a search",
		"ldapserver=a ldapbinddn=x":              "a search needs ldapbasedn",
		"ldapserver=a ldapbasedn=x ldapsearchattribute=a ldapsearchfilter=(b=c)": "not both",
		"ldapserver=a ldapbasedn=x ldapscheme=ldaps ldaptls=1":                   "doesn't go together with ldaps",
		`ldapserver="a`:                   "a quote is not closed",
		"ldapsomething=secret":            `unknown LDAP option "ldapsomething"`,
		"ldapurl=http://a/b":              "ldapurl: must be",
		"ldapurl=ldap://a/b?c?deep":       "must be base, one or sub",
		"ldapurl=ldap://a/b?%zz":          "a % that begins no escape",
		strings.Repeat("x", 1024):         "longer than 1023 bytes",
		"ldapbindpasswd=secret ldapx=hem": `unknown LDAP option "ldapx"`,
	} {
		if _, err := parseLDAP(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestShownLDAP: SHOW CONFIG has the options without the password.
func TestShownLDAP(t *testing.T) {
	for options, want := range map[string]string{
		`ldapserver=a ldapprefix="cn="`:                                                          `ldapserver=a ldapprefix="cn="`,
		`ldapserver=a, ldapbasedn=x ldapbindpasswd=secret ldapbinddn="y z"`:                      `ldapserver=a, ldapbasedn=x ldapbindpasswd=(hidden) ldapbinddn="y z"`,
		`ldapbindpasswd="a secret",ldapserver=a ldapbasedn=x ldapbindpasswd="an"",other secret"`: `ldapbindpasswd=(hidden) ldapserver=a ldapbasedn=x ldapbindpasswd=(hidden)`,
	} {
		s := parse(t, "[pgbouncer]\nauth_ldap_options = "+options+"\n[databases]\n")
		if got, _, _ := s.Value("auth_ldap_options"); got != want {
			t.Errorf("%s is shown as %s, want %s", options, got, want)
		}
	}
}
