package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is USER_HZ, the unit of the times in /proc/PID/stat. It is 100
// on every platform that Go runs on.
const ticksPerSecond = 100

// CPU is the processor time that the program has used so far, in user mode and
// in the kernel, over all its threads (fields 14 and 15 of proc_pid_stat(5)).
func (p *Process) CPU() (user, system time.Duration, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return 0, 0, err
	}
	// The second field is the name in parentheses and may hold anything.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	const utime, stime = 14 - 3, 15 - 3
	for i, to := range map[int]*time.Duration{utime: &user, stime: &system} {
		ticks, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return 0, 0, err
		}
		*to = time.Duration(ticks) * time.Second / ticksPerSecond
	}
	return user, system, nil
}

// Memory is the program's memory in bytes: its resident set, and its
// proportional share of it (Rss and Pss of proc_pid_smaps_rollup(5)).
func (p *Process) Memory() (rss, pss int64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.PID()))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		var kb int64
		if _, err := fmt.Sscanf(line, "Rss: %d kB", &kb); err == nil {
			rss = kb << 10
		}
		if _, err := fmt.Sscanf(line, "Pss: %d kB", &kb); err == nil {
			pss = kb << 10
		}
	}
	if rss == 0 {
		return 0, 0, fmt.Errorf("no Rss in smaps_rollup of pid %d", p.PID())
	}
	return rss, pss, nil
}

// Descriptors lists what the program's open file descriptors point to, as
// "socket:[123]" or a path.
func (p *Process) Descriptors() ([]string, error) {
	dir := fmt.Sprintf("/proc/%d/fd", p.PID())
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var open []string
	for _, e := range entries {
		if target, err := os.Readlink(dir + "/" + e.Name()); err == nil { // it may be closed by now
			open = append(open, target)
		}
	}
	return open, nil
}
