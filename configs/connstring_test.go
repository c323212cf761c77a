package configs

import (
	"slices"
	"testing"
)

func TestParseConnString(t *testing.T) {
	for _, tt := range []struct {
		text  string
		want  []pair
		notes int
		bad   bool
	}{
		{text: ""},
		{text: "   "},
		{text: "host=a port=1", want: []pair{{"host", "a"}, {"port", "1"}}},
		{text: "  host  =   a   ", want: []pair{{"host", "a"}}},
		{text: "a='b c' d=e", want: []pair{{"a", "b c"}, {"d", "e"}}},
		{text: "a='it''s' b='''' c=d'e", want: []pair{{"a", "it's"}, {"b", "'"}, {"c", "d'e"}}},
		{text: `a='\' b=c`, want: []pair{{"a", `\`}, {"b", "c"}}},
		{text: "a=b=c", want: []pair{{"a", "b=c"}}},
		{text: "a='b'c=d", bad: true}, // the c is dropped
		{text: "a='b'xc=d", want: []pair{{"a", "b"}, {"c", "d"}}, notes: 1},
		{text: "a=b\tc=d", want: []pair{{"a", "b\tc=d"}}, notes: 1},
		{text: "\ta=b", want: []pair{{"\ta", "b"}}},
		{text: "a", bad: true},
		{text: "a b=c", bad: true},
		{text: "=a", bad: true},
		{text: "a=", bad: true},
		{text: "a=''", bad: true},
		{text: "a='b", bad: true},
		{text: "a='b''", bad: true},
		{text: "a = 'b' c", bad: true},
	} {
		got, notes, err := parseConnString(tt.text)
		if !slices.Equal(got, tt.want) || len(notes) != tt.notes || (err != nil) != tt.bad {
			t.Errorf("%q: %q, %q, %v; want %q", tt.text, got, notes, err, tt.want)
		}
	}
}

func TestAtoi(t *testing.T) {
	for _, tt := range []struct {
		text  string
		want  int
		plain bool
	}{
		{"0", 0, true},
		{"12", 12, true},
		{"-12", -12, true},
		{"+12", 12, true},
		{" 12", 12, true},
		{"010", 10, true},
		{"12x", 12, false},
		{"1.9", 1, false},
		{"x", 0, false},
		{"-", 0, false},
		{"", 0, false},
		{"99999999999999999999", 1<<31 - 1, true},
	} {
		if got, plain := atoi(tt.text); got != tt.want || plain != tt.plain {
			t.Errorf("atoi(%q) = %d, %v; want %d, %v", tt.text, got, plain, tt.want, tt.plain)
		}
	}
}
