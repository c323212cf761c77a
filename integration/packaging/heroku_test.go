package packaging

import (
	"context"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// version is what the buildpacks are made as.
const version = "1.2.3"

// folder is that of the buildpacks.
var folder string

func TestMain(m *testing.M) {
	var err error
	if folder, err = os.MkdirTemp("", "pgweir-packaging-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(folder)
	os.Exit(code)
}

// packed makes the buildpacks once and returns their folder.
var packed = sync.OnceValues(func() (string, error) {
	_, err := run("", []string{"ARCHS=" + runtime.GOARCH, "GOFLAGS=-buildvcs=false"}, filepath.Join(top, "configs/heroku/pack"), folder, version)
	return folder, err
})

func buildpack(t *testing.T, kind string) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("dynos run Linux")
	}
	dir, err := packed()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, kind)
}

// run runs a program in dir, with env besides this process' environment.
func run(dir string, env []string, name string, args ...string) (stdout string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Env = dir, append(os.Environ(), env...)
	var stderr strings.Builder
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		return string(out), &failure{name, err, string(out) + stderr.String()}
	}
	return string(out), nil
}

type failure struct {
	name string
	err  error
	text string
}

func (f *failure) Error() string { return f.name + ": " + f.err.Error() + "\n" + f.text }
func (f *failure) Unwrap() error { return f.err }

func must(t *testing.T) func(out string, err error) string {
	return func(out string, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// TestClassic builds a slug as Heroku does, and looks at it as a dyno does.
func TestClassic(t *testing.T) {
	pack, app, none := buildpack(t, "classic"), t.TempDir(), t.TempDir()
	if out := must(t)(run(app, nil, pack+"/bin/detect", app)); out != "pgweir\n" {
		t.Errorf("bin/detect says %q", out)
	}
	out := must(t)(run("/", nil, pack+"/bin/compile", app, none, none))
	if !strings.HasPrefix(out, "-----> PgBouncer ") || !strings.Contains(out, version) {
		t.Errorf("bin/compile says\n%s", out)
	}
	if out := must(t)(run("/", nil, pack+"/bin/release", app)); out != "--- {}\n" {
		t.Errorf("bin/release says %q", out)
	}
	dyno := []string{"HOME=" + app}
	out = must(t)(run(app, dyno, "sh", "-c", ". .profile.d/pgweir.sh; pgweir --version; command -v bin/start-pgbouncer"))
	if !strings.Contains(out, "(pgweir "+version+")") || !strings.HasSuffix(out, "bin/start-pgbouncer\n") {
		t.Errorf("in the dyno there is\n%s", out)
	}

	// start-pgbouncer gives the app a URL of its own, and its exit status back.
	out, err := run(app, append(dyno, "DATABASE_URL=postgres://u:p@127.0.0.1:1/db", "PGWEIR_WAIT=0"),
		"sh", "-c", `. .profile.d/pgweir.sh; bin/start-pgbouncer sh -c 'echo "$DATABASE_URL"; exit 7'`)
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != 7 || !strings.HasPrefix(out, "postgres://u:p@127.0.0.1:") || strings.Contains(out, ":1/") {
		t.Errorf("the app has the URL %q and ends with %v", out, err)
	}

	// Again, over what is there: the app's own script stays.
	write(t, app+"/bin/start-pgbouncer", "mine")
	out = must(t)(run("/", nil, pack+"/bin/compile", app, none, none))
	if got := read(t, app+"/bin/start-pgbouncer"); got != "mine" || !strings.Contains(out, "bin/start-pgbouncer is the app's own") {
		t.Errorf("the app's own start-pgbouncer is %q; bin/compile says\n%s", got, out)
	}

	// The folder as it lies in the repository has no program in it.
	if out, err := run("/", nil, mustAbs(t, top+"/configs/heroku/classic/bin/compile"), app, none, none); err == nil || !strings.Contains(err.Error(), "make buildpacks") {
		t.Errorf("without a program: %q, %v", out, err)
	}
}

func mustAbs(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// TestCNB builds as a lifecycle of Cloud Native Buildpacks does.
func TestCNB(t *testing.T) {
	pack, app, layers := buildpack(t, "cnb"), t.TempDir(), t.TempDir()
	env := []string{"CNB_LAYERS_DIR=" + layers, "CNB_BUILDPACK_DIR=" + pack, "CNB_TARGET_ARCH=" + runtime.GOARCH, "CNB_BUILD_PLAN_PATH=" + layers + "/plan.toml"}
	must(t)(run(app, env, pack+"/bin/detect"))
	for range 2 { // the second time over a layer from before
		must(t)(run(app, env, pack+"/bin/build"))
	}
	if out := must(t)(run(app, nil, layers+"/pgweir/bin/pgweir", "--version")); !strings.Contains(out, "(pgweir "+version+")") {
		t.Errorf("the layer's program says\n%s", out)
	}
	if got := read(t, layers+"/pgweir.toml"); got != "[types]\nlaunch = true\n" {
		t.Errorf("the layer is\n%s", got)
	}
	shim := read(t, top+"/configs/heroku/shims/start-pgbouncer")
	if read(t, app+"/bin/start-pgbouncer") != shim || read(t, layers+"/pgweir/bin/start-pgbouncer") != shim {
		t.Error("start-pgbouncer is another one")
	}
	if text := read(t, pack+"/buildpack.toml"); !strings.Contains(text, "\nversion = \""+version+"\"\n") || strings.Count(text, "[[targets]]") != 2 {
		t.Errorf("buildpack.toml is\n%s", text)
	}
}

// TestArchives: what is uploaded has everything at its top.
func TestArchives(t *testing.T) {
	for kind, want := range map[string]string{"classic": "./bin/compile", "cnb": "./buildpack.toml"} {
		pack := buildpack(t, kind)
		out := must(t)(run("", nil, "tar", "-tzf", pack+".tgz"))
		for _, want := range []string{want, "./bin/detect", "./program/pgweir-" + runtime.GOARCH, "./shims/start-pgbouncer"} {
			if !strings.Contains(out, want+"\n") {
				t.Errorf("%s.tgz lacks %s:\n%s", kind, want, out)
			}
		}
	}
}

// TestStatic: the program needs nothing but the kernel, so it runs in an image
// from scratch too.
func TestStatic(t *testing.T) {
	f, err := elf.Open(buildpack(t, "classic") + "/program/pgweir-" + runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			name, _ := io.ReadAll(p.Open())
			t.Errorf("the program is loaded by %q", name)
		}
	}
}
