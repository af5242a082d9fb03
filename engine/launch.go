package engine

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/bundle"
	"padstone/engine/plan"
	"padstone/internal/option"
	"padstone/jobserver"
)

// starts starts harnesses, of a job that may not be there yet.
type starts struct {
	cfg  Config
	spec jobserver.Spec
	home home
	plan *plan.Plan          // for the names of transforms
	job  atomic.Pointer[job] // nil while there is none
	// settings that harnesses start with: none of them changes before there is a job.
	settings *chosen
}

// started is what became of a start.
type started struct {
	pool HarnessPool
	err  error
}

// begin starts the harnesses of an environment and sends what became of it, once.
func (s *starts) begin(ctx context.Context, id plan.EnvID, env *pipepb.Environment, resumed bool) <-chan started {
	settings := s.settings.clone() // they may change while harnesses start
	processes := func(pools int) int { return settings.processes(s.cfg.Cores, bundle.Parallel(env), pools).first }
	spec := HarnessSpec{
		Job: s.spec, EnvID: id, Environment: env, Processes: processes(1), ProcessesOf: processes,
		Log: s.log,
		OnChange: func() {
			if j := s.job.Load(); j != nil {
				j.postLive(func() { j.poolChanged(id) })
			}
		},
	}
	out := make(chan started, 1)
	go func() {
		pool, err := s.pool(ctx, spec, resumed, settings.waits())
		out <- started{pool, err}
	}()
	return out
}

// pool starts the harnesses of an environment. A job that ran before waits for a worker pool that is not there, as for a broker: the
// server may have been quicker to come back. Not so for workers in the program that submitted the job: if that is gone, so are they. A new
// job waits for as long as it was told to, which is waits.
func (s *starts) pool(ctx context.Context, spec HarnessSpec, resumed bool, waits time.Duration) (pool HarnessPool, err error) {
	start := func() error {
		pool, err = s.cfg.Harnesses.Start(ctx, spec)
		return err
	}
	if strings.EqualFold(option.Text(s.spec.Options, "environment_type"), "LOOPBACK") {
		err = start()
		return pool, err
	}
	doing := fmt.Sprintf("starting the harnesses of environment %q", spec.EnvID)
	if resumed {
		err = s.home.again(ctx, doing, start)
		return pool, err
	}
	begun := time.Now()
	var last error
	given := s.home.again(ctx, doing+fmt.Sprintf(" (for %v at most)", waits), func() error {
		if last = start(); poolAway(last) && time.Since(begun) < waits {
			return last
		}
		return nil // whether it has worked or not
	})
	if last == nil {
		last = given
	}
	return pool, last
}

// log passes what a harness logs on to the job's messages, under the user's transform name.
func (s *starts) log(level LogLevel, transform, text string) {
	importance := jobpb.JobMessage_JOB_MESSAGE_DEBUG
	switch level {
	case LogInfo:
		importance = jobpb.JobMessage_JOB_MESSAGE_DETAILED
	case LogNotice:
		importance = jobpb.JobMessage_JOB_MESSAGE_BASIC
	case LogWarning, LogError: // an error of user code is logged, too, but only the job's own end is its error message
		importance = jobpb.JobMessage_JOB_MESSAGE_WARNING
	}
	if name := transformNames(s.plan)[transform]; name != "" {
		text = fmt.Sprintf("[%s] %s", name, text)
	}
	s.home.reporter.Message(importance, text)
}

// newJob makes a job, with the rows of its store made those of its plan. The harnesses of starting, if there is such a plan, start at once.
func (e *Engine) newJob(cfg Config, spec jobserver.Spec, h home, starting *plan.Plan) (j *job, err error) {
	c, err := settingsOf(cfg, spec.Options)
	if err != nil {
		return nil, err
	}
	s := &starts{cfg: cfg, spec: spec, home: h, plan: starting, settings: c}
	ctx, cancel := context.WithCancelCause(context.Background())
	var first *early
	defer func() {
		if err == nil {
			s.job.Store(j)
			return
		}
		cancel(err)
		first.giveUp(ctx)
	}()
	if starting != nil {
		if first, err = s.startEarly(ctx); err != nil {
			return nil, err
		}
	}
	if j, err = e.openJob(cfg, spec, h, c); err != nil {
		return nil, err
	}
	if starting == nil {
		s.plan = j.plan
	}
	j.ctx, j.cancel, j.starts, j.early = ctx, cancel, s, first
	return j, nil
}

// early is harnesses that start while the store of a recovered job opens: either may take seconds.
type early struct {
	pools map[plan.EnvID]<-chan started // that nobody has claimed
}

// startEarly starts the harnesses of the environments that a plan uses, until ctx ends.
func (s *starts) startEarly(ctx context.Context) (*early, error) {
	e := &early{pools: make(map[plan.EnvID]<-chan started)}
	for _, env := range s.plan.Environments {
		parsed, err := environment(env)
		if err != nil {
			return e, err
		}
		e.pools[env.ID] = s.begin(ctx, env.ID, parsed, true)
	}
	return e, nil
}

// claim returns the start of an environment's harnesses, which is the caller's then; nil when there was none.
func (e *early) claim(id plan.EnvID) <-chan started {
	if e == nil {
		return nil
	}
	pool := e.pools[id]
	delete(e.pools, id)
	return pool
}

// giveUp stops what nobody has claimed. The context of the starts must have ended.
func (e *early) giveUp(ctx context.Context) {
	if e == nil {
		return
	}
	for _, c := range e.pools {
		if s := <-c; s.pool != nil {
			s.pool.Close(ctx)
		}
	}
	clear(e.pools)
}
