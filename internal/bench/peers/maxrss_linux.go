package peers

import "syscall"

// maxBytes is the most memory of a process that has ended. Spec: getrusage(2): kilobytes.
func maxBytes(u *syscall.Rusage) int64 { return u.Maxrss << 10 }
