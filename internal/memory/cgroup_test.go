package memory_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"padstone/internal/memory"
)

// detects says that this process is to print what it detects, and nothing else.
const detects = "PADSTONE_TEST_DETECTS"

func TestMain(m *testing.M) {
	if os.Getenv(detects) != "" {
		fmt.Println(memory.Detect(0))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestLimitOfACgroup starts processes in a cgroup of their own, of whichever version there is: the limit is half of the cgroup's, unless
// that leaves too little.
func TestLimitOfACgroup(t *testing.T) {
	for mib, want := range map[int64]string{600: "314572800 cgroup\n", 160: "134217728 cgroup\n", 4096: "536870912 default\n"} {
		procs := cgroup(t, mib)
		cmd := exec.Command("sh", "-c", `echo $$ > "$1" && exec "$2"`, "sh", procs, os.Args[0])
		cmd.Env = append(os.Environ(), detects+"=1", "GOMEMLIMIT=off")
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("in %d MiB: %q, %v; want %q", mib, out, err, want)
		}
	}
}

// cgroup makes a cgroup with a limit and returns the file that takes its processes.
func cgroup(t *testing.T, mib int64) string {
	t.Helper()
	for root, limit := range map[string]string{"/sys/fs/cgroup/memory": "memory.limit_in_bytes", "/sys/fs/cgroup": "memory.max"} {
		dir, err := os.MkdirTemp(root, "padstone-test")
		if err != nil {
			continue
		}
		path := filepath.Join(dir, limit) // what it is that has been made shows by whether it has such a file
		if _, err := os.Stat(path); err != nil || os.WriteFile(path, fmt.Append(nil, mib<<20), 0o600) != nil {
			_ = os.Remove(dir)
			continue
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
		return filepath.Join(dir, "cgroup.procs")
	}
	t.Skip("no cgroup can be made here")
	return ""
}
