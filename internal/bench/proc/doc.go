// Package proc reads what other processes of this machine have used: CPU time and memory of a process with its descendants, and which
// process listens on a port. It knows Linux's /proc alone; elsewhere every function says ErrUnknown, and figures are shown as not known.
package proc
