package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"padstone/engine"
	"padstone/harness/docker"
	"padstone/jobserver"
)

// Config is the configuration of a server. Keys of the YAML file are the names of the flags; a flag wins over the file.
type Config struct {
	// DataDir holds jobs, artifacts, state and server.json. Default: $PADSTONE_DATA_DIR, else ~/.padstone. One server at a time.
	DataDir string `yaml:"data-dir"`

	// JobEndpoint is the Job service's host:port; port 0 takes a free one. Default localhost:8099.
	JobEndpoint string `yaml:"job-endpoint"`
	// ArtifactEndpoint is where artifacts are staged and retrieved. Default localhost:8098. Equal to JobEndpoint: one port for both.
	ArtifactEndpoint string `yaml:"artifact-endpoint"`
	// ExpansionEndpoint answers for cross-language transforms. Default localhost:8097.
	ExpansionEndpoint string `yaml:"expansion-endpoint"`
	// ExpansionServices are other expansion services, "host:port" or "URN-PREFIX=host:port", that get the requests for transforms
	// which Padstone does not run itself. Default none.
	ExpansionServices []string `yaml:"expansion-service"`
	// EnvironmentOverrides have environments run in the place of others, as PATTERN=TYPE:CONFIG; the first that fits counts. Default none.
	EnvironmentOverrides []string `yaml:"environment-override"`
	// HTTP serves the UI, the API and /metrics. Default localhost:8100.
	HTTP string `yaml:"http"`
	// WorkerEndpoint is where harness processes fetch their work, which nobody is admitted to but under the unguessable id of an expected
	// one. Default localhost:0: a free port of the loopback interface.
	WorkerEndpoint string `yaml:"worker-endpoint"`
	// AdvertisedWorkerHost is the host that worker pools elsewhere, and containers with a network of their own, dial to reach
	// WorkerEndpoint. Default "": that of WorkerEndpoint, or this machine's name if that is unspecified.
	AdvertisedWorkerHost string `yaml:"advertised-worker-host"`

	// Nothing listens beyond the loopback interface without the endpoint's own permission: the services run what they are sent
	// and ask nobody for a password. Default false.
	AllowRemoteJobEndpoint       bool `yaml:"allow-remote-job-endpoint"`
	AllowRemoteArtifactEndpoint  bool `yaml:"allow-remote-artifact-endpoint"`
	AllowRemoteExpansionEndpoint bool `yaml:"allow-remote-expansion-endpoint"`
	AllowRemoteHTTP              bool `yaml:"allow-remote-http"`
	AllowRemoteWorkerEndpoint    bool `yaml:"allow-remote-worker-endpoint"`

	// Durability says how commits of jobs that do not choose become durable: frontier, sync or none. Default frontier.
	Durability string `yaml:"durability"`
	// HarnessTimeout is how long a harness process may leave pings unanswered before it is killed and started again. Default 60 s; at
	// least 4 s.
	HarnessTimeout time.Duration `yaml:"harness-timeout"`
	// DiskTimeout is how long an operation of the disk may take before a job says that it waits for it. Default 10 s.
	DiskTimeout time.Duration `yaml:"disk-timeout"`

	// Docker is how containers of harnesses run.
	Docker DockerConfig `yaml:",inline"`

	// EmbeddedKafka is the host:port of a Kafka broker in this process, for trying things out; a loopback address, since it lets
	// everybody in. Its topics are kept in DataDir/embedded-kafka. Default "": none.
	EmbeddedKafka string `yaml:"embedded-kafka"`
	// EmbeddedKafkaTopics are created when the embedded broker starts, unless they are there. Needs EmbeddedKafka. Default none.
	EmbeddedKafkaTopics topicList `yaml:"embedded-kafka-topics"`

	// HideElements keeps elements, which may be private, out of messages about what failed, for all jobs. Default false.
	HideElements bool `yaml:"hide-elements"`
	// CheckpointDir is where checkpoints of all jobs go: an absolute path, file:///path, or s3://bucket/prefix?endpoint=…&region=….
	// Default "": none but those on demand that name a place.
	CheckpointDir string `yaml:"checkpoint-dir"`
	// CheckpointInterval is the time from one checkpoint of a job to the next; 0: on demand only. Default 3m. Needs CheckpointDir.
	CheckpointInterval time.Duration `yaml:"checkpoint-interval"`
	// CheckpointKeep is how many checkpoints of a job are kept, besides its savepoints. Default 3.
	CheckpointKeep int `yaml:"checkpoint-keep"`
	// MemoryLimit is what the server may take, as bytes or with a unit: 512MiB, 2GiB. Default "": $GOMEMLIMIT, else 512MiB or half of
	// the cgroup's limit, whichever is less.
	MemoryLimit byteSize `yaml:"memory-limit"`

	// Settings of jobs that do not choose, as the pipeline options of these names; see docs/tuning.md.
	// MaxBundleSize is the most elements a bundle takes. Default 0: 100 000.
	MaxBundleSize int64 `yaml:"max-bundle-size"`
	// MaxBundleTimeMills is how long a bundle is kept open for more at most. Default 0: 100, and 500 in a batch.
	MaxBundleTimeMills int64 `yaml:"max-bundle-time-mills"`
	// LatencyBudgetMillis is what bundles that are kept open may add to the way of an element through a job. Default 0: 100 in streaming
	// jobs, and no bound in a batch.
	LatencyBudgetMillis int64 `yaml:"latency-budget-millis"`
	// SDKWorkerParallelism is the number of harness processes of an environment; 0: by the number of cores. Default 1. The Python SDK
	// always sends a number of its own.
	SDKWorkerParallelism int64 `yaml:"sdk-worker-parallelism"`
	// Parallelism bounds harness processes of an environment, and groupings at a time. Default -1: no bound.
	Parallelism int64 `yaml:"parallelism"`
	// SlowElementSeconds is how long an element may take before the job's messages show where user code is; 0: never. Default 300.
	SlowElementSeconds int64 `yaml:"slow-element-seconds"`
	// WorkerPoolWaitSeconds is how long a job waits for worker pools that cannot be reached when it is submitted. Default 0: it is refused.
	WorkerPoolWaitSeconds int64 `yaml:"worker-pool-wait-seconds"`
	// AutoscalingAlgorithm is NONE or THROUGHPUT_BASED: whether the harness processes of an environment come and go by what there is to
	// do. Default "": by the job's other settings.
	AutoscalingAlgorithm string `yaml:"autoscaling-algorithm"`
	// NumWorkers is how many harness processes of an environment a job begins with. Default 0: SDKWorkerParallelism.
	NumWorkers int64 `yaml:"num-workers"`
	// MaxNumWorkers is the most of them where they are sized. Default 0: the number of cores.
	MaxNumWorkers int64 `yaml:"max-num-workers"`
	// HarnessMemoryLimit is how much memory a harness process may have before another one takes its place, as bytes or with a unit.
	// Default "": no bound.
	HarnessMemoryLimit byteSize `yaml:"harness-memory-limit"`

	// WarmWorkers are worker pools, "host:port" or "host:port=N", of which one worker, or N, is kept started for jobs to come. Default none.
	WarmWorkers []string `yaml:"warm-workers"`
	// AutoscalingInterval is how often it is looked at what there is to do. Default 1 s. Three looks must agree.
	AutoscalingInterval time.Duration `yaml:"autoscaling-interval"`
	// AutoscalingIdleTime is how long harness processes must have had little to do before there are fewer. Default 60 s.
	AutoscalingIdleTime time.Duration `yaml:"autoscaling-idle-time"`

	// LogLevel is debug, info, warn or error. Default info.
	LogLevel string `yaml:"log-level"`
	// LogFormat is console or json. Default console.
	LogFormat string `yaml:"log-format"`
}

