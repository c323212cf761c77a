package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Number returns the environment variable called name, which must be a positive
// number, and otherwise if it is not set.
func Number(name string, otherwise int) (int, error) {
	text := os.Getenv(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s = %q is not a positive number", name, text)
	}
	return n, nil
}

// Program returns the absolute path of a program on the PATH, or in /usr/sbin,
// which is not on everybody's.
func Program(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		var missing error
		if path, missing = exec.LookPath("/usr/sbin/" + name); missing != nil {
			return "", err
		}
	}
	return filepath.Abs(path)
}

// Field returns the value of the first "name : value" line of a /proc file.
func Field(path, name string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
