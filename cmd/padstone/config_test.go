package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func noEnv(string) string { return "" }

// parseConfig does what `padstone serve` does with its command line and file.
func parseConfig(t *testing.T, file string, args ...string) (Config, error) {
	t.Helper()
	flags := defaultConfig(noEnv)
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	flags.bind(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	path := ""
	if file != "" {
		path = filepath.Join(t.TempDir(), "padstone.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return loadConfig(defaultConfig(noEnv), path, fs)
}

func TestConfigFlagsWinOverFileOverDefaults(t *testing.T) {
	cfg, err := parseConfig(t, `
data-dir: /from/file
http: localhost:1
job-endpoint: localhost:2
allow-remote-http: true
embedded-kafka: localhost:9092
embedded-kafka-topics: {payments: 4, totals: 1}
expansion-service: [localhost:4]
durability: sync
harness-timeout: 90s
max-bundle-size: 5000
parallelism: 3
`, "--parallelism", "4", "--sdk-worker-parallelism=0", "--http", "localhost:3", "--embedded-kafka-topics", "other:2", "--allow-remote-http=false")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, got, want string }{
		{"file over default", cfg.DataDir, "/from/file"},
		{"file over default", cfg.JobEndpoint, "localhost:2"},
		{"flag over file", cfg.HTTP, "localhost:3"},
		{"flag over file", cfg.EmbeddedKafkaTopics.String(), "other:2"},
		{"default", cfg.ArtifactEndpoint, "localhost:8098"},
		{"file over default", cfg.Durability, "sync"},
		{"file over default", cfg.HarnessTimeout.String(), "1m30s"},
		{"settings", fmt.Sprint(cfg.jobSettings()), "map[max_bundle_size:5000 parallelism:4 sdk_worker_parallelism:0]"},
		{"file over default", strings.Join(cfg.ExpansionServices, " "), "localhost:4"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
		}
	}
	if cfg.AllowRemoteHTTP {
		t.Error("a flag set to false does not win over the file")
	}
}

func TestRepeatedFlag(t *testing.T) {
	cfg, err := parseConfig(t, "expansion-service: [localhost:1]\n",
		"--expansion-service", "localhost:2, localhost:3", "--expansion-service", "urn=localhost:4")
	if got := strings.Join(cfg.ExpansionServices, " "); err != nil || got != "localhost:2 localhost:3 urn=localhost:4" {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestConfigFileIsStrict(t *testing.T) {
	_, err := parseConfig(t, "allow-remote-htpp: true\n")
	if err == nil || !strings.Contains(err.Error(), "allow-remote-htpp") {
		t.Errorf("error %v does not name the unknown key", err)
	}
	if _, err := loadConfig(defaultConfig(noEnv), "/no/such/file", pflag.NewFlagSet("x", pflag.ContinueOnError)); err == nil {
		t.Error("a missing file is no error")
	}
	if cfg, err := parseConfig(t, "# nothing\n"); err != nil || cfg.HTTP != "localhost:8100" {
		t.Errorf("an empty file: %v, %v", cfg.HTTP, err)
	}
}

func TestConfigValidate(t *testing.T) {
	cases := []struct {
		name   string
		change func(*Config)
		faults []string // a part of each
	}{
		{"defaults", func(*Config) {}, nil},
		{"port 0", func(c *Config) { c.HTTP = "127.0.0.1:0"; c.JobEndpoint = "[::1]:0"; c.ArtifactEndpoint = "[::1]:0" }, nil},
		{"remote", func(c *Config) { c.HTTP = "0.0.0.0:8100" }, []string{"--allow-remote-http"}},
		{"everywhere", func(c *Config) { c.JobEndpoint = ":8099" }, []string{"--allow-remote-job-endpoint"}},
		{"a name", func(c *Config) { c.ExpansionEndpoint = "build.example:8097" }, []string{"--allow-remote-expansion-endpoint"}},
		{"remote permitted", func(c *Config) { c.HTTP = "0.0.0.0:8100"; c.AllowRemoteHTTP = true }, nil},
		{"permission of another", func(c *Config) { c.HTTP = "10.0.0.1:8100"; c.AllowRemoteJobEndpoint = true },
			[]string{"--allow-remote-http"}},
		{"remote workers", func(c *Config) { c.WorkerEndpoint = "0.0.0.0:8101" }, []string{"--allow-remote-worker-endpoint"}},
		{"remote workers permitted", func(c *Config) {
			c.WorkerEndpoint, c.AllowRemoteWorkerEndpoint, c.AdvertisedWorkerHost = "0.0.0.0:8101", true, "host.docker.internal"
		}, nil},
		{"bad advertised host", func(c *Config) { c.AdvertisedWorkerHost = "runner.example:8101" }, []string{"no host name or address"}},
		{"no port", func(c *Config) { c.HTTP = "localhost" }, []string{"not host:port"}},
		{"bad port", func(c *Config) { c.HTTP = "localhost:99999" }, []string{"0 to 65535"}},
		{"one port for jobs and artifacts", func(c *Config) { c.ArtifactEndpoint = c.JobEndpoint }, nil},
		{"one port for jobs and HTTP", func(c *Config) { c.HTTP = c.JobEndpoint }, []string{"both"}},
		{"expansion services", func(c *Config) { c.ExpansionServices = []string{"localhost:1", "beam:x:=host:2"} }, nil},
		{"bad expansion services", func(c *Config) { c.ExpansionServices = []string{"localhost", "=a:1", c.ExpansionEndpoint} },
			[]string{"not host:port", "nothing before", "own expansion-endpoint"}},
		{"settings", func(c *Config) { c.MaxBundleSize, c.SDKWorkerParallelism, c.Parallelism = 1, 0, 8 }, nil},
		{"bad settings", func(c *Config) {
			c.MaxBundleSize, c.MaxBundleTimeMills, c.LatencyBudgetMillis, c.SDKWorkerParallelism, c.Parallelism = -1, -1, -1, -1, 0
		}, []string{"max-bundle-size: -1", "max-bundle-time-mills: -1", "latency-budget-millis: -1", "sdk-worker-parallelism: -1", "parallelism: 0"}},
		{"sizing", func(c *Config) {
			c.AutoscalingAlgorithm, c.MaxNumWorkers, c.NumWorkers, c.HarnessMemoryLimit = "throughput_based", 8, 2, 1<<30
			c.WarmWorkers = []string{"localhost:50000", "pool.example:50000=3"}
		}, nil},
		{"bad sizing", func(c *Config) {
			c.AutoscalingAlgorithm, c.MaxNumWorkers, c.NumWorkers, c.HarnessMemoryLimit = "MORE", -1, 2000, 1<<20
			c.AutoscalingInterval, c.AutoscalingIdleTime = time.Millisecond, time.Microsecond
			c.WarmWorkers = []string{"localhost:50000=0"}
		}, []string{
			`autoscaling-algorithm: "MORE" is not NONE or THROUGHPUT_BASED`, "max-num-workers: -1", "num-workers: 2000",
			"harness-memory-limit: 1MiB is not a size from 16MiB", "autoscaling-interval 1ms", "autoscaling-idle-time 1µs", "from 1 to 64",
		}},
		{"bad warm workers", func(c *Config) { c.WarmWorkers = []string{"localhost"} }, []string{"not host:port"}},
		{"topics without broker", func(c *Config) { c.EmbeddedKafkaTopics = topicList{"a": 1} }, []string{"without embedded-kafka"}},
		{"remote broker", func(c *Config) { c.EmbeddedKafka = "0.0.0.0:9092" }, []string{"lets everybody in"}},
		{"bad topics", func(c *Config) {
			c.EmbeddedKafka, c.EmbeddedKafkaTopics = "localhost:0", topicList{"a b": 1, "c": 0, "d": 3}
		}, []string{`"a b"`, `"c" has 0`}},
		{"all at once", func(c *Config) { c.DataDir, c.LogLevel, c.LogFormat, c.HTTP = "", "loud", "xml", "x" },
			[]string{"data-dir", "loud", "xml", "not host:port"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := defaultConfig(noEnv)
			cfg.DataDir = t.TempDir()
			c.change(&cfg)
			err := cfg.Validate()
			if len(c.faults) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil {
				t.Fatal("no fault found")
			}
			if n := strings.Count(err.Error(), string(codeConfig)); n != len(c.faults) {
				t.Errorf("%d faults, want %d: %v", n, len(c.faults), err)
			}
			for _, part := range c.faults {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v does not contain %q", err, part)
				}
			}
			if code, _ := exitCode(err); code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
		})
	}
}

func TestTopicList(t *testing.T) {
	cases := []struct{ in, out, fault string }{
		{"payments:4,totals:2", "payments:4,totals:2", ""},
		{" b , a:3,", "a:3,b:1", ""},
		{"", "", ""},
		{"a:x", "", "no number of partitions"},
		{"a:99999999999", "", "no number of partitions"},
		{"a,a:2", "", "twice"},
	}
	for _, c := range cases {
		var list topicList
		err := list.Set(c.in)
		if c.fault != "" {
			if err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("%q: error %v, want %q", c.in, err, c.fault)
			}
			continue
		}
		if err != nil || list.String() != c.out {
			t.Errorf("%q: %q, %v; want %q", c.in, list, err, c.out)
		}
	}
}

func TestDefaultDataDir(t *testing.T) {
	t.Setenv("HOME", "/home/someone")
	if got := defaultDataDir(noEnv); got != "/home/someone/.padstone" {
		t.Error(got)
	}
	if got := defaultDataDir(func(string) string { return "/data" }); got != "/data" {
		t.Error(got)
	}
}
