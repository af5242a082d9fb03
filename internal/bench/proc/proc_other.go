//go:build !linux

package proc

// Tree returns what processes and their descendants have used.
func Tree(...int) (Usage, error) { return Usage{}, ErrUnknown }

// Children returns the processes that a process has started itself, as far as they run.
func Children(int) ([]int, error) { return nil, ErrUnknown }

// ForgetPeak begins the peak of a process and its descendants anew.
func ForgetPeak(int) error { return ErrUnknown }

// Listener returns the process that listens on a port of this machine.
func Listener(int) (int, error) { return 0, ErrUnknown }
