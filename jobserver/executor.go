package jobserver

import (
	"context"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/connector"
)

// Executor runs jobs. Implementations: package engine (this machine); package cluster later.
type Executor interface {
	// Check compiles the pipeline and throws the result away: what would be refused at Run is refused now, as *fault.Error. In
	// spec.Pipeline it puts in place of each environment with alternatives the one that will run, so that the client is asked for the
	// artifacts of that one only: a client need not have those of the others.
	Check(ctx context.Context, spec Spec) error
	// Start runs a job whose artifacts are staged and returns once it is accepted. Everything after that is told to reporter. The
	// job ends with exactly one terminal State call. ctx bounds the acceptance only, not the job.
	Start(ctx context.Context, spec Spec, reporter Reporter) (Running, error)
}

// Previewer is implemented by an Executor that can tell what a job would carry over from the savepoint that its options name.
type Previewer interface {
	Preview(ctx context.Context, spec Spec) (*Preview, error)
}

// Preview is what would become of what a savepoint holds.
type Preview struct {
	Savepoint string        `json:"savepoint"`
	Lines     []PreviewLine `json:"lines"`
	Warnings  []string      `json:"warnings,omitempty"`
	Refused   *PreviewError `json:"refused,omitempty"` // why the pipeline would not be started
}

// PreviewLine is what would become of one thing.
type PreviewLine struct {
	Outcome string   `json:"outcome"`            // carried over, moved, starts empty, dropped, not restored, incompatible
	Kind    string   `json:"kind"`               // what it is: state, grouping, source, …
	Name    string   `json:"name"`               // of the transform in the savepoint; of what starts empty, in the new pipeline
	NewName string   `json:"new_name,omitempty"` // where it was renamed
	Details []string `json:"details,omitempty"`
}

// PreviewError is a refusal.
type PreviewError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Spec is a submitted job.
type Spec struct {
	ID       string // "<sanitised name>-<random>"; unguessable
	Name     string // from option beam:option:job_name:v1
	Pipeline *pipepb.Pipeline
	Options  *structpb.Struct // as submitted, passed on to harnesses unchanged
	// RetrievalToken authorises harnesses to fetch the job's artifacts from ArtifactEndpoint.
	RetrievalToken   string
	ArtifactEndpoint string
	// Dir is the job's own directory, absolute; it is removed when the job is pruned. An Executor keeps what it needs in Dir/engine.
	// The directory exists at Start, not yet at Check.
	Dir string
	// Files lists what a copy of the job needs besides what the executor keeps. Nil where nobody copies jobs.
	Files func() ([]SpecFile, error)
}

// Reporter takes what a job has to say. Safe for concurrent use; never blocks for long.
type Reporter interface {
	// State reports a transition. After a terminal state nothing more is reported.
	State(state jobpb.JobState_Enum)
	// Message reports a message for the user; transform names are the user's. A job that fails reports exactly one
	// JOB_MESSAGE_ERROR before State(FAILED), with the user's traceback where there is one.
	Message(importance jobpb.JobMessage_MessageImportance, text string)
}

// Running is a started job.
type Running interface {
	// Cancel asks for CANCELLED; Drain for DRAINED. They return once the request is accepted. Both are idempotent.
	Cancel(ctx context.Context) error
	Drain(ctx context.Context) error
	// Metrics returns attempted and committed metrics by the user's transform names. Works after the end, too.
	Metrics(ctx context.Context) (*jobpb.MetricResults, error)
	// Describe returns what the job looks like now. Works after the end, too (the last picture).
	Describe(ctx context.Context) (*Description, error)
	// Wait blocks until the job is terminal and every resource of it (harnesses, files, goroutines) is released.
	Wait(ctx context.Context) error
}

// Description is the picture of a job for `padstone jobs describe` and the HTTP API; stored with the job when it ends.
type Description struct {
	// Waiting is why the whole job stands still, in words; "" while it does not.
	Waiting string `json:"waiting,omitempty"`
	// DiskStalledMillis is for how long the disk has not answered; 0 while it does.
	DiskStalledMillis int64 `json:"disk_stalled_millis,omitempty"`
	// Durability is how the job's commits become durable.
	Durability string               `json:"durability,omitempty"`
	Settings   []SettingDescription `json:"settings,omitempty"`
	Stages     []StageDescription   `json:"stages"`
	Sources    []SourceDescription  `json:"sources,omitempty"`
	// Environments are those that a stage runs in.
	Environments []EnvironmentDescription `json:"environments,omitempty"`
	// Pools is how many harness processes there are, by environment.
	Pools   []PoolDescription   `json:"pools,omitempty"`
	Workers []WorkerDescription `json:"workers,omitempty"`
	// Checkpoints is nil where the executor takes none.
	Checkpoints *CheckpointDescription `json:"checkpoints,omitempty"`
	// Plan is the compiled plan as a tree.
	Plan string `json:"plan,omitempty"`
}