// defaultConfig returns the configuration of a server without flags and file.
func defaultConfig(getenv func(string) string) Config {
	return Config{
		DataDir:            defaultDataDir(getenv),
		JobEndpoint:        "localhost:8099",
		ArtifactEndpoint:   "localhost:8098",
		ExpansionEndpoint:  "localhost:8097",
		HTTP:               "localhost:8100",
		WorkerEndpoint:     "localhost:0",
		Durability:         string(engine.Durabilities[0]),
		CheckpointInterval: 3 * time.Minute,
		CheckpointKeep:     3,
		HarnessTimeout:     time.Minute,
		DiskTimeout:        engine.StalledAfterDefault,
		Docker:             DockerConfig{Network: docker.NetworkHost, Pull: string(docker.Pulls[0])},

		SDKWorkerParallelism: 1,
		Parallelism:          -1,
		SlowElementSeconds:   300,
		AutoscalingInterval:  time.Second,
		AutoscalingIdleTime:  time.Minute,

		LogLevel:  "info",
		LogFormat: "console",
	}
}

// defaultDataDir is the same for every command, so that `padstone run` finds the server which `padstone serve` started.
func defaultDataDir(getenv func(string) string) string {
	if dir := getenv("PADSTONE_DATA_DIR"); dir != "" {
		return dir
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".padstone")
	}
	return ".padstone"
}

