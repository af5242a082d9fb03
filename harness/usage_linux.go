package harness

import (
	"bytes"
	"os"
	"strconv"
	"time"
)

// groups is what the process groups of this machine use. Each process harness leads one, in which its children are.
type groups map[int]Usage

// processGroups reads them all, once for all harnesses. Spec: proc_pid_stat(5).
func processGroups() groups {
	all := make(groups)
	dir, err := os.Open("/proc")
	if err != nil {
		return all
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if name[0] < '1' || name[0] > '9' {
			continue
		}
		data, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended
		}
		if leader, u, ok := parseStat(data); ok {
			sum := all[leader]
			all[leader] = Usage{CPU: sum.CPU + u.CPU, Memory: sum.Memory + u.Memory}
		}
	}
	return all
}

// parseStat reads what a process uses, and which group it is of. The name of the command, in brackets, may have spaces and brackets.
func parseStat(data []byte) (leader int, u Usage, ok bool) {
	const group, utime, stime, cutime, cstime, resident = 2, 11, 12, 13, 14, 21 // counted from behind the name
	const tick = 10 * time.Millisecond                                          // USER_HZ is 100 on every Linux that Go runs on
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) <= resident {
		return 0, u, false
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(string(fields[i]), 10, 64)
		return n
	}
	for _, i := range []int{utime, stime, cutime, cstime} {
		u.CPU += time.Duration(number(i)) * tick
	}
	u.Memory = number(resident) * int64(os.Getpagesize())
	return int(number(group)), u, true
}

func (g groups) usage(leader int) (Usage, bool) {
	u, ok := g[leader]
	return u, ok
}
