package httpapi

import (
	"context"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"padstone/jobserver"
)

// collector asks the job server for its jobs at every scrape. Metrics of single jobs exist while the job runs.
type collector struct {
	server    *jobserver.Server
	log       *zap.Logger
	answerFor time.Duration

	jobs, info, user, attempted, lag *prometheus.Desc
	stalled                          *prometheus.Desc
	profile                          *profileMetrics
	stages                           []stageMetric
	checkpoints                      []checkpointMetric
	pools                            []poolMetric
	counterURN                       string
}

// checkpointMetric is one number of a job's checkpoints; of says nothing when there is none yet.
type checkpointMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*jobserver.CheckpointDescription) (float64, bool)
}

// stageMetric is one number of every stage.
type stageMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(*jobserver.StageDescription) float64
}

func newCollector(cfg Config) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("padstone_"+name, help, labels, nil)
	}
	stage := func(name, help string, kind prometheus.ValueType, of func(*jobserver.StageDescription) float64) stageMetric {
		return stageMetric{desc: desc("stage_"+name, help, "job", "stage"), kind: kind, of: of}
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	return &collector{
		server: cfg.Server, log: cfg.Log, answerFor: cfg.AnswerFor,
		counterURN:  specURN(pipepb.MonitoringInfoSpecs_USER_SUM_INT64),
		checkpoints: checkpointMetrics(desc),
		pools:       poolMetrics(desc),
		profile:     newProfileMetrics(desc),
		jobs:        desc("jobs", "Jobs in the registry.", "state"),
		info:        desc("job_info", "1 for every job that is not over; joins a job's id with its name.", "job", "name"),
		user:        desc("user_counter", "Committed value of a counter of the pipeline's own.", "job", "transform", "namespace", "name"),
		attempted: desc("user_counter_attempted", "Value of a counter of the pipeline's own, with bundles in flight and failed attempts.",
			"job", "transform", "namespace", "name"),
		stalled: desc("job_disk_stalled_seconds", "For how long the disk has not answered a job; 0 while it does.", "job"),
		lag:     desc("source_lag_records", "Records between a native source's position and the end.", "job", "source", "split"),
		stages: []stageMetric{
			stage("input_watermark_seconds", "Input watermark in seconds since the epoch.", gauge,
				func(s *jobserver.StageDescription) float64 { return float64(s.InputWatermarkMillis) / 1000 }),
			stage("output_watermark_seconds", "Output watermark in seconds since the epoch.", gauge,
				func(s *jobserver.StageDescription) float64 { return float64(s.OutputWatermarkMillis) / 1000 }),
			stage("backlog_elements", "Elements that wait for the stage.", gauge,
				func(s *jobserver.StageDescription) float64 { return float64(s.BacklogElements) }),
			stage("backlog_bytes", "Encoded bytes that wait for the stage.", gauge,
				func(s *jobserver.StageDescription) float64 { return float64(s.BacklogBytes) }),
			stage("bundles_in_flight", "Bundles that run now.", gauge,
				func(s *jobserver.StageDescription) float64 { return float64(s.BundlesInFlight) }),
			stage("bundles_committed_total", "Bundles committed.", counter,
				func(s *jobserver.StageDescription) float64 { return float64(s.BundlesCommitted) }),
			stage("elements_in_total", "Elements taken in committed bundles.", counter,
				func(s *jobserver.StageDescription) float64 { return float64(s.ElementsIn) }),
			stage("elements_out_total", "Elements given out by committed bundles.", counter,
				func(s *jobserver.StageDescription) float64 { return float64(s.ElementsOut) }),
			stage("splits_total", "Bundles split while they ran, because a harness process was idle.", counter,
				func(s *jobserver.StageDescription) float64 { return float64(s.Splits) }),
			stage("bundles_failed_total", "Bundles that failed in user code, or for a harness that answered wrongly, and ran again.", counter,
				func(s *jobserver.StageDescription) float64 { return float64(s.BundlesFailed) }),
			stage("bundles_lost_total", "Bundles that lost their harness, and ran again.", counter,
				func(s *jobserver.StageDescription) float64 { return float64(s.BundlesLost) }),
			stage("dropped_late_total", "Elements dropped because they came too late.", counter,
				func(s *jobserver.StageDescription) float64 { return float64(s.DroppedLate) }),
		},
	}
}

