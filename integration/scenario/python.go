package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/pgweir/pgweir/integration/sandbox"
)

// python is the folder of the programs that the app needs.
type python string

// install installs what the app's requirements.txt names, each version pinned,
// below cache. What is there already, of the same pins, stays.
func install(ctx context.Context, source, cache string) (python, error) {
	pins, err := os.ReadFile(filepath.Join(source, "requirements.txt"))
	if err != nil {
		return "", err
	}
	bin, stamp := filepath.Join(cache, "venv", "bin"), filepath.Join(cache, "installed")
	if done, err := os.ReadFile(stamp); err == nil && bytes.Equal(done, pins) {
		return python(bin), nil
	}
	if err := sandbox.Retry(ctx, func() error {
		if err := os.RemoveAll(cache); err != nil {
			return err
		}
		if err := os.MkdirAll(cache, 0o755); err != nil {
			return err
		}
		for _, command := range [][]string{
			{"python3", "-m", "venv", filepath.Dir(bin)},
			{filepath.Join(bin, "pip"), "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "-r", filepath.Join(source, "requirements.txt")},
		} {
			if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w\n%s", command[0], err, out)
			}
		}
		return nil
	}); err != nil {
		return "", err
	}
	return python(bin), os.WriteFile(stamp, pins, 0o644)
}

// gunicorn is the command that serves the app in the folder source.
func (p python) gunicorn(source string) []string {
	return []string{
		filepath.Join(string(p), "python"), "-B", filepath.Join(string(p), "gunicorn"),
		"--chdir", source, "-c", filepath.Join(source, "gunicorn.conf.py"), "app:application",
	}
}
