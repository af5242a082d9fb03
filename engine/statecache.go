package engine

import (
	"fmt"
	"strings"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/engine/plan"
)

const (
	// optionStateCache is the size of the cache of state in a Python harness, in MB. Its default is none.
	optionStateCache = "max_cache_memory_usage_mb"
	// pythonBase begins the capability by which the Python SDK names its version. Spec: environments.py sdk_base_version_capability.
	pythonBase = "beam:version:sdk_base:apache/beam_python"
)

// adviseOnStateCache tells the user, when a job starts, of a cache that costs more than it saves.
func (j *job) adviseOnStateCache() {
	if j.resumed {
		return
	}
	if text := stateCacheAdvice(j.plan, j.spec.Options); text != "" {
		j.reporter.Message(jobpb.JobMessage_JOB_MESSAGE_WARNING, text)
	}
}

// stateCacheAdvice is what to say of a job with user state in Python and the cache turned on; "" when there is nothing to say. The cache
// weighs what it takes by walking over the objects behind it, which costs more than the request that it saves: see docs/decisions/0034.
func stateCacheAdvice(p *plan.Plan, options *structpb.Struct) string {
	size := optionInt(options, optionStateCache, 0)
	if size <= 0 {
		return ""
	}
	python := make(map[plan.EnvID]bool)
	for _, env := range p.Environments {
		parsed, err := environment(env)
		if err != nil {
			continue // refused elsewhere
		}
		for _, c := range parsed.GetCapabilities() {
			python[env.ID] = python[env.ID] || strings.HasPrefix(c, pythonBase)
		}
	}
	for _, st := range p.Stages {
		if len(st.States) > 0 && python[st.Env] {
			return fmt.Sprintf("--%s=%d turns on the Python SDK's cache of state, which weighs each value that it takes: %q is likely to need "+
				"2 to 4 times the CPU for its state. Leave the option out unless side inputs that are read again and again outweigh it; "+
				"see docs/benchmarks/2026-11-26-state.md", optionStateCache, size, st.Name)
		}
	}
	return ""
}
