package fnapi

import (
	"errors"
	"syscall"
)

// bindEarly lets a socket be bound to an address that the machine does not have yet. Spec: ip(7) IP_FREEBIND, which is right for IPv6, too.
func bindEarly(_, _ string, c syscall.RawConn) error {
	var err error
	failed := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_FREEBIND, 1) })
	return errors.Join(failed, err)
}
