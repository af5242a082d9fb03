package jobserver

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/internal/fault"
	"padstone/internal/option"
)

// A transform of another language brings its environment along, mostly an image that its expansion service chose. Overrides say where such
// code runs here: those of the job come before those of the server, and of each the first one that fits counts. A job may: it can ask for
// any environment anyway.

const (
	// optionOverride is the pipeline option that names overrides of the job.
	optionOverride = "environment_override"
	// optionImages names other images only. Spec: python WorkerOptions, "Each entry consist of two values separated by a comma where first
	// value gives a regex to identify the container image to override and the second value gives the replacement container image."
	optionImages = "sdk_harness_container_image_overrides"
)

// EnvironmentOverride has an environment run in another one's place.
type EnvironmentOverride struct {
	text string // as it was given
	fits func(env *pipepb.Environment) bool
	with func(env *pipepb.Environment) *pipepb.Environment
}

// ParseEnvironmentOverride reads PATTERN=TYPE:CONFIG. The pattern is an image, with any tag if it has none, the address of a pool, a
// command, or an environment's URN; * stands for any text. What comes behind are Beam's environment_type and environment_config.
func ParseEnvironmentOverride(text string) (EnvironmentOverride, error) {
	o := EnvironmentOverride{text: text}
	refuse := func(format string, args ...any) (EnvironmentOverride, error) {
		return o, fault.New(fault.Pipeline, codeOverride, "%q: %w", text, fmt.Errorf(format, args...)).
			WithHint("write PATTERN=TYPE:CONFIG, for example apache/beam_java17_sdk=EXTERNAL:localhost:50000")
	}
	pattern, replacement, ok := strings.Cut(text, "=")
	if pattern = strings.TrimSpace(pattern); !ok || pattern == "" {
		return refuse("no pattern and replacement")
	}
	kind, config, _ := strings.Cut(strings.TrimSpace(replacement), ":")
	with, err := makeEnvironment(kind, config)
	if err != nil {
		return refuse("%s", fault.Of(err).Msg)
	}
	glob := globOf(pattern)
	o.fits = func(env *pipepb.Environment) bool {
		_, what := environmentParts(env)
		return glob.MatchString(env.GetUrn()) || what != "" && (glob.MatchString(what) || glob.MatchString(untagged(what)))
	}
	o.with = func(*pipepb.Environment) *pipepb.Environment { return with }
	return o, nil
}

// globOf compiles a pattern in which * stands for any text.
func globOf(pattern string) *regexp.Regexp {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$")
}

// untagged is an image without its tag and digest. The colon of a registry's port is none of a tag.
func untagged(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		image = image[:i]
	}
	return image
}

// parseImageOverride reads REGEX,IMAGE.
func parseImageOverride(text string) (EnvironmentOverride, error) {
	o := EnvironmentOverride{text: text}
	pattern, image, ok := strings.Cut(text, ",")
	re, err := regexp.Compile(pattern)
	if err != nil || !ok || strings.TrimSpace(image) == "" {
		return o, fault.New(fault.Pipeline, codeOverride, "--%s=%s is not a regular expression and an image", optionImages, text).
			WithHint("write REGEX,IMAGE, for example .*java.*,my/java_sdk:1")
	}
	image = strings.TrimSpace(image)
	o.fits = func(env *pipepb.Environment) bool {
		kind, what := environmentParts(env)
		return kind == "DOCKER" && re.MatchString(what)
	}
	o.with = func(env *pipepb.Environment) *pipepb.Environment {
		_, what := environmentParts(env)
		payload := &pipepb.DockerPayload{ContainerImage: re.ReplaceAllLiteralString(what, image)}
		encoded, _ := proto.Marshal(payload) // text that came out of a message goes into one
		return &pipepb.Environment{Urn: urnOf(pipepb.StandardEnvironments_DOCKER), Payload: encoded}
	}
	return o, nil
}

// jobOverrides reads the overrides that a job names.
func jobOverrides(options *structpb.Struct) (all []EnvironmentOverride, err error) {
	for _, kind := range []struct {
		name  string
		parse func(string) (EnvironmentOverride, error)
	}{{optionOverride, ParseEnvironmentOverride}, {optionImages, parseImageOverride}} {
		for _, text := range option.Texts(options, kind.name) {
			o, err := kind.parse(text)
			if err != nil {
				return nil, err
			}
			all = append(all, o)
		}
	}
	return all, nil
}

// unfitting says which overrides fit no environment of the pipeline, as one that is misspelt does.
func unfitting(p *pipepb.Pipeline, overrides []EnvironmentOverride) (notes []string) {
	envs := p.GetComponents().GetEnvironments()
	for _, o := range overrides {
		fits, has := false, make([]string, 0, len(envs))
		for _, id := range slices.Sorted(maps.Keys(envs)) {
			fits = fits || o.fits(envs[id]) || slices.ContainsFunc(alternatives(envs[id]), o.fits)
			has = append(has, EnvironmentText(envs[id]))
		}
		if !fits {
			notes = append(notes, fmt.Sprintf("the override %s fits no environment of the pipeline, which has %s", o.text, strings.Join(has, ", ")))
		}
	}
	return notes
}

// override puts other environments in the place of those that an override fits, also of the alternatives of an any-of, and says what it
// has replaced. Dependencies and capabilities stay: the code is the same.
func override(p *pipepb.Pipeline, overrides []EnvironmentOverride) (notes []string) {
	if len(overrides) == 0 {
		return nil
	}
	envs := p.GetComponents().GetEnvironments()
	for _, id := range slices.Sorted(maps.Keys(envs)) {
		env := envs[id]
		was := EnvironmentText(env)
		by := overrideOne(env, overrides)
		if inner := alternatives(env); by == "" && len(inner) > 0 {
			for _, one := range inner {
				if o := overrideOne(one, overrides); o != "" {
					by = o
				}
			}
			if by != "" {
				env.Payload, _ = proto.Marshal(&pipepb.AnyOfEnvironmentPayload{Environments: inner}) // it came out of one
			}
		}
		if by != "" {
			noteReplaced(env, was)
			notes = append(notes, fmt.Sprintf("environment %q: %s instead of %s, by the override %s", id, EnvironmentText(env), was, by))
		}
	}
	return notes
}

// overrideOne replaces one environment, and returns the override that did; "" when none fits.
func overrideOne(env *pipepb.Environment, overrides []EnvironmentOverride) string {
	for i := range overrides {
		if o := &overrides[i]; o.fits(env) {
			with := o.with(env)
			env.Urn, env.Payload = with.GetUrn(), with.GetPayload()
			return o.text
		}
	}
	return ""
}

// overrideOptions describes the pipeline options of overrides, for SDKs that take no option which is not described.
func overrideOptions() []*jobpb.PipelineOptionDescriptor {
	return []*jobpb.PipelineOptionDescriptor{{
		Name: optionOverride, Type: jobpb.PipelineOptionType_ARRAY, Group: "padstone",
		Description: "PATTERN=TYPE:CONFIG, runs the environments whose image, address, command or URN the pattern fits in another one; may " +
			"be repeated. Before the server's own --environment-override.",
	}}
}