// checkpointMetrics are those of a job's checkpoints.
func checkpointMetrics(desc func(name, help string, labels ...string) *prometheus.Desc) []checkpointMetric {
	count := func(name, help string, of func(*jobserver.CheckpointDescription) int64) checkpointMetric {
		return checkpointMetric{desc("checkpoint_"+name, help, "job"), prometheus.CounterValue,
			func(d *jobserver.CheckpointDescription) (float64, bool) { return float64(of(d)), true }}
	}
	last := func(name, help string, of func(*jobserver.Checkpoint) float64) checkpointMetric {
		return checkpointMetric{desc("checkpoint_last_"+name, help, "job"), prometheus.GaugeValue,
			func(d *jobserver.CheckpointDescription) (float64, bool) {
				if d.Last == nil {
					return 0, false
				}
				return of(d.Last), true
			}}
	}
	return []checkpointMetric{
		count("completed_total", "Checkpoints and savepoints that can be restored, since the server took the job.",
			func(d *jobserver.CheckpointDescription) int64 { return d.Completed }),
		count("failed_total", "Checkpoints and savepoints that failed, since the server took the job.",
			func(d *jobserver.CheckpointDescription) int64 { return d.Failed }),
		count("uploaded_bytes_total", "Bytes that checkpoints and savepoints have stored, since the server took the job.",
			func(d *jobserver.CheckpointDescription) int64 { return d.UploadedBytes }),
		last("time_seconds", "When the last checkpoint was taken, in seconds since the epoch.",
			func(c *jobserver.Checkpoint) float64 { return float64(c.CreatedAt.UnixMilli()) / 1000 }),
		last("duration_seconds", "How long the last checkpoint took until it could be restored.",
			func(c *jobserver.Checkpoint) float64 { return float64(c.Millis) / 1000 }),
		last("bytes", "Bytes of the last checkpoint.", func(c *jobserver.Checkpoint) float64 { return float64(c.Bytes) }),
		last("uploaded_bytes", "Bytes of the last checkpoint that were not there before.",
			func(c *jobserver.Checkpoint) float64 { return float64(c.UploadedBytes) }),
	}
}

// specURN reads the URN of a monitoring info from its proto.
func specURN(spec pipepb.MonitoringInfoSpecs_Enum) string {
	options := spec.Descriptor().Values().ByNumber(protoreflect.EnumNumber(spec)).Options()
	found, _ := proto.GetExtension(options, pipepb.E_MonitoringInfoSpec).(*pipepb.MonitoringInfoSpec)
	return found.GetUrn()
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range append(c.profile.descs(), c.jobs, c.info, c.user, c.attempted, c.lag, c.stalled) {
		out <- d
	}
	for _, s := range c.stages {
		out <- s.desc
	}
	for _, m := range c.checkpoints {
		out <- m.desc
	}
	for _, m := range c.pools {
		out <- m.desc
	}
}

// Collect implements prometheus.Collector. A job that does not answer in time is left out of this scrape.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	states := map[jobpb.JobState_Enum]int{
		jobpb.JobState_STARTING: 0, jobpb.JobState_RUNNING: 0, jobpb.JobState_DRAINING: 0, jobpb.JobState_CANCELLING: 0,
		jobpb.JobState_DONE: 0, jobpb.JobState_FAILED: 0, jobpb.JobState_CANCELLED: 0, jobpb.JobState_DRAINED: 0,
		jobpb.JobState_UPDATED: 0,
	}
	// All jobs together share the time: a scrape has a deadline of its own.
	ctx, cancel := context.WithTimeout(context.Background(), c.answerFor)
	defer cancel()
	for _, info := range c.server.Jobs() {
		states[info.State]++
		if !jobserver.IsTerminal(info.State) {
			c.collectJob(ctx, info, out)
		}
	}
	for state, n := range states {
		send(out, c.jobs, prometheus.GaugeValue, float64(n), state.String())
	}
}