// StageDescription is one stage.
type StageDescription struct {
	ID              string   `json:"id"`
	Name            string   `json:"name"`
	Kind            string   `json:"kind"`
	Transforms      []string `json:"transforms"` // the user's unique names
	InputWatermark  string   `json:"input_watermark"`
	OutputWatermark string   `json:"output_watermark"`
	// The same in milliseconds since the epoch, for programs.
	InputWatermarkMillis  int64  `json:"input_watermark_millis"`
	OutputWatermarkMillis int64  `json:"output_watermark_millis"`
	BacklogElements       int64  `json:"backlog_elements"`
	BacklogBytes          int64  `json:"backlog_bytes"`
	BundlesInFlight       int    `json:"bundles_in_flight"`
	BundlesCommitted      int64  `json:"bundles_committed"`
	ElementsIn            int64  `json:"elements_in"`
	ElementsOut           int64  `json:"elements_out"`
	DroppedLate           int64  `json:"dropped_late"`
	Splits                int64  `json:"splits,omitempty"`         // of bundles that ran, because a harness process was idle
	BundlesFailed         int64  `json:"bundles_failed,omitempty"` // attempts that failed in user code, or for a wrong answer; they ran again
	BundlesLost           int64  `json:"bundles_lost,omitempty"`   // attempts that lost their harness; they ran again
	Suspect               string `json:"suspect,omitempty"`        // an input that keeps losing its harness, in words
	Waiting               string `json:"waiting,omitempty"`        // why the stage does not progress, in words
	// Profile is where the time of its bundles went; nil where the executor takes none.
	Profile *ProfileDescription `json:"profile,omitempty"`
	// Cost is what its bundles are taken to cost their harness, and what is made of that; nil until there is a harness.
	Cost *CostDescription `json:"cost,omitempty"`
}

// SourceDescription is one native source with its splits.
type SourceDescription struct {
	Stage  string                  `json:"stage"`
	Name   string                  `json:"name"`
	Splits []connector.SplitStatus `json:"splits"`
}

// EnvironmentDescription is where the user code of stages runs.
type EnvironmentDescription struct {
	ID   string `json:"id"`   // of the pipeline
	Runs string `json:"runs"` // its type, and the image, address or command
	// Replaces is what the pipeline came with, if that is another one.
	Replaces string `json:"replaces,omitempty"`
}

// WorkerDescription is one harness process.
type WorkerDescription struct {
	ID          string `json:"id"`
	Environment string `json:"environment"`
	Bundles     int    `json:"bundles"`
	Generation  int    `json:"generation"`
	// MemoryBytes is what it has resident, where that is looked at and can be seen.
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
	// WorkerPool is the address of the pool that has started it, if one has.
	WorkerPool string `json:"worker_pool,omitempty"`
}

// PoolDescription is the harness processes of an environment: how many there are, and why.
type PoolDescription struct {
	Environment string `json:"environment"`
	Wanted      int    `json:"wanted"`
	Ready       int    `json:"ready"`    // that take bundles
	Starting    int    `json:"starting"` // that will, those that were lost included
	Ending      int    `json:"ending"`   // that end as soon as their bundles have
	Min         int    `json:"min"`
	Max         int    `json:"max"`
	// Sized says that they come and go by what there is to do.
	Sized bool `json:"sized"`
	// BacklogSeconds is how long they would take for what waits, as far as that is known.
	BacklogSeconds float64 `json:"backlog_seconds"`
	// Busy is the share of the last second in which a process had a bundle at work.
	Busy float64 `json:"busy"`
	// Cores is how many cores they use; nil where that is not looked at, or cannot be seen.
	Cores    *float64 `json:"cores,omitempty"`
	Grown    int64    `json:"grown"`    // times that there were to be more
	Shrunk   int64    `json:"shrunk"`   // times that there were to be fewer
	Recycled int64    `json:"recycled"` // processes whose place another one has taken, for their memory
	// Reason of the last change, and when that was.
	Reason    string     `json:"reason,omitempty"`
	ChangedAt *time.Time `json:"changed_at,omitempty"`
	// Holding is why there are not more, although there is too much to do.
	Holding string `json:"holding,omitempty"`
}
