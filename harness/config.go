package harness

import (
	"errors"
	"os"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"

	"padstone/fnapi"
	"padstone/harness/docker"
	"padstone/internal/fault"
)

// Config configures a Manager.
type Config struct {
	Logger *zap.Logger    // nil: no logs
	Server *fnapi.Server  // required; it must be running when Start is called
	Docker *docker.Engine // runs containers; nil: environments that want one are refused
	// BootSilence is how long Beam's boot program may keep silent in a container that has nothing to try its route with. Default 15 s.
	BootSilence time.Duration
	// StartTimeout bounds the time from a harness's start, or the last line that it has printed since, to its control stream; boot programs
	// that install packages tell of it. Default 60 s. StartTimeoutMax bounds the whole start. Default ten times that.
	StartTimeout, StartTimeoutMax time.Duration
	// GreetTimeout is how long the only worker pool of an environment may take to answer a connection, before it is asked for anything.
	// Default 20 s.
	GreetTimeout time.Duration
	// StopTimeout bounds each step of stopping a harness: to end by itself, to end on SIGTERM. Default 10 s.
	StopTimeout time.Duration
	// LossWait is how long the end of a harness's program is waited for once its connection broke, to tell how it ended. Default 1 s.
	LossWait time.Duration
	// LogLinesMax is how many of a pool's last log lines are kept for error messages. Default 40.
	LogLinesMax int
	// TempDir is where directories for staged files are made. Default os.TempDir().
	TempDir string
	// DefaultEnvironment stands for beam:env:default:v1. Default none: such an environment is refused.
	DefaultEnvironment *pipepb.Environment
	// BackoffMin and BackoffMax bound the wait before a lost harness is started again; it doubles each time. Default 0.5 s, 30 s.
	BackoffMin, BackoffMax time.Duration
	// RestartsMax restarts of a worker within RestartWindow without progress make the pool fail. Default 10 in 5 min.
	RestartsMax   int
	RestartWindow time.Duration
	// Warm lists worker pools of which workers are kept warm, by KeepWarm.
	Warm []Warm
	// MeasureEvery is how often the memory of harnesses is looked at where it is bounded. Default 1 s.
	MeasureEvery time.Duration
	// ResolveEvery is how often the names of worker pools are looked up, which may stand for others than before. Default 30 s.
	ResolveEvery time.Duration
}

// withDefaults fills what is zero.
func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	orDuration := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	orDuration(&c.StartTimeout, time.Minute)
	orDuration(&c.StartTimeoutMax, 10*c.StartTimeout)
	orDuration(&c.BootSilence, 15*time.Second)
	orDuration(&c.GreetTimeout, 20*time.Second)
	orDuration(&c.StopTimeout, 10*time.Second)
	orDuration(&c.LossWait, time.Second)
	orDuration(&c.BackoffMin, 500*time.Millisecond)
	orDuration(&c.BackoffMax, 30*time.Second)
	orDuration(&c.RestartWindow, 5*time.Minute)
	orDuration(&c.MeasureEvery, time.Second)
	orDuration(&c.ResolveEvery, 30*time.Second)
	if c.LogLinesMax == 0 {
		c.LogLinesMax = 40
	}
	if c.RestartsMax == 0 {
		c.RestartsMax = 10
	}
	if c.TempDir == "" {
		c.TempDir = os.TempDir()
	}
	return c
}

// Validate lists every fault of the configuration.
func (c Config) Validate() error {
	c = c.withDefaults()
	var faults []error
	check := func(ok bool, what string) {
		if !ok {
			faults = append(faults, errors.New(what))
		}
	}
	check(c.Server != nil, "Server is required")
	check(c.StartTimeout > 0 && c.StartTimeoutMax >= c.StartTimeout, "StartTimeout must be positive and at most StartTimeoutMax")
	check(c.BootSilence > 0, "BootSilence is negative")
	check(c.GreetTimeout > 0, "GreetTimeout is negative")
	check(c.StopTimeout > 0, "StopTimeout is negative")
	check(c.LossWait > 0, "LossWait is negative")
	check(c.BackoffMin > 0 && c.BackoffMin <= c.BackoffMax, "BackoffMin must be positive and at most BackoffMax")
	check(c.RestartsMax > 0 && c.RestartWindow > 0, "RestartsMax or RestartWindow is negative")
	check(c.MeasureEvery > 0, "MeasureEvery is negative")
	check(c.ResolveEvery > 0, "ResolveEvery is negative")
	check(c.LogLinesMax > 0, "LogLinesMax is negative")
	if len(faults) > 0 {
		return fault.New(fault.Internal, codeConfig, "%w", errors.Join(faults...))
	}
	return nil
}