// bind declares the flags of cfg on fs; their defaults are cfg's present values.
func (c *Config) bind(fs *pflag.FlagSet) {
	fs.StringVar(&c.DataDir, "data-dir", c.DataDir, "directory of jobs, artifacts and state")
	fs.StringVar(&c.JobEndpoint, "job-endpoint", c.JobEndpoint, "host:port of the Job service; port 0 takes a free one")
	fs.StringVar(&c.ArtifactEndpoint, "artifact-endpoint", c.ArtifactEndpoint,
		"host:port of the artifact services; may equal --job-endpoint")
	fs.StringVar(&c.ExpansionEndpoint, "expansion-endpoint", c.ExpansionEndpoint, "host:port of the expansion service")
	fs.Var(&repeated{values: &c.ExpansionServices}, "expansion-service",
		"host:port of another expansion service to pass requests on to, or URN=host:port; may be repeated")
	fs.Var(&repeated{values: &c.EnvironmentOverrides, whole: true}, "environment-override",
		"run an environment elsewhere: PATTERN=TYPE:CONFIG, where PATTERN fits its image, address, command or URN; may be repeated")
	fs.StringVar(&c.HTTP, "http", c.HTTP, "host:port of the UI, the HTTP API and /metrics")
	fs.StringVar(&c.WorkerEndpoint, "worker-endpoint", c.WorkerEndpoint,
		"host:port where harness processes fetch their work; port 0 takes a free one")
	fs.StringVar(&c.AdvertisedWorkerHost, "advertised-worker-host", c.AdvertisedWorkerHost,
		"host that worker pools elsewhere and containers dial to reach --worker-endpoint; default its own, or this machine's name")
	for _, e := range c.endpoints() {
		if e.allow != nil {
			fs.BoolVar(e.allow, "allow-remote-"+e.flag, *e.allow, "let --"+e.flag+" be other than a loopback address")
		}
	}
	fs.StringVar(&c.Durability, "durability", c.Durability,
		"how commits become durable: frontier, sync, or none; a job may choose otherwise by the pipeline option of this name")
	fs.DurationVar(&c.HarnessTimeout, "harness-timeout", c.HarnessTimeout,
		"how long a harness process may leave pings unanswered before it is killed and started again")
	fs.DurationVar(&c.DiskTimeout, "disk-timeout", c.DiskTimeout,
		"how long the disk may leave an operation unanswered before a job says that it waits for it")
	c.Docker.bind(fs)
	fs.StringVar(&c.EmbeddedKafka, "embedded-kafka", c.EmbeddedKafka,
		"host:port of a Kafka broker in the server, to try things out; empty for none")
	fs.Var(&c.EmbeddedKafkaTopics, "embedded-kafka-topics", "topics of the embedded broker: name:partitions,…")
	fs.BoolVar(&c.HideElements, "hide-elements", c.HideElements, "never show an element in messages, also not the one that user code fails on")
	fs.StringVar(&c.CheckpointDir, "checkpoint-dir", c.CheckpointDir,
		"where checkpoints of all jobs go: an absolute path, or s3://bucket/prefix?endpoint=URL&region=NAME")
	fs.DurationVar(&c.CheckpointInterval, "checkpoint-interval", c.CheckpointInterval,
		"time from one checkpoint of a job to the next; 0 for none but on demand")
	fs.IntVar(&c.CheckpointKeep, "checkpoint-keep", c.CheckpointKeep, "how many checkpoints of a job are kept, besides its savepoints")
	fs.Var(&c.MemoryLimit, "memory-limit",
		"memory of the server, harnesses not counted, such as 2GiB; default $GOMEMLIMIT, else 512MiB or half of the cgroup's limit")
	for _, k := range c.settings() {
		fs.Int64Var(k.value, k.flag, *k.value, k.usage)
	}
	fs.StringVar(&c.AutoscalingAlgorithm, "autoscaling-algorithm", c.AutoscalingAlgorithm,
		"THROUGHPUT_BASED or NONE, of jobs that do not choose: whether harness processes come and go by what there is to do")
	fs.Var(&c.HarnessMemoryLimit, "harness-memory-limit",
		"memory of a harness process above which another one takes its place, such as 2GiB, of jobs that do not choose; default none")
	fs.Var(&repeated{values: &c.WarmWorkers}, "warm-workers",
		"host:port of a Python worker pool of which a worker is kept started for the next job, or host:port=N; may be repeated")
	fs.DurationVar(&c.AutoscalingInterval, "autoscaling-interval", c.AutoscalingInterval,
		"how often it is looked at what harnesses have to do")
	fs.DurationVar(&c.AutoscalingIdleTime, "autoscaling-idle-time", c.AutoscalingIdleTime,
		"how long harness processes must have had little to do before there are fewer")
	fs.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error")
	fs.StringVar(&c.LogFormat, "log-format", c.LogFormat, "console or json")
}

