package harness

import (
	"context"
	"net"
	"slices"
	"strings"
	"time"
)

// Names of worker pools, and the addresses that they stand for.

// resolveFor bounds the search for the addresses of names.
const resolveFor = 2 * time.Second

// splitPools returns the addresses that an environment names.
func splitPools(url string) (names []string) {
	for name := range strings.SplitSeq(url, ",") {
		names = append(names, strings.TrimSpace(name))
	}
	return names
}

func lookup(ctx context.Context, host string) ([]net.IP, error) {
	return net.DefaultResolver.LookupIP(ctx, "ip", host)
}

// addresses returns the pools that the names stand for now. A name with several IPv4 addresses, or with several others and none of
// these, stands for a pool at each of them, as that of a headless Service of Kubernetes does. Any other one stands for itself.
func addresses(ctx context.Context, names []string, resolve func(ctx context.Context, host string) ([]net.IP, error)) (all []string) {
	ctx, cancel := context.WithTimeout(ctx, resolveFor)
	defer cancel()
	for _, name := range names {
		each := []string{name}
		host, port, err := net.SplitHostPort(name)
		if err == nil && net.ParseIP(host) == nil {
			if ips, err := resolve(ctx, host); err == nil {
				if of := family(ips); len(of) > 1 {
					each = of
				}
			}
			if len(each) > 1 {
				for i, ip := range each {
					each[i] = net.JoinHostPort(ip, port)
				}
			}
		}
		for _, address := range each {
			if !slices.Contains(all, address) {
				all = append(all, address)
			}
		}
	}
	return all
}

// family returns the IPv4 addresses, or the others when there are none, in order: a pool may have one of each.
func family(ips []net.IP) []string {
	var four, six []string
	for _, ip := range ips {
		if ip.To4() != nil {
			four = append(four, ip.String())
		} else {
			six = append(six, ip.String())
		}
	}
	if len(four) > 0 {
		six = four
	}
	slices.Sort(six)
	return slices.Compact(six)
}

// added returns the pools that the names stand for and did not when they were looked up last.
func (s *sites) added(ctx context.Context) (all []string) {
	s.mu.Lock()
	before := s.listed
	s.mu.Unlock()
	for _, one := range s.now(ctx) {
		if !slices.Contains(before, one.address) {
			all = append(all, one.address)
		}
	}
	slices.Sort(all)
	return all
}
