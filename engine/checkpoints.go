package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"sync"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"

	"padstone/engine/checkpoint"
	"padstone/engine/plan"
	"padstone/engine/store"
	"padstone/internal/fault"
	"padstone/jobserver"
)

// checkpoints takes the checkpoints of a job, by the clock and on demand, one at a time, on a goroutine of its own. The driver only says
// how far the job is; the store is copied beside it.
type checkpoints struct {
	job      *job
	settings checkpointSettings
	requests chan *checkpointRequest
	lineage  checkpoint.Lineage
	repo     *checkpoint.Repository // of settings.dir, once it was opened; it knows what is there already

	mu struct {
		sync.Mutex
		d jobserver.CheckpointDescription
	}
}

// checkpointRequest is a checkpoint on demand.
type checkpointRequest struct {
	to   string // "": settings.dir
	kind checkpoint.Kind
	stop bool // ends the job
	done chan struct{}
	// After done.
	taken *jobserver.Checkpoint
	err   error
}

func newCheckpoints(j *job, s checkpointSettings) *checkpoints {
	c := &checkpoints{job: j, settings: s, requests: make(chan *checkpointRequest)}
	c.mu.d.Repository = checkpoint.Redacted(s.dir)
	if s.dir != "" {
		c.mu.d.IntervalMillis = s.interval.Milliseconds()
	}
	return c
}

// start begins to take checkpoints.
func (c *checkpoints) start() {
	if c.settings.unheard {
		c.job.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING, "the pipeline option "+optionInterval+" has no effect: the server was "+
			"started without --checkpoint-dir. What the job has committed survives a crash of the server all the same, but not the loss of its disk")
	}
	c.job.tasks.Go(c.run)
}

// run takes checkpoints until the job ends.
func (c *checkpoints) run() {
	ctx, s := c.job.ctx, c.settings
	var due <-chan time.Time
	periodic := s.dir != "" && s.interval > 0
	clock := time.NewTimer(s.interval)
	defer clock.Stop()
	if periodic {
		due = clock.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-c.requests:
			c.serve(ctx, r)
		case <-due:
			began := time.Now()
			_, err := c.take(ctx, "", checkpoint.Checkpoint)
			if err != nil && ctx.Err() == nil {
				c.job.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING,
					fmt.Sprintf("a checkpoint failed, and will be taken again in %v: %v", s.interval, err))
			}
			clock.Reset(max(s.interval-time.Since(began), s.pause))
		}
	}
}

// serve takes a checkpoint on demand.
func (c *checkpoints) serve(ctx context.Context, r *checkpointRequest) {
	defer close(r.done)
	if r.stop {
		r.taken, r.err = c.stop(ctx, r.to)
	} else {
		r.taken, r.err = c.take(ctx, r.to, r.kind)
	}
	switch {
	case r.err == nil:
		t := r.taken
		c.job.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_BASIC, fmt.Sprintf("%s %s is in %s: %d files, %d bytes, of which %d files, "+
			"%d bytes were not there before", t.Kind, t.ID, t.Repository, t.Files, t.Bytes, t.UploadedFiles, t.UploadedBytes))
	case ctx.Err() == nil:
		c.job.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING, fmt.Sprintf("a %s failed: %v", r.kind, r.err))
	}
}

