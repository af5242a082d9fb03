//go:build !linux

package harness

import "os"

// memoryKills and peakMemory are known on Linux only.
func memoryKills() int64 { return 0 }

func peakMemory(*os.ProcessState) int64 { return 0 }
