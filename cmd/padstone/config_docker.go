package main

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"gopkg.in/yaml.v3"

	"padstone/harness/docker"
)

// DockerConfig is how containers of harnesses run, of jobs with --environment_type=DOCKER. docs/docker.md is the guide.
type DockerConfig struct {
	// Network is what containers run on: host, bridge, or the name of another network. Default host.
	Network string `yaml:"docker-network"`
	// Pull says when images are pulled: missing, always or never. Default missing.
	Pull string `yaml:"docker-pull"`
	// Env are environment variables of all containers, NAME=VALUE, or NAME for the server's own value. Default none.
	Env []string `yaml:"docker-env"`
	// Volumes are mounted into all containers: SOURCE:TARGET or SOURCE:TARGET:ro. Default none.
	Volumes []string `yaml:"docker-volume"`
	// Hosts are added to /etc/hosts of all containers, HOST:ADDRESS. Default none.
	Hosts []string `yaml:"docker-add-host"`
	// Memory is what one container may take; a job may ask for less. Default "": no limit.
	Memory dockerSize `yaml:"docker-memory"`
	// CPUs is how many processors one container may use; a job may ask for fewer. Default 0: no limit.
	CPUs float64 `yaml:"docker-cpus"`
	// Allow lists what jobs may choose by pipeline options although it concerns the machine: network, volume. Default nothing.
	Allow []string `yaml:"docker-allow"`
}

// bind declares the flags; their defaults are the present values.
func (c *DockerConfig) bind(fs *pflag.FlagSet) {
	fs.StringVar(&c.Network, "docker-network", c.Network, "network of harness containers: host, bridge, or the name of another one")
	fs.StringVar(&c.Pull, "docker-pull", c.Pull, "when images of harness containers are pulled: missing, always or never")
	fs.Var(&repeated{values: &c.Env, whole: true}, "docker-env",
		"environment variable of harness containers, NAME=VALUE, or NAME for the server's own value; may be repeated")
	fs.Var(&repeated{values: &c.Volumes, whole: true}, "docker-volume",
		"SOURCE:TARGET[:ro] to mount into harness containers; may be repeated")
	fs.Var(&repeated{values: &c.Hosts, whole: true}, "docker-add-host",
		"HOST:ADDRESS that harness containers know; may be repeated")
	fs.Var(&c.Memory, "docker-memory", "the most memory of a harness container, such as 2g; jobs may ask for less; empty for no limit")
	fs.Float64Var(&c.CPUs, "docker-cpus", c.CPUs,
		"the most processors of a harness container, such as 1.5; jobs may ask for fewer; 0 for no limit")
	fs.Var(&repeated{values: &c.Allow}, "docker-allow", "what jobs may choose for their containers: network, volume; may be repeated")
}

// options words the configuration for package docker.
func (c *DockerConfig) options(lookup func(string) (string, bool)) docker.Options {
	o := docker.Options{
		Network: c.Network, Pull: docker.Pull(c.Pull), Volumes: c.Volumes, Hosts: c.Hosts, Memory: int64(c.Memory), CPUs: c.CPUs,
	}
	for _, e := range c.Env {
		if strings.Contains(e, "=") {
			o.Env = append(o.Env, e)
		} else if value, ok := lookup(e); ok {
			o.Env = append(o.Env, e+"="+value)
		}
	}
	return o
}

// faults lists what is wrong.
func (c *DockerConfig) faults() []error {
	var faults []error
	check := docker.Config{Options: c.options(os.LookupEnv), Allow: c.Allow}
	if slices.Contains(c.Env, "") {
		faults = append(faults, errors.New("env: an empty name"))
	}
	if err := check.Validate(); err != nil {
		faults = append(faults, err)
	}
	for i, err := range faults {
		faults[i] = configFault("docker: %w", err)
	}
	return faults
}

// dockerSize is a number of bytes as Docker's users write it: 512m, 2g, 2GiB.
type dockerSize int64

// String prints the size; "" for 0.
func (d *dockerSize) String() string {
	if *d == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*d), 10)
}

// Set parses the flag.
func (d *dockerSize) Set(s string) error {
	if s == "" {
		*d = 0
		return nil
	}
	n, err := docker.ParseMemory(s)
	*d = dockerSize(n)
	return err
}

// Type names the flag's value in the usage text.
func (d *dockerSize) Type() string { return "bytes" }

// UnmarshalYAML parses the value in the file.
func (d *dockerSize) UnmarshalYAML(node *yaml.Node) error { return d.Set(node.Value) }
