package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// cgroup is a hard limit of memory for one process.
type cgroup struct {
	dir    string
	events string // file that counts processes killed for memory, in a line "oom_kill N"
}

// newCgroup makes a cgroup of so many MiB, of version 1 or 2. It needs root, and of version 2 a memory controller for the root's children.
func newCgroup(mib int64) (*cgroup, error) {
	kinds := [][3]string{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.oom_control"},
		{"/sys/fs/cgroup", "memory.max", "memory.events"},
	}
	var last error
	for _, kind := range kinds {
		dir, err := os.MkdirTemp(kind[0], "padstone-bench")
		if err != nil {
			last = err
			continue
		}
		if last = os.WriteFile(filepath.Join(dir, kind[1]), fmt.Append(nil, mib<<20), 0o600); last == nil {
			return &cgroup{dir: dir, events: filepath.Join(dir, kind[2])}, nil
		}
		_ = os.Remove(dir)
	}
	return nil, fmt.Errorf("no cgroup can be made here: %w", last)
}

// command has a shell join the cgroup and become the program.
func (c *cgroup) command(program string) []string {
	if c == nil {
		return []string{program}
	}
	return []string{"sh", "-c", `echo $$ > "$0" && exec "$@"`, filepath.Join(c.dir, "cgroup.procs"), program}
}

// killed is how many processes the limit has killed.
func (c *cgroup) killed() (n int, err error) {
	f, err := os.Open(c.events)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "oom_kill "); ok {
			_, err = fmt.Sscan(text, &n)
			return n, err
		}
	}
	return 0, fmt.Errorf("%s does not count killed processes", c.events)
}

// remove removes the cgroup, whose processes must have ended.
func (c *cgroup) remove() { _ = os.Remove(c.dir) }
