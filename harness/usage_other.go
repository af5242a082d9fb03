//go:build !linux

package harness

// groups: what processes use is not known on this system.
type groups map[int]Usage

func processGroups() groups { return groups{} }

func (groups) usage(int) (Usage, bool) { return Usage{}, false }
