package engine_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
	"padstone/internal/fault"
	"padstone/translate/urn"
)

// looked are the environments that were looked for.
type looked struct {
	sync.Mutex
	urns []string
}

// by answers for URNs that cannot be had.
func (l *looked) by(away map[string]*fault.Error) func(env *pipepb.Environment) error {
	return func(env *pipepb.Environment) error {
		l.Lock()
		defer l.Unlock()
		l.urns = append(l.urns, env.GetUrn())
		if f := away[env.GetUrn()]; f != nil {
			return f
		}
		return nil
	}
}

func (l *looked) at(urns ...string) bool {
	l.Lock()
	defer l.Unlock()
	slices.Sort(l.urns)
	got := slices.Compact(l.urns)
	l.urns = nil
	return slices.Equal(got, urns)
}

const (
	external = "beam:env:external:v1"
	process  = "beam:env:process:v1"
	docker   = "beam:env:docker:v1"
)

func anyOf(t *testing.T, urns ...string) *pipepb.Environment {
	t.Helper()
	choices := &pipepb.AnyOfEnvironmentPayload{}
	for _, u := range urns {
		choices.Environments = append(choices.Environments, &pipepb.Environment{Urn: u})
	}
	payload, err := proto.Marshal(choices)
	if err != nil {
		t.Fatal(err)
	}
	return &pipepb.Environment{Urn: urn.EnvAnyOf, Payload: payload}
}

// TestPreflight: environments that a stage runs in are looked for when the pipeline is submitted, others are not.
func TestPreflight(t *testing.T) {
	gone := func(code fault.Code) *fault.Error {
		return fault.New(fault.Environment, code, "it is not there").WithHint("start it")
	}
	pool, image := gone("harness-worker-pool"), gone("docker-no-image")
	for _, c := range []struct {
		name    string
		env     func(*testing.T) *pipepb.Environment
		away    map[string]*fault.Error
		options enginetest.Options
		looked  []string
		runs    string   // the environment that is left in the pipeline
		refused []string // what the error says, its code first
	}{
		{name: "there", env: of(external), looked: []string{external}, runs: external},
		{name: "not there", env: of(external), away: map[string]*fault.Error{external: pool}, looked: []string{external},
			refused: []string{"harness-worker-pool", `environment "e": it is not there`, "start it"}},
		{name: "it may come", env: of(external), away: map[string]*fault.Error{external: pool},
			options: enginetest.Options{"worker_pool_wait_seconds": "60"}, looked: []string{external}, runs: external},
		{name: "an image does not come by waiting", env: of(docker), away: map[string]*fault.Error{docker: image},
			options: enginetest.Options{"worker_pool_wait_seconds": "60"}, looked: []string{docker}, refused: []string{"docker-no-image"}},
		{name: "the first alternative that can be had", env: choice(docker, external, process),
			away: map[string]*fault.Error{external: pool}, looked: []string{external, process}, runs: process},
		{name: "a container if nothing else can be had", env: choice(docker, external, process),
			away:   map[string]*fault.Error{external: pool, process: gone("harness-start")},
			looked: []string{docker, external, process}, runs: docker},
		{name: "no alternative", env: choice(docker, external), away: map[string]*fault.Error{external: pool, docker: image},
			looked: []string{docker, external}, refused: []string{"harness-worker-pool", "none can be had", "EXTERNAL (", "DOCKER ("}},
	} {
		r := newRig(t, nil)
		l := &looked{}
		r.Harnesses.OnCheck = l.by(c.away)
		p := onePass(r)
		envs := p.Proto.GetComponents().GetEnvironments()
		if len(envs) != 1 {
			t.Fatalf("%d environments", len(envs))
		}
		for id, env := range envs {
			with := c.env(t)
			with.Capabilities = env.GetCapabilities()
			envs[id] = with
			c.refused = replaceAll(c.refused, `"e"`, `"`+id+`"`)
		}
		envs["unused"] = &pipepb.Environment{Urn: "beam:env:default:v1"}
		err := r.Check(p, c.options)
		if !l.at(c.looked...) {
			t.Errorf("%s: other environments were looked for", c.name)
		}
		if c.refused != nil {
			if f := fault.Of(err); f == nil || string(f.Code) != c.refused[0] {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			for _, part := range c.refused {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%s: %v does not say %q", c.name, err, part)
				}
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		for id, env := range p.Proto.GetComponents().GetEnvironments() {
			if id != "unused" && env.GetUrn() != c.runs {
				t.Errorf("%s: it runs in %s", c.name, env.GetUrn())
			}
		}
	}
}

// onePass is a pipeline with one environment.
func onePass(r *enginetest.Rig) *enginetest.Pipeline {
	p := r.Pipeline()
	p.Write("out", p.Map("pass", p.Read("in", bounded(texts("a")), "bytes"), "",
		func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) }))
	return p
}

func of(u string) func(*testing.T) *pipepb.Environment {
	return func(*testing.T) *pipepb.Environment { return &pipepb.Environment{Urn: u} }
}

func choice(urns ...string) func(*testing.T) *pipepb.Environment {
	return func(t *testing.T) *pipepb.Environment { return anyOf(t, urns...) }
}

func replaceAll(texts []string, was, is string) (out []string) {
	for _, text := range texts {
		out = append(out, strings.ReplaceAll(text, was, is))
	}
	return out
}

// TestJobWaitsForItsPool: a new job waits for a worker pool if it was told to, and not for anything else.
func TestJobWaitsForItsPool(t *testing.T) {
	away := fault.New(fault.Environment, "harness-worker-pool", "no pool")
	for _, c := range []struct {
		name    string
		wait    string
		err     error
		ends    jobpb.JobState_Enum
		starts  int32
		message string
	}{
		{"not told to", "0", away, jobpb.JobState_FAILED, 1, "no pool"},
		{"told to", "60", away, jobpb.JobState_DONE, 3, "(for 1m0s at most) failed and will be tried again"},
		{"for something else", "60", errors.New("no such program"), jobpb.JobState_FAILED, 1, "no such program"},
	} {
		r := newRig(t, nil)
		var starts atomic.Int32
		r.Harnesses.OnStart = func(context.Context) error {
			if starts.Add(1) < 3 {
				return c.err
			}
			return nil
		}
		j := r.Start(onePass(r), enginetest.Options{"worker_pool_wait_seconds": c.wait})
		j.End(c.ends)
		if starts.Load() != c.starts {
			t.Errorf("%s: %d starts", c.name, starts.Load())
		}
		said := append(j.Messages(jobpb.JobMessage_JOB_MESSAGE_WARNING), j.Messages(jobpb.JobMessage_JOB_MESSAGE_ERROR)...)
		if !slices.ContainsFunc(said, func(text string) bool { return strings.Contains(text, c.message) }) {
			t.Errorf("%s: the messages are %q", c.name, said)
		}
	}
}
