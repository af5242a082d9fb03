package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Tree returns what processes and their descendants have used.
func Tree(pids ...int) (Usage, error) {
	all := processes()
	var total Usage
	for _, pid := range pids {
		if _, ok := all[pid]; !ok {
			return Usage{}, fmt.Errorf("there is no process %d", pid)
		}
		u := sum(all, append(below(all, pid), pid))
		total.CPU, total.PeakBytes, total.Processes = total.CPU+u.CPU, total.PeakBytes+u.PeakBytes, total.Processes+u.Processes
	}
	return total, nil
}

// Children returns the processes that a process has started itself, as far as they run.
func Children(pid int) (pids []int, err error) {
	for child, s := range processes() {
		if s.parent == pid {
			pids = append(pids, child)
		}
	}
	return pids, nil
}

// ForgetPeak begins the peak of a process and its descendants anew. Spec: proc_pid_clear_refs(5). Only their user may.
func ForgetPeak(pid int) error {
	all := processes()
	for _, p := range append(below(all, pid), pid) {
		if err := os.WriteFile(filepath.Join("/proc", strconv.Itoa(p), "clear_refs"), []byte("5"), 0); err != nil {
			return err
		}
	}
	return nil
}

// Listener returns the process that listens on a port of this machine. A process of another user cannot be seen.
func Listener(port int) (pid int, err error) {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue // a kernel without IPv6 has no tcp6
		}
		if inode, ok := parseListener(string(text), port); ok {
			return holder("socket:[" + inode + "]")
		}
	}
	return 0, fmt.Errorf("nothing on this machine listens on port %d", port)
}

// holder returns the process that has a socket open.
func holder(socket string) (int, error) {
	for pid := range processes() {
		dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // it has ended, or is another user's
		}
		for _, e := range entries {
			if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && target == socket {
				return pid, nil
			}
		}
	}
	return 0, fmt.Errorf("the process that has %s open belongs to another user", socket)
}

// processes reads all processes; those that end meanwhile are left out.
func processes() map[int]stat {
	all := map[int]stat{}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return all
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue
		}
		if s, err := parseStat(strings.TrimSpace(string(text))); err == nil {
			all[pid] = s
		}
	}
	return all
}

func sum(all map[int]stat, pids []int) (u Usage) {
	for _, pid := range pids {
		u.CPU += all[pid].cpu
		u.Processes++
		if text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status")); err == nil {
			u.PeakBytes += parsePeak(string(text))
		}
	}
	return u
}
