package memory

import (
	"errors"
	"math"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// The limit where nobody has said one, and the least that a server can work with.
const (
	LimitDefault = 512 << 20
	LimitMin     = 128 << 20
)

// Source says where a limit comes from.
type Source string

// The sources of a limit.
const (
	FromFlag    Source = "flag"
	FromRuntime Source = "GOMEMLIMIT"
	FromCgroup  Source = "cgroup"
	FromDefault Source = "default"
)

// Detect returns the limit: the one that was asked for, if any; else Go's own variable GOMEMLIMIT; else the default, or half of what the
// cgroup may have if that is less: harness processes of a pool run in it, too.
func Detect(asked int64) (int64, Source) {
	if asked > 0 {
		return asked, FromFlag
	}
	if set := debug.SetMemoryLimit(-1); set != math.MaxInt64 {
		return set, FromRuntime
	}
	if half := cgroup() / 2; half > 0 && half < LimitDefault {
		return max(half, LimitMin), FromCgroup
	}
	return LimitDefault, FromDefault
}

// cgroup returns the limit of this process's cgroup, of either version; 0 when there is none.
func cgroup() int64 {
	limit, err := memlimit.FromCgroup()
	if errors.Is(err, memlimit.ErrNoLimit) || err != nil || limit > math.MaxInt64 {
		return 0
	}
	return int64(limit)
}

// collectPercent is how much garbage there may be, in percent of what is in use. Much of a server's memory is buffers and blocks, without
// pointers to follow, so that collecting is cheap: Go's own 100 saves a tenth of the CPU time of a GroupByKey, and takes a tenth more
// memory.
const collectPercent = 60

// Apply has Go's runtime collect garbage rather than grow beyond the limit, less what lies outside of its heap. $GOGC wins where it is
// set.
func Apply(limit, outside int64) {
	debug.SetMemoryLimit(max(limit-outside, LimitMin/2))
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectPercent)
	}
}