// endpoint is one listening address of a Config.
type endpoint struct {
	flag     string // flag and key in the file
	address  string
	allow    *bool // nil: never beyond the loopback interface
	optional bool
	why      string // not beyond it without permission
}

// endpoints lists the listening addresses in a fixed order.
func (c *Config) endpoints() []endpoint {
	const everybody, clear = "the service asks nobody for a password", "what passes there is not encrypted"
	return []endpoint{
		{flag: "job-endpoint", address: c.JobEndpoint, allow: &c.AllowRemoteJobEndpoint, why: everybody},
		{flag: "artifact-endpoint", address: c.ArtifactEndpoint, allow: &c.AllowRemoteArtifactEndpoint, why: everybody},
		{flag: "expansion-endpoint", address: c.ExpansionEndpoint, allow: &c.AllowRemoteExpansionEndpoint, why: everybody},
		{flag: "http", address: c.HTTP, allow: &c.AllowRemoteHTTP, why: everybody},
		{flag: "worker-endpoint", address: c.WorkerEndpoint, allow: &c.AllowRemoteWorkerEndpoint, why: clear},
		{flag: "embedded-kafka", address: c.EmbeddedKafka, optional: true},
	}
}

// overrides are the parsed environment overrides. The error lists every fault.
func (c *Config) overrides() (all []jobserver.EnvironmentOverride, err error) {
	var faults []error
	for _, text := range c.EnvironmentOverrides {
		o, err := jobserver.ParseEnvironmentOverride(text)
		if err != nil {
			faults = append(faults, configFault("environment-override: %w", err))
		}
		all = append(all, o)
	}
	return all, errors.Join(faults...)
}

// settingFlag is a flag for a setting of jobs that do not choose.
type settingFlag struct {
	flag, name string
	value      *int64
	unset      int64 // Padstone's own
	usage      string
}

