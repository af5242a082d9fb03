package peers

import (
	"embed"
	"os"
	"slices"
	"time"
)

//go:embed load/padstone_load/*.py
var kitFiles embed.FS

// Case is one pipeline of the kit.
type Case struct {
	Name     string
	Elements int // at full size
	// About says how long it takes on a slow machine, for the estimate.
	About time.Duration
}

// Empty is the job that the cost of starting one is taken from, Latency the one that measures no cost.
const (
	Empty   = "empty"
	Latency = "latency"
)

// cases are in the order in which they run. Names and pipelines: load/padstone_load/cases.py.
var cases = []Case{
	{Empty, 1, 3 * time.Second},
	{"chain", 1_000_000, 8 * time.Second},
	{"reshuffle", 300_000, 8 * time.Second},
	{"reshuffle_10k", 20_000, 10 * time.Second},
	{"gbk", 1_000_000, 10 * time.Second},
	{"gbk_hot", 1_000_000, 10 * time.Second},
	{"combine", 1_000_000, 8 * time.Second},
	{"mission", 200_000, 14 * time.Second},
	{"state", 10_000, 10 * time.Second},
	{"side_multimap", 10_000, 10 * time.Second},
	{Latency, 0, 18 * time.Second},
}

// Names lists the cases.
func Names() (names []string) {
	for _, c := range cases {
		names = append(names, c.Name)
	}
	return names
}

// Select returns the cases with the names, in the order in which they run. Where anything is to be taken off for starting a job, the
// empty one is among them. ok is false if there is none of a name, which is returned then.
func Select(names []string) (selected []Case, unknown string, ok bool) {
	for _, name := range names {
		if !slices.Contains(Names(), name) {
			return nil, name, false
		}
	}
	base := slices.ContainsFunc(names, func(name string) bool { return name != Latency })
	for _, c := range cases {
		if slices.Contains(names, c.Name) || base && c.Name == Empty {
			selected = append(selected, c)
		}
	}
	return selected, "", true
}

// Size is how large the cases are.
type Size string

// Sizes. Small ones show that everything works; what they cost is mostly start-up.
const (
	Small Size = "small"
	Full  Size = "full"
)

// elements is the size of a case.
func (s Size) elements(c Case) int {
	if s == Small {
		return max(1, c.Elements/20)
	}
	return c.Elements
}

// latencySeconds is how long the latency case sends.
func (s Size) latencySeconds() float64 {
	if s == Small {
		return 2
	}
	return 12
}

// unpack writes the kit to a directory, which goes to PYTHONPATH.
func unpack(dir string) error {
	return os.CopyFS(dir, kitFiles)
}
