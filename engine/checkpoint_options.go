package engine

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"padstone/engine/checkpoint"
	"padstone/internal/fault"
)

// Checkpoints configures the checkpoints of all jobs.
type Checkpoints struct {
	// Dir is a location as checkpoint.Open takes it; "": only those on demand that name one.
	Dir string
	// Interval is the time from one checkpoint to the next; 0: only on demand.
	Interval time.Duration
	// Keep is how many checkpoints of a job are kept besides its savepoints; 0: all.
	Keep int
	// Open opens what a location names; default checkpoint.Open.
	Open func(ctx context.Context, location string) (*checkpoint.Repository, error)
}

// checkpointSettings are those of one job.
type checkpointSettings struct {
	dir             string
	interval, pause time.Duration
	timeout         time.Duration // 0: none
	keep            int
	unheard         bool // the job asks for checkpoints, and there is no place for them
}

// Pipeline options about checkpoints, with Flink's meaning. Spec: java FlinkPipelineOptions.
const (
	optionInterval = "checkpointing_interval"
	optionTimeout  = "checkpoint_timeout_millis"
	optionPause    = "min_pause_between_checkpoints"
)

// checkpointsOf lays a job's options over the configuration. -1 means none, as in Flink.
func checkpointsOf(c Checkpoints, options *structpb.Struct) (checkpointSettings, error) {
	s := checkpointSettings{dir: c.Dir, interval: c.Interval, keep: c.Keep}
	for name, into := range map[string]*time.Duration{optionInterval: &s.interval, optionTimeout: &s.timeout, optionPause: &s.pause} {
		const absent = -1 << 31
		switch ms := optionInt(options, name, absent); {
		case ms == absent:
		case ms == -1 || ms == 0 && name != optionInterval:
			*into = 0
		case ms < 1:
			return s, fault.New(fault.Pipeline, "checkpoint-option", "the pipeline option %s is %d", name, ms).
				WithHint("give a positive number of milliseconds, or -1 for none")
		default:
			*into = time.Duration(ms) * time.Millisecond
			s.unheard = s.unheard || name == optionInterval && c.Dir == ""
		}
	}
	return s, nil
}
