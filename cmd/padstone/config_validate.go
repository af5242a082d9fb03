package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"padstone/engine"
	"padstone/engine/checkpoint"
	"padstone/fnapi"
	"padstone/harness"
	"padstone/internal/memory"
	"padstone/jobserver/expansion"
)

// checkpointIntervalMin is the least time between two checkpoints: a checkpoint copies the log.
const checkpointIntervalMin = 100 * time.Millisecond

// autoscalingIntervalMin is the least time between two looks at what harnesses have to do: less says little of what comes.
const autoscalingIntervalMin = 10 * time.Millisecond

// partitionsMax bounds the partitions of one embedded topic: each costs the in-memory broker a log of its own.
const partitionsMax = 1000

// Kafka's own rule for topic names. Spec: org.apache.kafka.common.internals.Topic.
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// hostName matches names of hosts. Spec: RFC 1123 section 2.1, and the underscores of container names.
var hostName = regexp.MustCompile(`^[a-zA-Z0-9_]([a-zA-Z0-9_.-]{0,252}[a-zA-Z0-9_.])?$`)

// Validate lists every fault of the configuration, joined; it touches nothing but the data directory's path.
func (c *Config) Validate() error {
	var faults []error
	add := func(format string, args ...any) { faults = append(faults, configFault(format, args...)) }

	if c.DataDir == "" {
		add("data-dir is empty")
	} else if info, err := os.Stat(c.DataDir); err == nil && !info.IsDir() {
		add("data-dir %s is not a directory", c.DataDir)
	}
	for _, e := range c.endpoints() {
		if e.address == "" && e.optional {
			continue
		}
		host, err := checkAddress(e.address)
		switch {
		case err != nil:
			add("%s %q: %w", e.flag, e.address, err)
		case isLoopback(host) || e.allow != nil && *e.allow:
		case e.allow == nil:
			add("%s %q is not a loopback address; the broker lets everybody in", e.flag, e.address)
		default:
			add("%s %q is not a loopback address; %s: "+
				"permit it with --allow-remote-%s behind a proxy or firewall", e.flag, e.address, e.why, e.flag)
		}
	}
	for _, clash := range c.clashes() {
		add("%s and %s are both %q", clash[0].flag, clash[1].flag, clash[0].address)
	}
	if host := c.AdvertisedWorkerHost; host != "" && !hostName.MatchString(host) && net.ParseIP(host) == nil {
		add("advertised-worker-host %q is no host name or address; the port is that of worker-endpoint", host)
	}
	for _, text := range c.ExpansionServices {
		if route, err := expansion.ParseRoute(text); err != nil {
			add("expansion-service: %w", err)
		} else if route.Address == c.ExpansionEndpoint {
			add("expansion-service %q is this server's own expansion-endpoint", text)
		}
	}
	if _, err := c.overrides(); err != nil {
		faults = append(faults, err)
	}
	if !slices.Contains(engine.Durabilities, engine.Durability(c.Durability)) {
		add("durability %q is none of %v", c.Durability, engine.Durabilities)
	}
	for _, k := range c.settings() {
		if *k.value != k.unset {
			if err := engine.CheckSetting(k.name, *k.value); err != nil {
				add("%s: %w", k.flag, err)
			}
		}
	}
	faults = append(faults, c.checkSizing()...)
	if c.MemoryLimit != 0 && c.MemoryLimit < memory.LimitMin {
		add("memory-limit %s is less than %s, with which a server cannot work", c.MemoryLimit.String(), sizeText(memory.LimitMin))
	}
	if c.HarnessTimeout < fnapi.SilenceMin {
		add("harness-timeout %v is below %v", c.HarnessTimeout, fnapi.SilenceMin)
	}
	if c.DiskTimeout <= 0 {
		add("disk-timeout %v is not above 0", c.DiskTimeout)
	}
	if c.EmbeddedKafka == "" && len(c.EmbeddedKafkaTopics) > 0 {
		add("embedded-kafka-topics without embedded-kafka")
	}
	faults = append(faults, c.Docker.faults()...)
	faults = append(faults, c.checkTopics()...)
	faults = append(faults, c.checkCheckpoints()...)
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		add("log-level %q is none of debug, info, warn, error", c.LogLevel)
	}
	if !slices.Contains([]string{"console", "json"}, c.LogFormat) {
		add("log-format %q is neither console nor json", c.LogFormat)
	}
	return errors.Join(faults...)
}

