package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pgweir/pgweir/configs"
)

// top is the top of the repository.
const top = "../.."

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestSystemd has systemd read the units, whose program is not installed here.
func TestSystemd(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("no systemd here")
	}
	dir := t.TempDir()
	for _, unit := range []string{"pgweir.service", "pgweir.socket"} {
		text := strings.ReplaceAll(read(t, top+"/configs/systemd/"+unit), "/usr/local/bin/pgweir", "/bin/true")
		write(t, filepath.Join(dir, unit), text)
	}
	c := exec.CommandContext(t.Context(), analyze, "verify", filepath.Join(dir, "pgweir.service"), filepath.Join(dir, "pgweir.socket"))
	out, err := c.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "pgweir.") && !strings.Contains(line, "is marked executable") {
			t.Errorf("%s (%v)", line, err)
		}
	}
}

// TestKubernetes: the configurations in the manifests are good ones.
func TestKubernetes(t *testing.T) {
	manifests, err := filepath.Glob(top + "/configs/kubernetes/*.yaml")
	if err != nil || len(manifests) != 2 {
		t.Fatalf("manifests: %v, %v", manifests, err)
	}
	for _, path := range manifests {
		_, block, found := strings.Cut(read(t, path), "  pgbouncer.ini: |\n")
		if !found {
			t.Errorf("%s: no pgbouncer.ini", path)
		}
		var ini strings.Builder
		for line := range strings.Lines(block) {
			text, ok := strings.CutPrefix(line, "    ")
			if !ok {
				break
			}
			ini.WriteString(text)
		}
		s, err := configs.Parse(path, ini.String())
		if err != nil {
			t.Error(err)
			continue
		}
		m := &s.Main
		if len(s.Databases) != 1 || m.UnixSocketDir != "" || m.HTTPListen != "0.0.0.0:9127" || m.AuthFile != "/etc/pgbouncer-secret/userlist.txt" {
			t.Errorf("%s has another configuration:\n%s", path, &ini)
		}
		if strings.Contains(read(t, path), "\t") {
			t.Errorf("%s has tabs", path)
		}
	}
}

// TestDockerfile: the image is built with a Go that go.mod takes.
func TestDockerfile(t *testing.T) {
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, top+"/go.mod"))
	text := read(t, top+"/configs/docker/Dockerfile")
	if version == nil || !strings.Contains(text, " golang:"+version[1]) {
		t.Errorf("go.mod says %v", version)
	}
	known := regexp.MustCompile(`^(#|FROM|ARG|WORKDIR|COPY|RUN|USER|EXPOSE|ENTRYPOINT|CMD) ?`)
	continued := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line != "" && line != "#" && !continued && !known.MatchString(line) {
			t.Errorf("what is %q?", line)
		}
		continued = strings.HasSuffix(line, `\`)
	}
}
