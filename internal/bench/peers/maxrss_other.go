//go:build !linux

package peers

import "syscall"

// maxBytes is the most memory of a process that has ended: bytes, on the systems of BSD's family.
func maxBytes(u *syscall.Rusage) int64 { return u.Maxrss }