// ask has run serve a request. A caller that leaves does not end what was begun.
func (c *checkpoints) ask(ctx context.Context, r *checkpointRequest) (*jobserver.Checkpoint, error) {
	if r.to == "" && c.settings.dir == "" {
		return nil, fault.New(fault.Pipeline, "checkpoint-url", "the server has no place for checkpoints").
			WithHint("name one with --to, or start the server with --checkpoint-dir")
	}
	if _, err := c.repository(ctx, r.to); err != nil {
		return nil, err
	}
	r.done = make(chan struct{})
	select {
	case c.requests <- r:
	case <-c.job.ctx.Done():
		return nil, jobOver(c.job)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	select {
	case <-r.done:
		if r.err != nil && c.job.ctx.Err() != nil {
			return nil, jobOver(c.job)
		}
		return r.taken, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func jobOver(j *job) error {
	return fault.New(fault.Pipeline, "job-over", "job %s has ended, or its server stops: there is nothing to copy any more", j.spec.ID)
}

// repository opens the repository at a location; that of the settings stays open.
func (c *checkpoints) repository(ctx context.Context, to string) (*checkpoint.Repository, error) {
	if to != "" && to != c.settings.dir {
		return c.job.cfg.Checkpoints.Open(ctx, to)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.repo == nil {
		var err error
		if c.repo, err = c.job.cfg.Checkpoints.Open(ctx, c.settings.dir); err != nil {
			return nil, err
		}
	}
	return c.repo, nil
}

// take takes a checkpoint and counts it.
func (c *checkpoints) take(ctx context.Context, to string, kind checkpoint.Kind) (*jobserver.Checkpoint, error) {
	c.note(func(d *jobserver.CheckpointDescription) { d.InProgress = true })
	if c.settings.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.settings.timeout, fault.New(fault.Environment, "checkpoint-repository",
			"it has taken longer than checkpoint_timeout_millis, %v", c.settings.timeout))
		defer cancel()
	}
	taken, err := c.write(ctx, to, kind)
	c.note(func(d *jobserver.CheckpointDescription) {
		d.InProgress = false
		if err != nil {
			d.Failed++
			d.LastFailure = &jobserver.CheckpointFailure{At: time.Now().UTC(), Message: err.Error()}
			return
		}
		d.Completed++
		d.UploadedBytes += taken.UploadedBytes
		d.Last = taken
	})
	if err != nil {
		c.job.log.Warn("a checkpoint failed", zap.Error(err))
	} else {
		c.job.log.Info("checkpoint", zap.String("id", taken.ID), zap.String("kind", taken.Kind), zap.Int64("bytes", taken.Bytes),
			zap.Int64("uploaded", taken.UploadedBytes), zap.Int64("ms", taken.Millis))
	}
	return taken, err
}

func (c *checkpoints) note(change func(d *jobserver.CheckpointDescription)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.mu.d)
}

// describe returns what there is to say.
func (c *checkpoints) describe() *jobserver.CheckpointDescription {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.mu.d
	return &d
}

// write copies the store and stores the checkpoint.
func (c *checkpoints) write(ctx context.Context, to string, kind checkpoint.Kind) (taken *jobserver.Checkpoint, err error) {
	j := c.job
	repo, err := c.repository(ctx, to)
	if err != nil {
		return nil, err
	}
	if err := c.begin(); err != nil {
		return nil, err
	}
	contents, err := c.contents(ctx, kind)
	if err != nil {
		return nil, err
	}
	copied, err := j.store.Copy()
	if err != nil {
		return nil, err
	}
	defer func() { j.warn(copied.Close(), "removing the copy of the store") }()
	for _, f := range copied.Files {
		local := checkpoint.Local{
			Path: checkpoint.DirStore + "/" + f.Name, Size: f.Size,
			Open: func() (checkpoint.Reader, error) { return copied.Open(f.Name) },
		}
		if f.Immutable {
			local.Same = local.Path
		}
		contents.Files = append(contents.Files, local)
	}
	m, err := repo.Write(ctx, contents)
	if err != nil {
		return nil, err
	}
	keep := c.settings.keep
	if to != "" && to != c.settings.dir {
		keep = 0 // what else is there is somebody else's business
	}
	if _, err := repo.Prune(ctx, j.spec.ID, keep); err != nil && ctx.Err() == nil {
		j.log.Warn("old checkpoints were not removed", zap.Error(err))
	}
	taken = describeManifest(repo, m)
	taken.Millis = time.Since(contents.CreatedAt).Milliseconds()
	return taken, nil
}

func describeManifest(repo *checkpoint.Repository, m *checkpoint.Manifest) *jobserver.Checkpoint {
	return &jobserver.Checkpoint{
		ID: m.ID, Kind: string(m.Kind), Repository: repo.URL(), Job: m.Job, CreatedAt: m.CreatedAt, Commit: m.Commit,
		Files: len(m.Files), Bytes: m.Bytes, UploadedFiles: m.NewFiles, UploadedBytes: m.NewBytes,
	}
}

// contents asks the driver how far the job is, and lists the files that are not the store's.
func (c *checkpoints) contents(ctx context.Context, kind checkpoint.Kind) (checkpoint.Contents, error) {
	j := c.job
	contents := checkpoint.Contents{
		Kind: kind, Job: j.spec.ID, Name: j.spec.Name, CreatedAt: time.Now(), Lineage: c.lineage, Padstone: j.cfg.Version,
		Store: store.FormatVersion,
	}
	var herr error
	ok, err := j.do(ctx, func() {
		contents.Inventory, herr = j.held()
		contents.Commit = j.store.Applied()
		for i, s := range j.plan.Stages {
			if s.Kind == plan.Sink {
				contents.Sinks = append(contents.Sinks, checkpoint.Sink{Stage: string(s.ID), Name: s.Name, Published: j.sinks[i].dropped.seq})
			}
		}
	})
	if err == nil && !ok {
		err = jobOver(j)
	}
	if err == nil {
		err = herr
	}
	if err != nil || j.spec.Files == nil {
		return contents, err
	}
	files, err := j.spec.Files()
	if err != nil {
		return contents, err
	}
	for _, f := range files {
		local, err := localFile(f)
		if err != nil {
			return contents, err
		}
		contents.Files = append(contents.Files, local)
	}
	return contents, nil
}

// localFile is a file of the job server's, as long as it is now.
func localFile(f jobserver.SpecFile) (checkpoint.Local, error) {
	info, err := os.Stat(f.Name)
	if err != nil {
		return checkpoint.Local{}, fault.New(fault.Environment, "checkpoint-source", "%s cannot be read for a checkpoint: %w", f.Path, err)
	}
	local := checkpoint.Local{
		Path: path.Clean(f.Path), Size: info.Size(),
		Open: func() (checkpoint.Reader, error) { return os.Open(f.Name) },
	}
	if f.Immutable {
		local.Same = local.Path
	}
	return local, nil
}

// Checkpoint implements jobserver.Checkpointing.
func (l *lasting) Checkpoint(ctx context.Context, r jobserver.CheckpointRequest) (*jobserver.Checkpoint, error) {
	kind := checkpoint.Checkpoint
	if r.Savepoint {
		kind = checkpoint.Savepoint
	}
	taken, _, err := l.checkpoint(ctx, &checkpointRequest{to: r.To, kind: kind})
	return taken, err
}

// Stop implements jobserver.Checkpointing. It returns when the job is over and everything of it released.
func (l *lasting) Stop(ctx context.Context, to string) (*jobserver.Checkpoint, error) {
	taken, run, err := l.checkpoint(ctx, &checkpointRequest{to: to, kind: checkpoint.Savepoint, stop: true})
	if err != nil {
		return nil, err
	}
	if err := l.Wait(ctx); err != nil {
		return nil, err
	}
	if !errors.Is(run.outcome, errReplaced) { // it was cancelled, or failed, at the last moment; the savepoint is there
		return nil, jobOver(run)
	}
	return taken, nil
}

// checkpoint has the present run take a checkpoint.
func (l *lasting) checkpoint(ctx context.Context, r *checkpointRequest) (*jobserver.Checkpoint, *job, error) {
	run, between := l.present()
	if between != nil {
		return nil, nil, fmt.Errorf("the job stands still, so that there is nothing to copy: %w", between)
	}
	taken, err := run.checkpoints.ask(ctx, r)
	return taken, run, err
}
