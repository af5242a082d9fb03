package artifact

import (
	"fmt"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
)

// EnvironmentID is the key of an environment in a pipeline's components, or names an alternative that such an environment offers.
type EnvironmentID string

// alternativesDepthMax bounds environments that offer environments; what is deeper has no dependencies.
const alternativesDepthMax = 4

// Of collects the dependencies of every environment of a pipeline, and of all alternatives that one offers: which of them will run is
// not known yet. Environments without any are left out.
func Of(pipeline *pipepb.Pipeline) map[EnvironmentID]Dependencies {
	out := make(map[EnvironmentID]Dependencies)
	for id, env := range pipeline.GetComponents().GetEnvironments() {
		// Nothing is put in, so nothing is encoded that could fail.
		_, _ = walk(EnvironmentID(id), env, 0, func(id EnvironmentID, env *pipepb.Environment) bool {
			if len(env.GetDependencies()) > 0 {
				out[id] = env.GetDependencies()
			}
			return false
		})
	}
	return out
}

// Put replaces the dependencies that Of found in a pipeline.
func Put(pipeline *pipepb.Pipeline, dependencies map[EnvironmentID]Dependencies) error {
	for id, env := range pipeline.GetComponents().GetEnvironments() {
		_, err := walk(EnvironmentID(id), env, 0, func(id EnvironmentID, env *pipepb.Environment) bool {
			stored, ok := dependencies[id]
			if ok {
				env.Dependencies = stored
			}
			return ok
		})
		if err != nil {
			return fmt.Errorf("environment %q: %w", id, err)
		}
	}
	return nil
}

// walk calls visit for an environment and for the alternatives in it, which it encodes again where visit says that it changed one.
// It reports whether anything was changed.
func walk(
	id EnvironmentID, env *pipepb.Environment, depth int, visit func(EnvironmentID, *pipepb.Environment) bool,
) (bool, error) {
	changed := visit(id, env)
	payload := &pipepb.AnyOfEnvironmentPayload{}
	// A payload that does not parse is refused where the environment is needed.
	if URN(env.GetUrn()) != environmentAnyOf() || depth == alternativesDepthMax || proto.Unmarshal(env.GetPayload(), payload) != nil {
		return changed, nil
	}
	inside := false
	for i, alternative := range payload.GetEnvironments() {
		one, err := walk(EnvironmentID(fmt.Sprintf("%s, alternative %d", id, i+1)), alternative, depth+1, visit)
		if err != nil {
			return false, err
		}
		inside = inside || one
	}
	if !inside {
		return changed, nil
	}
	var err error
	env.Payload, err = proto.Marshal(payload)
	return true, err
}
