package configs

import "testing"

func TestEdits(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "ABC", 3},
		{"ABC", "", 3},
		{"POOLS", "POOLS", 0},
		{"POLS", "POOLS", 1},
		{"RESMUE", "RESUME", 1},
		{"STATE", "STATS", 1},
		{"KITTEN", "SITTING", 3},
	} {
		if got := edits(test.a, test.b); got != test.want {
			t.Errorf("edits(%s, %s) = %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
