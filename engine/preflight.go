package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/engine/plan"
	"padstone/internal/fault"
	"padstone/jobserver"
	"padstone/translate"
)

// What a job cannot run without is looked for when it is submitted: its user is there then, and has not gone home. Only environments that a
// stage runs in count; the container of a Kafka transform that Padstone runs itself is none. A job that ran before is another matter: what
// it misses is an outage, and waited for. See docs/decisions/0043-environments-are-tried-at-submission.md.

// codePoolAway is the code of a worker pool that cannot be reached. It may be one that comes up later.
const codePoolAway fault.Code = "harness-worker-pool"

func poolAway(err error) bool {
	f := fault.Of(err)
	return f != nil && f.Code == codePoolAway
}

// severalPools is how many worker pools an environment of the pipeline names at most. A name that stands for several counts once: what is
// compiled must not hang on what it stands for today.
func severalPools(p *pipepb.Pipeline) (most int) {
	for _, env := range p.GetComponents().GetEnvironments() {
		most = max(most, jobserver.WorkerPools(env))
	}
	return most
}

// waits is for how long a new job waits for its worker pools.
func (c *chosen) waits() time.Duration {
	seconds, _ := c.value(SettingPoolWait)
	return time.Duration(seconds) * time.Second
}

// preflight looks for the environments of a job that is submitted.
type preflight struct {
	harnesses Harnesses
	options   *structpb.Struct
	waits     time.Duration
	passedBy  []string // alternatives that cannot be had, with the reason
}

// settle chooses among the alternatives of environments: the first one that can be had, else the first that could be had elsewhere, of
// which check then says what is wrong.
func (p *preflight) settle(ctx context.Context, pipeline *pipepb.Pipeline) {
	offered := func(env *pipepb.Environment) error {
		if err := p.harnesses.Supported(env); err != nil {
			return err
		}
		err := p.harnesses.Check(ctx, env, p.options)
		if err != nil {
			p.passedBy = append(p.passedBy, fmt.Sprintf("%s (%v)", jobserver.EnvironmentText(env), err))
		}
		return err
	}
	translate.Settle(pipeline, offered)
	translate.Settle(pipeline, p.harnesses.Supported)
}

// check says whether the environments can be had, all side by side. Errors: those of Harnesses.Check; a worker pool that is away is none
// where the job waits for it.
func (p *preflight) check(ctx context.Context, used []*plan.Environment) error {
	faults := make([]error, len(used))
	var checking sync.WaitGroup
	for i, env := range used {
		parsed, err := environment(env)
		if err != nil {
			return err
		}
		checking.Go(func() {
			err := p.harnesses.Check(ctx, parsed, p.options)
			if err == nil || p.waits > 0 && poolAway(err) {
				return
			}
			faults[i] = p.explain(env.ID, err)
		})
	}
	checking.Wait()
	return errors.Join(faults...)
}

// explain names the environment, and the alternatives that were no help.
func (p *preflight) explain(id plan.EnvID, err error) error {
	return fault.Amended(err, func(f *fault.Error) {
		f.Msg = fmt.Sprintf("environment %q: %s", id, f.Msg)
		if len(p.passedBy) > 0 {
			f.Msg += "; of the alternatives that were offered none can be had: " + strings.Join(p.passedBy, "; ")
		}
	})
}
