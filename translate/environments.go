package translate

import (
	"maps"
	"slices"
	"strings"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/engine/plan"
	"padstone/internal/fault"
	"padstone/translate/urn"
)

// anyOfDepthMax bounds environments that offer environments.
const anyOfDepthMax = 4

// envTable resolves environments: alternatives are chosen from, and environments that differ in nothing that runs are one.
type envTable struct {
	src       map[string]*pipepb.Environment
	supported func(env *pipepb.Environment) error
	resolved  map[string]plan.EnvID
	chosen    map[plan.EnvID]*pipepb.Environment
	byBody    map[string]plan.EnvID
}

func newEnvTable(src map[string]*pipepb.Environment, supported func(env *pipepb.Environment) error) *envTable {
	return &envTable{
		src: src, supported: supported,
		resolved: map[string]plan.EnvID{}, chosen: map[plan.EnvID]*pipepb.Environment{}, byBody: map[string]plan.EnvID{},
	}
}

// resolve returns the environment under which the given one runs. Errors: dangling-environment, unsupported-environment.
func (t *envTable) resolve(id string) (plan.EnvID, error) {
	if env, ok := t.resolved[id]; ok {
		return env, nil
	}
	proposed := t.src[id]
	if proposed == nil {
		return "", refuse(codeDanglingEnv, "environment %q is not in the pipeline", id).WithHint(hintSDK)
	}
	chosen, err := t.choose(proposed, 0)
	if err != nil {
		return "", err
	}
	body, err := runnableBody(chosen)
	if err != nil {
		return "", err
	}
	env, ok := t.byBody[body]
	if !ok {
		twin, twinChosen := t.smallestTwin(id, chosen, body)
		env = plan.EnvID(twin)
		t.byBody[body] = env
		t.chosen[env] = twinChosen
	}
	t.resolved[id] = env
	return env, nil
}

// smallestTwin returns the smallest id among the environments like the one with the id, so that the name of merged environments
// does not hang on which transform came first.
func (t *envTable) smallestTwin(id string, chosen *pipepb.Environment, body string) (string, *pipepb.Environment) {
	for _, twin := range slices.Sorted(maps.Keys(t.src)) {
		if twin >= id {
			break
		}
		candidate, err := t.choose(t.src[twin], 0)
		if err != nil {
			continue // an unusable environment is an error only where a transform asks for it
		}
		if b, err := runnableBody(candidate); err == nil && b == body {
			return twin, candidate
		}
	}
	return id, chosen
}

// choose returns the environment, or the first of its alternatives that is supported.
func (t *envTable) choose(e *pipepb.Environment, depth int) (*pipepb.Environment, error) {
	if e.GetUrn() != urn.EnvAnyOf {
		if t.supported == nil {
			return e, nil
		}
		if err := t.supported(e); err != nil {
			if f := fault.Of(err); f != nil {
				return nil, f
			}
			return nil, refuse(codeEnvironment, "environment %q: %w", e.GetUrn(), err).
				WithHint("choose another --environment_type")
		}
		return e, nil
	}
	var payload pipepb.AnyOfEnvironmentPayload
	if err := proto.Unmarshal(e.GetPayload(), &payload); err != nil {
		return nil, refuse(codePayload, "the alternatives of an environment do not parse: %w", err).WithHint(hintSDK)
	}
	refusal := error(refuse(codeEnvironment, "an environment offers no alternatives").WithHint(hintSDK))
	for _, alternative := range containersLast(payload.GetEnvironments()) {
		if depth >= anyOfDepthMax {
			return nil, refuse(codeEnvironment, "environments are nested deeper than %d levels", anyOfDepthMax).WithHint(hintSDK)
		}
		chosen, err := t.choose(alternative, depth+1)
		if err != nil {
			refusal = err
			continue
		}
		if len(chosen.GetCapabilities()) == 0 && len(e.GetCapabilities()) > 0 {
			chosen = proto.CloneOf(chosen)
			chosen.Capabilities = e.GetCapabilities()
		}
		return chosen, nil
	}
	return nil, refusal
}

// containersLast orders alternatives: a container costs most to start, and SDKs that offer a choice name it first.
func containersLast(all []*pipepb.Environment) []*pipepb.Environment {
	ordered := slices.Clone(all)
	slices.SortStableFunc(ordered, func(a, b *pipepb.Environment) int {
		switch ac, bc := a.GetUrn() == urn.EnvDocker, b.GetUrn() == urn.EnvDocker; {
		case ac && !bc:
			return 1
		case bc && !ac:
			return -1
		}
		return 0
	})
	return ordered
}

// Settle puts in place of each environment with alternatives the first one that is supported, as Compile would choose it. One without
// any is left: it is an error only where a transform asks for it.
func Settle(p *pipepb.Pipeline, supported func(env *pipepb.Environment) error) {
	t := newEnvTable(p.GetComponents().GetEnvironments(), supported)
	for id, env := range t.src {
		if env.GetUrn() != urn.EnvAnyOf {
			continue
		}
		if chosen, err := t.choose(env, 0); err == nil {
			t.src[id] = chosen
		}
	}
}

// capable reports whether the environment's SDK declares a capability.
func (t *envTable) capable(env plan.EnvID, capability string) bool {
	return slices.Contains(t.chosen[env].GetCapabilities(), capability)
}

// sdk reports whether the environment says that its SDK is that of a language. Spec: the capability beam:version:sdk_base, which names
// the SDK's container image, in Go behind the language.
func (t *envTable) sdk(env plan.EnvID, language string) bool {
	return slices.ContainsFunc(t.chosen[env].GetCapabilities(), func(c string) bool {
		image, ok := strings.CutPrefix(c, "beam:version:sdk_base:")
		return ok && (strings.HasPrefix(image, language+":") || strings.Contains(image, "beam_"+language))
	})
}

// runnableBody returns what distinguishes environments at run time: all but display data and resource hints.
func runnableBody(e *pipepb.Environment) (string, error) {
	body := proto.CloneOf(e)
	body.DisplayData, body.ResourceHints = nil, nil
	b, err := marshal(body)
	return string(b), err
}

// marshal serialises a message so that equal messages are equal bytes.
func marshal(m proto.Message) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, refuse(codePayload, "a message of the pipeline does not serialise: %w", err).WithHint(hintSDK)
	}
	return b, nil
}
