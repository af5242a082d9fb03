package fnapi

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"go.uber.org/zap"
)

// Config configures a Server.
type Config struct {
	Logger *zap.Logger // nil: no logs
	// Address is where to listen. Default "127.0.0.1:0": loopback, any port.
	Address string
	// AdvertisedHost is the host by which harnesses elsewhere reach this machine: those of worker pools and of containers with a network
	// of their own. The port is that of Address. Default Address's host; this machine's name for an unspecified one.
	AdvertisedHost string
	// WorkersMax bounds the registered workers. Default 1024.
	WorkersMax int
	// StreamBytesMax bounds the bytes that wait to be sent on one data stream; senders block above it. Default 4 MiB. One message
	// may be larger than it; it then travels alone.
	StreamBytesMax int
	// SilenceMax is how long a harness may be silent, although it is pinged, before it is taken for hung. Default 60 s; at least 4 s.
	SilenceMax time.Duration
	// ProbeAfter is how long a bundle's progress may stay unanswered before another question shows whether the answer was lost. Default 1 s.
	ProbeAfter time.Duration
	// Clock takes the time of messages; it must not go back. Default the machine's.
	Clock func() time.Duration
}

// withDefaults fills what is zero.
func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	if c.WorkersMax == 0 {
		c.WorkersMax = 1024
	}
	if c.StreamBytesMax == 0 {
		c.StreamBytesMax = 4 << 20
	}
	if c.SilenceMax == 0 {
		c.SilenceMax = time.Minute
	}
	if c.ProbeAfter == 0 {
		c.ProbeAfter = time.Second
	}
	if c.Clock == nil {
		c.Clock = sinceStart()
	}
	return c
}

// Validate lists every fault of the configuration.
func (c Config) Validate() error {
	c = c.withDefaults()
	var faults []error
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		faults = append(faults, err)
	}
	if c.WorkersMax < 0 {
		faults = append(faults, errors.New("WorkersMax is negative"))
	}
	if c.StreamBytesMax < 0 {
		faults = append(faults, errors.New("StreamBytesMax is negative"))
	}
	if c.SilenceMax < SilenceMin {
		faults = append(faults, fmt.Errorf("SilenceMax is below %v", SilenceMin))
	}
	return errors.Join(faults...)
}

// localEndpoint returns what harnesses of this machine dial to reach the listener.
func localEndpoint(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsLoopback() || ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// advertisedEndpoint returns what harnesses elsewhere dial to reach the listener.
func (c Config) advertisedEndpoint(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if c.AdvertisedHost != "" {
		return net.JoinHostPort(c.AdvertisedHost, port)
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if name, err := os.Hostname(); err == nil {
			return net.JoinHostPort(name, port)
		}
	}
	return localEndpoint(addr)
}
