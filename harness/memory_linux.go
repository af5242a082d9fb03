package harness

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// memoryKills returns how many processes the kernel has killed for memory: in the whole machine, and where it can be read in this server's
// control group, to which its harnesses belong. The kernel's log, which has their names, is for the superuser.
func memoryKills() (kills int64) {
	for _, path := range append([]string{"/proc/vmstat"}, memoryGroups()...) {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			if v, ok := strings.CutPrefix(line, "oom_kill "); ok {
				n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
				kills += n
			}
		}
	}
	return kills
}

// memoryGroups lists the files in which the control groups of this process count what they have killed, in both versions of them.
func memoryGroups() (files []string) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(f) < 3:
		case f[1] == "":
			files = append(files, filepath.Join("/sys/fs/cgroup", f[2], "memory.events"))
		case strings.Contains(","+f[1]+",", ",memory,"):
			files = append(files, filepath.Join("/sys/fs/cgroup/memory", f[2], "memory.oom_control"))
		}
	}
	return files
}

// peakMemory is the most memory that a process that has ended has had in bytes; 0 if that is not known.
func peakMemory(state *os.ProcessState) int64 {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0
	}
	return usage.Maxrss << 10
}
