package proc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ErrUnknown says that this system does not tell.
var ErrUnknown = errors.New("not known on this system")

// Usage is what processes have used since they began.
type Usage struct {
	CPU time.Duration
	// PeakBytes is the sum of the most memory that each of them has had.
	PeakBytes int64
	Processes int
}

// tick is the unit of CPU times in /proc. Spec: proc_pid_stat(5); USER_HZ is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// stat is a part of /proc/PID/stat.
type stat struct {
	parent int
	cpu    time.Duration // its own, and that of the children that it has waited for
}

// parseStat reads /proc/PID/stat. Spec: proc_pid_stat(5). The command's name, in brackets, may have spaces and brackets itself.
func parseStat(text string) (s stat, err error) {
	end := strings.LastIndexByte(text, ')')
	if end < 0 {
		return s, fmt.Errorf("stat %q has no name of a command", text)
	}
	const parent, utime, stime, cutime, cstime = 1, 11, 12, 13, 14 // counted from behind the name
	fields := strings.Fields(text[end+1:])
	if len(fields) <= cstime {
		return s, fmt.Errorf("stat %q has %d fields behind the name", text, len(fields))
	}
	if s.parent, err = strconv.Atoi(fields[parent]); err != nil {
		return s, fmt.Errorf("stat %q: %w", text, err)
	}
	for _, i := range []int{utime, stime, cutime, cstime} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return s, fmt.Errorf("stat %q: %w", text, err)
		}
		s.cpu += time.Duration(n) * tick
	}
	return s, nil
}

// parsePeak reads the most memory that a process has had from /proc/PID/status; 0 for a process that has none of its own.
func parsePeak(text string) int64 {
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// parseListener returns the inode of the socket that listens on the port, from /proc/net/tcp or tcp6.
func parseListener(text string, port int) (inode string, ok bool) {
	const local, state, inodeField = 1, 3, 9
	const listening = "0A"
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) <= inodeField || fields[state] != listening {
			continue
		}
		_, hex, _ := strings.Cut(fields[local], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); err == nil && int(n) == port {
			return fields[inodeField], true
		}
	}
	return "", false
}

// below returns the processes whose ancestor is pid, without it.
func below(all map[int]stat, pid int) (pids []int) {
	for p := range all {
		// A chain of parents is short; the bound is for one that changes while it is read.
		for at, hops := all[p].parent, 0; at > 0 && hops < 64; at, hops = all[at].parent, hops+1 {
			if at == pid {
				pids = append(pids, p)
				break
			}
		}
	}
	return pids
}
