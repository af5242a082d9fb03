package docker

import (
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/mount"

	"padstone/internal/fault"
)

var (
	networkName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)
	volumeName  = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)
	environment = regexp.MustCompile(`^[^=\x00]+=[^\x00]*$`)
	extraHost   = regexp.MustCompile(`^[a-zA-Z0-9_.-]+:(host-gateway|[0-9a-fA-F.:]+)$`)
)

// parseVolume reads SOURCE:TARGET[:ro|:rw], as `docker run --volume` does.
func parseVolume(text string) (mount.Mount, error) {
	parts := strings.Split(text, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return mount.Mount{}, fmt.Errorf("%q is not SOURCE:TARGET or SOURCE:TARGET:ro", text)
	}
	m := mount.Mount{Type: mount.TypeVolume, Source: parts[0], Target: parts[1]}
	switch {
	case strings.HasPrefix(m.Source, "/"):
		m.Type = mount.TypeBind
	case !volumeName.MatchString(m.Source):
		return mount.Mount{}, fmt.Errorf("%q: the source is neither an absolute path nor the name of a volume", text)
	}
	if !path.IsAbs(m.Target) || path.Clean(m.Target) == "/" {
		return mount.Mount{}, fmt.Errorf("%q: the target is not an absolute path below /", text)
	}
	if len(parts) == 3 {
		if parts[2] != "ro" && parts[2] != "rw" {
			return mount.Mount{}, fmt.Errorf("%q: %q is neither ro nor rw", text, parts[2])
		}
		m.ReadOnly = parts[2] == "ro"
	}
	return m, nil
}

// ParseMemory reads a size as Docker's users write it: 512m, 2g, 2GiB.
func ParseMemory(text string) (int64, error) {
	n, err := units.RAMInBytes(text)
	if err != nil || n <= 0 {
		return 0, fmt.Errorf("%q is no size: write 512m, 2g or 2GiB", text)
	}
	return n, nil
}

// Names of pipeline options by which a job chooses for its own containers.
const (
	OptionNetwork = "docker_network"
	OptionPull    = "docker_pull"
	OptionEnv     = "docker_env"
	OptionVolume  = "docker_volume"
	OptionMemory  = "docker_memory"
	OptionCPUs    = "docker_cpus"
)

// OptionNames are all of them.
var OptionNames = []string{OptionNetwork, OptionPull, OptionEnv, OptionVolume, OptionMemory, OptionCPUs}

// ForJob returns the options of a job's containers. chosen are the values of the job's options by name. What would give the job more of
// the machine than the server's options do is refused.
func (e *Engine) ForJob(chosen map[string][]string) (Options, error) {
	o := e.cfg.Options
	o.Env = append(slices.Clone(o.Env), chosen[OptionEnv]...)
	if v := last(chosen[OptionPull]); v != "" {
		o.Pull = Pull(v)
	}
	if v := last(chosen[OptionNetwork]); v != "" {
		o.Network = v
	}
	o.Volumes = append(slices.Clone(o.Volumes), chosen[OptionVolume]...)
	if v := last(chosen[OptionMemory]); v != "" {
		n, err := ParseMemory(v)
		if err != nil {
			return Options{}, invalid("%s: %w", OptionMemory, err)
		}
		o.Memory = n
	}
	if v := last(chosen[OptionCPUs]); v != "" {
		n, err := strconv.ParseFloat(v, 64)
		if err != nil || !(n > 0) || math.IsInf(n, 0) {
			return Options{}, invalid("%s: %q is no number above 0", OptionCPUs, v)
		}
		o.CPUs = n
	}
	if err := o.Validate(); err != nil {
		return Options{}, invalid("%w", err)
	}
	return o, e.permit(o)
}

// permit refuses what the server does not let a job choose.
func (e *Engine) permit(o Options) error {
	server := e.cfg.Options
	deny := func(option, hint, format string, args ...any) error {
		return fault.New(fault.Pipeline, codeNotAllowed, "the pipeline option --%s: %s", option, fmt.Sprintf(format, args...)).
			WithHint("%s", hint)
	}
	switch {
	case o.Network != server.Network && !slices.Contains(e.cfg.Allow, AllowNetwork):
		return deny(OptionNetwork, "drop the option, or start the server with --docker-allow="+AllowNetwork,
			"this server runs harnesses on the network %q alone", server.Network)
	case len(o.Volumes) > len(server.Volumes) && !slices.Contains(e.cfg.Allow, AllowVolume):
		return deny(OptionVolume, "have the server mount it with --docker-volume, or start the server with --docker-allow="+AllowVolume,
			"this server lets no job mount paths of its machine")
	case server.Pull == PullNever && o.Pull != PullNever:
		return deny(OptionPull, "load the image on the Engine's machine, or start the server with another --docker-pull",
			"this server never pulls images")
	case server.Memory > 0 && o.Memory > server.Memory:
		return deny(OptionMemory, "ask for less, or start the server with a higher --docker-memory",
			"a container may take %s", units.BytesSize(float64(server.Memory)))
	case server.CPUs > 0 && o.CPUs > server.CPUs:
		return deny(OptionCPUs, "ask for less, or start the server with a higher --docker-cpus", "a container may take %v CPUs", server.CPUs)
	}
	return nil
}

// last returns the last value: who writes an option twice means the second.
func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}
