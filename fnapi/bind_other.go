//go:build !linux

package fnapi

import "syscall"

// bindEarly does nothing: the address must be there.
func bindEarly(string, string, syscall.RawConn) error { return nil }
