package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPAM: a binary that can't ask PAM says so when it reads the file.
func TestPAM(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pgweir.ini")
	if err := os.WriteFile(path, []byte("[databases]\n* = host=db.example\n[pgbouncer]\nauth_type = pam\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	if hasPAM && err != nil || !hasPAM && (err == nil || !strings.Contains(err.Error(), ":4: auth_type: this binary was built without PAM")) {
		t.Errorf("with PAM: %v, %v", hasPAM, err)
	}
}
