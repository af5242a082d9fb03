//go:build !linux

package proc

// Tree returns what a process and its descendants have used.
func Tree(int) (Usage, error) { return Usage{}, ErrUnknown }

// Descendants returns what the descendants of a process have used.
func Descendants(int) (Usage, error) { return Usage{}, ErrUnknown }

// ForgetPeak begins the peak of a process and its descendants anew.
func ForgetPeak(int) error { return ErrUnknown }

// Listener returns the process that listens on a port of this machine.
func Listener(int) (int, error) { return 0, ErrUnknown }
