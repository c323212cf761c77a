package sim

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMutationsHavePlaces: each mutation finds the one place that it breaks, so
// that a change of the code does not leave it behind.
func TestMutationsHavePlaces(t *testing.T) {
	for _, m := range append(mutations, shareMutations...) {
		text, err := os.ReadFile(filepath.Join("../..", m.file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), m.find); n != 1 {
			t.Errorf("%s: %s has %d places to break, and should have one: %q", m.name, m.file, n, m.find)
		}
	}
}
