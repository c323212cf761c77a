package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/pgweir/pgweir/pool"
)

// version is pgweir's own version; the build may set it (-X main.version=).
var version = pool.Version

// productVersion is the cell of SHOW VERSION, the first line of --version and
// part of "process up". Exporters and dashboards look for "PgBouncer X.Y.Z" in
// it, or for the first X.Y.Z, and choose by it which columns to expect.
func productVersion() string {
	return "PgBouncer " + pool.Compatible + " (pgweir " + version + ")"
}

// versionText is what --version prints.
func versionText() string {
	return fmt.Sprintf("%s\n%s\nevents: %s\nplatform: %s/%s\n",
		productVersion(), runtime.Version(), eventSource(), runtime.GOOS, runtime.GOARCH)
}

// eventSource is the system call that the event loops wait with: epoll on
// Linux, but when built with -tags pollloop, and poll elsewhere.
func eventSource() string {
	if runtime.GOOS != "linux" {
		return "poll"
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-tags" && slices.Contains(strings.Split(s.Value, ","), "pollloop") {
				return "poll"
			}
		}
	}
	return "epoll"
}