func (c *collector) collectJob(ctx context.Context, info jobserver.JobInfo, out chan<- prometheus.Metric) {
	send(out, c.info, prometheus.GaugeValue, 1, info.ID, info.Name)
	description, err := c.server.Describe(ctx, info.ID)
	if err != nil {
		c.log.Debug("a job gives no description for a scrape", zap.String("job", info.ID), zap.Error(err))
		return
	}
	send(out, c.stalled, prometheus.GaugeValue, float64(description.DiskStalledMillis)/1000, info.ID)
	names := stageNames(description.Stages)
	for i := range description.Stages {
		for _, m := range c.stages {
			send(out, m.desc, m.kind, m.of(&description.Stages[i]), info.ID, names[i])
		}
		c.profile.collect(out, description.Stages[i].Profile, info.ID, names[i])
		c.profile.cost(out, description.Stages[i].Cost, info.ID, names[i])
	}
	if d := description.Checkpoints; d != nil {
		for _, m := range c.checkpoints {
			if value, ok := m.of(d); ok {
				send(out, m.desc, m.kind, value, info.ID)
			}
		}
	}
	for i := range description.Pools {
		for _, m := range c.pools {
			if value, ok := m.of(&description.Pools[i]); ok {
				send(out, m.desc, m.kind, value, info.ID, description.Pools[i].Environment)
			}
		}
	}
	c.collectLag(info.ID, description.Sources, out)
	metrics, err := c.server.Metrics(ctx, info.ID)
	if err != nil {
		c.log.Debug("a job gives no metrics for a scrape", zap.String("job", info.ID), zap.Error(err))
		return
	}
	c.collectUser(c.user, info.ID, metrics.GetCommitted(), out)
	c.collectUser(c.attempted, info.ID, metrics.GetAttempted(), out)
}

// stageNames are the users' names of the stages. One that comes twice gets its stage's id behind it: two series with the same labels
// would void the whole scrape.
func stageNames(stages []jobserver.StageDescription) []string {
	names := make([]string, len(stages))
	count := make(map[string]int)
	for _, s := range stages {
		count[s.Name]++
	}
	for i, s := range stages {
		names[i] = s.Name
		if count[s.Name] > 1 {
			names[i] += " (" + s.ID + ")"
		}
	}
	return names
}

func (c *collector) collectLag(job string, sources []jobserver.SourceDescription, out chan<- prometheus.Metric) {
	lag := make(map[[2]string]int64)
	for _, source := range sources {
		for _, split := range source.Splits {
			if split.End >= 0 {
				lag[[2]string{source.Name, split.Split}] += max(0, split.End-split.Position)
			}
		}
	}
	for key, n := range lag {
		send(out, c.lag, prometheus.GaugeValue, float64(n), job, key[0], key[1])
	}
}

// collectUser sums each of the pipeline's own counters. Spec: metrics.proto MonitoringInfoSpecs USER_SUM_INT64.
func (c *collector) collectUser(desc *prometheus.Desc, job string, infos []*pipepb.MonitoringInfo, out chan<- prometheus.Metric) {
	sums := make(map[[3]string]int64)
	for _, info := range infos {
		if info.GetUrn() != c.counterURN {
			continue
		}
		// beam:coder:varint:v1: a negative number is the ten-byte form of its two's complement.
		value, n := binary.Uvarint(info.GetPayload())
		if n <= 0 {
			continue
		}
		labels := info.GetLabels()
		sums[[3]string{labels["PTRANSFORM"], labels["NAMESPACE"], labels["NAME"]}] += int64(value)
	}
	for _, key := range slices.SortedFunc(maps.Keys(sums), func(a, b [3]string) int { return slices.Compare(a[:], b[:]) }) {
		send(out, desc, prometheus.UntypedValue, float64(sums[key]), job, key[0], key[1], key[2])
	}
}

// valid makes labels of users' names, which may hold anything.
func valid(labels []string) []string {
	for i, label := range labels {
		labels[i] = strings.ToValidUTF8(label, "\uFFFD")
	}
	return labels
}

// send sends one metric.
func send(out chan<- prometheus.Metric, desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
	metric, err := prometheus.NewConstMetric(desc, kind, value, valid(labels)...)
	if err != nil {
		metric = prometheus.NewInvalidMetric(desc, err)
	}
	out <- metric
}
