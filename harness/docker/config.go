package docker

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"go.uber.org/zap"

	"padstone/internal/fault"
)

// Pull says when an image is pulled, as `docker run --pull` does.
type Pull string

const (
	PullMissing Pull = "missing"
	PullAlways  Pull = "always"
	PullNever   Pull = "never"
)

// Pulls are all policies, the default first.
var Pulls = []Pull{PullMissing, PullAlways, PullNever}

// NetworkHost is the network of the machine itself.
const NetworkHost = "host"

// What a server may let jobs choose for themselves.
const (
	AllowNetwork = "network"
	AllowVolume  = "volume"
)

// Options are how containers are run. As in `docker run`.
type Options struct {
	Network string   // host, bridge, or the name of another one
	Pull    Pull     // when images are pulled
	Env     []string // KEY=VALUE
	Volumes []string // SOURCE:TARGET[:ro]; the source is a path of the Engine's machine or the name of a volume
	Hosts   []string // HOST:ADDRESS, for /etc/hosts
	Memory  int64    // bytes; 0: no limit
	CPUs    float64  // 0: no limit
}

// Config configures an Engine.
type Config struct {
	Logger *zap.Logger // nil: no logs
	// Host is the Engine's address, such as unix:///run/user/1000/podman/podman.sock. Default $DOCKER_HOST, else Docker's own socket.
	Host string
	// Owner is what containers are labelled with: the identity of the server's data directory. Required.
	Owner string
	// Options are those of jobs that do not choose, and the bounds of those that do.
	Options Options
	// Allow lists what jobs may choose for themselves: AllowNetwork, AllowVolume. Default nothing.
	Allow []string
	// AnswerTimeout bounds the wait for each answer of the Engine, ActTimeout that for what it is to do: create, start or remove. A machine
	// that is busy may take long. Default 10 s, 30 s.
	AnswerTimeout, ActTimeout time.Duration
	// PullStall is how long a pull may make no progress, PullTell how often it is told how far it is. Default 60 s, 10 s.
	PullStall, PullTell time.Duration
	// ProbeTimeout is how long a container may take to connect to the server. Default 3 s: on one machine it takes none.
	ProbeTimeout time.Duration
	// RetryEvery is the pace of questions to an Engine that is away. Default 1 s.
	RetryEvery time.Duration
}

// withDefaults fills what is zero.
func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Options.Network == "" {
		c.Options.Network = NetworkHost
	}
	if c.Options.Pull == "" {
		c.Options.Pull = Pulls[0]
	}
	orDuration := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	orDuration(&c.AnswerTimeout, 10*time.Second)
	orDuration(&c.ActTimeout, 30*time.Second)
	orDuration(&c.PullStall, time.Minute)
	orDuration(&c.PullTell, 10*time.Second)
	orDuration(&c.ProbeTimeout, 3*time.Second)
	orDuration(&c.RetryEvery, time.Second)
	return c
}

// Validate lists every fault of the configuration.
func (c Config) Validate() error {
	c = c.withDefaults()
	faults := c.Options.faults()
	for _, what := range c.Allow {
		if what != AllowNetwork && what != AllowVolume {
			faults = append(faults, fmt.Errorf("allow: %q is neither %s nor %s", what, AllowNetwork, AllowVolume))
		}
	}
	if c.AnswerTimeout < 0 || c.ActTimeout < 0 || c.PullStall < 0 || c.PullTell < 0 || c.ProbeTimeout < 0 || c.RetryEvery < 0 {
		faults = append(faults, errors.New("a negative time"))
	}
	if len(faults) > 0 {
		return fault.New(fault.Environment, codeOption, "%w", errors.Join(faults...))
	}
	return nil
}

// Validate lists every fault of the options, by the names of their flags.
func (o Options) Validate() error { return errors.Join(o.faults()...) }

func (o Options) faults() (faults []error) {
	add := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !networkName.MatchString(o.Network) {
		add("network: %q is neither host nor bridge nor the name of a network", o.Network)
	}
	if o.Network == "none" {
		add("network: a harness without a network cannot reach the server")
	}
	if !slices.Contains(Pulls, o.Pull) {
		add("pull: %q is none of %v", o.Pull, Pulls)
	}
	for _, e := range o.Env {
		if !environment.MatchString(e) {
			add("env: %q is not NAME=VALUE", e)
		}
	}
	for _, v := range o.Volumes {
		if _, err := parseVolume(v); err != nil {
			add("volume: %w", err)
		}
	}
	for _, h := range o.Hosts {
		if !extraHost.MatchString(h) {
			add("add-host: %q is not HOST:ADDRESS", h)
		}
	}
	if o.Memory != 0 && o.Memory < MemoryMin {
		add("memory: %d bytes are less than %d, which the Engine demands", o.Memory, int64(MemoryMin))
	}
	if !(o.CPUs >= 0) || math.IsInf(o.CPUs, 0) {
		add("cpus: %v is no number of processors", o.CPUs)
	}
	return faults
}

// MemoryMin is the least memory limit of a container. Spec: moby daemon linuxMinMemory.
const MemoryMin = 6 << 20
