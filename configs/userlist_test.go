package configs

import (
	"slices"
	"strings"
	"testing"
)

func TestParseUserlist(t *testing.T) {
	long := strings.Repeat("x", MaxSecret)
	for _, tt := range []struct {
		text string
		want map[string]string
		err  string
	}{
		{text: ""},
		{text: "\n ; \"no\" \"comment\"\n;\n"},
		{text: `"u" "p"`, want: map[string]string{"u": "p"}},
		{text: "  \"u\"\t\"p\" and more\r\n\"v\"\"\" \"q\"", want: map[string]string{"u": "p", `v"`: "q"}},
		{text: `"u""p"`, err: "users.txt:1: broken auth file: the secret, in double quotes, must follow the user name"},
		{text: `"u" ""` + "\n" + `"u" "again"`, want: map[string]string{"u": "again"}},
		{text: `"" ""`, want: map[string]string{"": ""}},
		{text: `"u" "` + long + `"`, want: map[string]string{"u": long}},
		{text: `"u" "` + long + `x"`, err: "users.txt:1: broken auth file: the secret is longer than 65530 bytes"},
		{text: `"` + long[:MaxUserName+1] + `" ""`, err: "users.txt:1: broken auth file: the user name is longer than 127 bytes"},
		{text: "\"u\" \"p\"\n# no comment\n\"v\" \"q\"", want: map[string]string{"u": "p"}, err: "users.txt:2: broken auth file: comments begin with ; here, not with #"},
		{text: `u p`, err: "users.txt:1: broken auth file: the user name must stand in double quotes"},
		{text: `"u`, err: "users.txt:1: broken auth file: the user name has no closing quote"},
		{text: `"u" p`, err: "users.txt:1: broken auth file: the secret, in double quotes, must follow the user name"},
		{text: `"u" "p`, err: "users.txt:1: broken auth file: the secret has no closing quote"},
		{text: "\"u\" \"p\x00q\"", err: "users.txt:1: broken auth file: a zero byte; the file must be plain text"},
	} {
		l, err := ParseUserlist("users.txt", tt.text)
		if (err != nil || tt.err != "") && (err == nil || err.Error() != tt.err) {
			t.Errorf("%.40q: %v, want %s", tt.text, err, tt.err)
		}
		if l.Len() != len(tt.want) {
			t.Errorf("%.40q: %v, want %d", tt.text, l, len(tt.want))
		}
		for name, secret := range tt.want {
			if got, ok := l.Lookup(name); !ok || got != secret {
				t.Errorf("%.40q: the secret of %q is %.40q, %v", tt.text, name, got, ok)
			}
		}
	}
}

func TestNoUserlist(t *testing.T) {
	var none *Userlist
	if _, ok := none.Lookup(""); ok || none.Len() != 0 || len(slices.Collect(none.Names())) != 0 {
		t.Error("no list knows somebody")
	}
	l, err := ParseUserlist("users.txt", "\"b\" \"\"\n\"a\" \"\"\n")
	if got := slices.Sorted(l.Names()); err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("names are %v, %v", got, err)
	}
}