// settings lists the flags of settings in a fixed order.
func (c *Config) settings() []settingFlag {
	return []settingFlag{
		{
			flag: "max-bundle-size", name: engine.SettingBundleSize, value: &c.MaxBundleSize,
			usage: "the most elements a bundle takes, of jobs that do not choose; 0: 100000",
		},
		{
			flag: "max-bundle-time-mills", name: engine.SettingBundleTime, value: &c.MaxBundleTimeMills,
			usage: "how long a bundle is kept open for more elements, of jobs that do not choose; 0: 100, in a batch 500",
		},
		{
			flag: "latency-budget-millis", name: engine.SettingLatencyBudget, value: &c.LatencyBudgetMillis,
			usage: "what open bundles may add to the way of an element through a job that does not choose; 0: 100, in a batch no bound",
		},
		{
			flag: "sdk-worker-parallelism", name: engine.SettingWorkers, value: &c.SDKWorkerParallelism, unset: 1,
			usage: "harness processes of each environment of jobs that do not choose (Python's always do); 0: by the number of cores",
		},
		{
			flag: "parallelism", name: engine.SettingParallelism, value: &c.Parallelism, unset: -1,
			usage: "the most harness processes of an environment, and groupings at a time, of jobs that do not choose; -1: no bound",
		},
		{
			flag: "slow-element-seconds", name: engine.SettingSlowElement, value: &c.SlowElementSeconds, unset: 300,
			usage: "how long an element may take before a job's messages show where its user code is; 0: never",
		},
		{
			flag: "worker-pool-wait-seconds", name: engine.SettingPoolWait, value: &c.WorkerPoolWaitSeconds,
			usage: "how long a job that does not choose waits for worker pools that cannot be reached when it is submitted; 0: it is refused",
		},
		{
			flag: "num-workers", name: engine.SettingWorkersFirst, value: &c.NumWorkers,
			usage: "harness processes of each environment that a job begins with which does not choose; 0: --sdk-worker-parallelism",
		},
		{
			flag: "max-num-workers", name: engine.SettingWorkersMax, value: &c.MaxNumWorkers,
			usage: "the most harness processes of each environment, where they come and go, of jobs that do not choose; 0: as many as cores",
		},
	}
}

// jobSettings are the settings of jobs that do not choose, where they are not Padstone's own.
func (c *Config) jobSettings() map[string]int64 {
	chosen := make(map[string]int64)
	for _, k := range c.settings() {
		if *k.value != k.unset {
			chosen[k.name] = *k.value
		}
	}
	if c.HarnessMemoryLimit > 0 {
		chosen[engine.SettingMemory] = int64(c.HarnessMemoryLimit)
	}
	if c.AutoscalingAlgorithm != "" {
		if v, err := engine.ParseSetting(engine.SettingAlgorithm, c.AutoscalingAlgorithm); err == nil { // else Validate has refused it
			chosen[engine.SettingAlgorithm] = v
		}
	}
	return chosen
}

// repeated is a flag that may be given several times, or once with commas unless values are whole; its first value takes the place of the
// file's.
type repeated struct {
	values *[]string
	whole  bool // values may have commas, and are one a line then
	given  bool
}

func (r *repeated) separator() string {
	if r.whole {
		return "\n"
	}
	return ","
}

// String prints the values as Set takes them.
func (r *repeated) String() string {
	if r.values == nil { // package flag asks the zero value, too
		return ""
	}
	return strings.Join(*r.values, r.separator())
}

// Set adds values.
func (r *repeated) Set(s string) error {
	if !r.given {
		*r.values, r.given = nil, true
	}
	for _, value := range strings.Split(s, r.separator()) {
		if value = strings.TrimSpace(value); value != "" {
			*r.values = append(*r.values, value)
		}
	}
	return nil
}

// Type names the flag's value in the usage text.
func (r *repeated) Type() string { return "strings" }

// topicList maps topic names to partition counts; as a flag "name:partitions,…", in the file a mapping.
type topicList map[string]int32

// String prints the list as the flag takes it, sorted by name.
func (t topicList) String() string {
	parts := make([]string, 0, len(t))
	for name, partitions := range t {
		parts = append(parts, name+":"+strconv.Itoa(int(partitions)))
	}
	sort.Strings(parts)
	return strings.Join(parts, ",")
}

// Set parses the flag; a name without a count has one partition.
func (t *topicList) Set(s string) error {
	list := topicList{}
	for _, part := range strings.Split(s, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, count, counted := strings.Cut(part, ":")
		partitions := int64(1)
		if counted {
			var err error
			if partitions, err = strconv.ParseInt(count, 10, 32); err != nil {
				return fmt.Errorf("topic %q: %q is no number of partitions; write name:partitions", name, count)
			}
		}
		if _, twice := list[name]; twice {
			return fmt.Errorf("topic %q is listed twice", name)
		}
		list[name] = int32(partitions)
	}
	*t = list
	return nil
}

// Type names the flag's value in the usage text.
func (t *topicList) Type() string { return "topics" }