// checkSizing checks what decides on the number of harness processes.
func (c *Config) checkSizing() (faults []error) {
	if c.AutoscalingAlgorithm != "" {
		if _, err := engine.ParseSetting(engine.SettingAlgorithm, c.AutoscalingAlgorithm); err != nil {
			faults = append(faults, configFault("autoscaling-algorithm: %w", err))
		}
	}
	if c.HarnessMemoryLimit != 0 {
		if err := engine.CheckSetting(engine.SettingMemory, int64(c.HarnessMemoryLimit)); err != nil {
			faults = append(faults, configFault("harness-memory-limit: %w", err))
		}
	}
	if _, err := c.warm(); err != nil {
		faults = append(faults, configFault("warm-workers: %w", err))
	}
	if c.AutoscalingInterval < autoscalingIntervalMin {
		faults = append(faults, configFault("autoscaling-interval %v is less than %v", c.AutoscalingInterval, autoscalingIntervalMin))
	}
	if c.AutoscalingIdleTime < c.AutoscalingInterval {
		faults = append(faults, configFault("autoscaling-idle-time %v is less than autoscaling-interval %v",
			c.AutoscalingIdleTime, c.AutoscalingInterval))
	}
	return faults
}

// warmMax bounds the workers of a pool that are kept warm: each is a process with all that it imports.
const warmMax = 64

// warm returns the worker pools of which workers are kept warm.
func (c *Config) warm() (pools []harness.Warm, err error) {
	for _, text := range c.WarmWorkers {
		address, count, counted := strings.Cut(text, "=")
		pool := harness.Warm{Address: address, Workers: 1}
		if counted {
			if pool.Workers, err = strconv.Atoi(count); err != nil || pool.Workers < 1 || pool.Workers > warmMax {
				return nil, fmt.Errorf("%q: give a number from 1 to %d behind the address", text, warmMax)
			}
		}
		if _, err := checkAddress(address); err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		pools = append(pools, pool)
	}
	return pools, nil
}

// checkCheckpoints asks nothing of the place.
func (c *Config) checkCheckpoints() []error {
	var faults []error
	if c.CheckpointDir != "" {
		if _, err := checkpoint.Open(context.Background(), c.CheckpointDir); err != nil {
			faults = append(faults, configFault("checkpoint-dir: %w", err))
		}
	}
	if c.CheckpointInterval != 0 && c.CheckpointInterval < checkpointIntervalMin {
		faults = append(faults, configFault("checkpoint-interval %v is less than %v; 0 takes none", c.CheckpointInterval, checkpointIntervalMin))
	}
	if c.CheckpointKeep < 1 {
		faults = append(faults, configFault("checkpoint-keep %d is less than 1", c.CheckpointKeep))
	}
	return faults
}

func (c *Config) checkTopics() []error {
	var faults []error
	for _, name := range sortedKeys(c.EmbeddedKafkaTopics) {
		if !topicName.MatchString(name) || name == "." || name == ".." {
			faults = append(faults, configFault("embedded-kafka-topics: %q is no topic name (letters, digits, '.', '_', '-')", name))
		}
		if n := c.EmbeddedKafkaTopics[name]; n < 1 || n > partitionsMax {
			faults = append(faults, configFault("embedded-kafka-topics: %q has %d partitions, not 1 to %d", name, n, partitionsMax))
		}
	}
	return faults
}

// clashes lists pairs of endpoints with one address. Port 0 never clashes, and jobs and artifacts may share a port.
func (c *Config) clashes() [][2]endpoint {
	var found [][2]endpoint
	all := c.endpoints()
	for i, a := range all {
		for _, b := range all[i+1:] {
			_, port, err := net.SplitHostPort(a.address)
			shared := a.flag == "job-endpoint" && b.flag == "artifact-endpoint"
			if err == nil && port != "0" && a.address == b.address && !shared {
				found = append(found, [2]endpoint{a, b})
			}
		}
	}
	return found
}

// checkAddress takes host:port apart and returns the host.
func checkAddress(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", errors.New("not host:port")
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 0 || n > 65535 {
		return "", errors.New("the port is not a number from 0 to 65535")
	}
	return host, nil
}

// isLoopback tells whether host can be reached from this machine only. A name other than localhost is taken as remote: what it
// resolves to may change.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// isLoopbackAddress tells the same of a host:port.
func isLoopbackAddress(address string) bool {
	host, err := checkAddress(address)
	return err == nil && isLoopback(host)
}

// sortedKeys returns the keys of m in order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
