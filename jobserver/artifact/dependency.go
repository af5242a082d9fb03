package artifact

import (
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"strings"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"

	"padstone/internal/fault"
)

// Dependencies is what one environment asks for, in its order; boot scripts install in that order.
type Dependencies []*pipepb.ArtifactInformation

// EnvironmentID is the key of an environment in a pipeline's components.
type EnvironmentID string

// Of collects the dependencies of every environment of a pipeline; environments without any are left out.
func Of(pipeline *pipepb.Pipeline) map[EnvironmentID]Dependencies {
	out := make(map[EnvironmentID]Dependencies)
	for id, env := range pipeline.GetComponents().GetEnvironments() {
		if len(env.GetDependencies()) > 0 {
			out[EnvironmentID(id)] = env.GetDependencies()
		}
	}
	return out
}

// Validate refuses, before anything is staged, dependencies that can never be served: unsupported-artifact-url, artifact-name-invalid,
// artifact-invalid.
func Validate(pipeline *pipepb.Pipeline) error {
	for id, dependencies := range Of(pipeline) {
		for _, dep := range dependencies {
			if _, err := inspect(dep); err != nil {
				err.Msg = "environment " + string(id) + ": " + err.Msg
				return err
			}
		}
	}
	return nil
}

// source says where the bytes of a resolved dependency come from.
type source struct {
	// ask is what to request from the client, or nil when inline holds the content.
	ask    *pipepb.ArtifactInformation
	inline []byte
	// name is a plain file name for people and for boot scripts that stage by it.
	name string
	want Digest // the digest that the client declared, or ""
}

// inspect reads a dependency's type and role. A file:// URL becomes a file to ask the client for: the path means the client's disk, and
// the server must not read its own at a caller's word.
func inspect(dep *pipepb.ArtifactInformation) (source, *fault.Error) {
	name, ferr := stagedName(dep)
	if ferr != nil {
		return source{}, ferr
	}
	var out source
	var declared string
	switch URN(dep.GetTypeUrn()) {
	case typeFile():
		payload := &pipepb.ArtifactFilePayload{}
		if err := proto.Unmarshal(dep.GetTypePayload(), payload); err != nil {
			return source{}, invalid(dep, err)
		}
		out, declared = source{ask: dep, name: payload.GetPath()}, payload.GetSha256()
	case typeURL():
		payload := &pipepb.ArtifactUrlPayload{}
		if err := proto.Unmarshal(dep.GetTypePayload(), payload); err != nil {
			return source{}, invalid(dep, err)
		}
		file, ferr := fileOfURL(dep, payload)
		if ferr != nil {
			return source{}, ferr
		}
		out, declared = source{ask: file, name: payload.GetUrl()}, payload.GetSha256()
	case typeEmbedded():
		payload := &pipepb.EmbeddedFilePayload{}
		if err := proto.Unmarshal(dep.GetTypePayload(), payload); err != nil {
			return source{}, invalid(dep, err)
		}
		out = source{inline: payload.GetData()}
	default:
		out = source{ask: dep}
	}
	if name != "" {
		out.name = name
	}
	out.name = plainName(out.name)
	if declared != "" {
		digest, ok := ParseDigest(declared)
		if !ok {
			return source{}, fault.New(fault.Pipeline, "artifact-invalid", "artifact %q declares a malformed sha256", out.name)
		}
		out.want = digest
	}
	return out, nil
}

// unfetchable refuses the types that no client can send as bytes; a client that understands them has resolved them before.
func unfetchable(dep *pipepb.ArtifactInformation) error {
	switch urn := URN(dep.GetTypeUrn()); urn {
	case typePyPI(), typeMaven():
		return fault.New(fault.Pipeline, "unsupported-artifact-type",
			"an artifact of type %s was not resolved by the client that submitted it", urn).
			WithHint("stage the file itself: a wheel with --extra_package, a jar with --files_to_stage")
	default:
		return nil
	}
}

// stagedName is the name that the STAGING_TO role asks for, or "". It is a path below the harness's staging directory, so it must
// not lead out of it.
func stagedName(dep *pipepb.ArtifactInformation) (string, *fault.Error) {
	if URN(dep.GetRoleUrn()) != roleStagingTo() {
		return "", nil
	}
	role := &pipepb.ArtifactStagingToRolePayload{}
	if err := proto.Unmarshal(dep.GetRolePayload(), role); err != nil {
		return "", invalid(dep, err)
	}
	if !filepath.IsLocal(role.GetStagedName()) || strings.ContainsAny(role.GetStagedName(), "\\\x00") {
		return "", fault.New(fault.Pipeline, "artifact-name-invalid",
			"an artifact is staged under %.200q, which is not a path below the staging directory", role.GetStagedName()).
			WithHint("stage files under plain names, without a leading slash or \"..\"")
	}
	return role.GetStagedName(), nil
}

func fileOfURL(dep *pipepb.ArtifactInformation, payload *pipepb.ArtifactUrlPayload) (*pipepb.ArtifactInformation, *fault.Error) {
	u, err := url.Parse(payload.GetUrl())
	if err != nil {
		return nil, invalid(dep, err)
	}
	if u.Scheme != "file" || (u.Host != "" && u.Host != "localhost") {
		return nil, fault.New(fault.Pipeline, "unsupported-artifact-url",
			"an artifact is at %.300q; only files of the submitting machine are staged", payload.GetUrl()).
			WithHint("download the file and pass its path")
	}
	file, err := withFile(dep, u.Path, payload.GetSha256())
	if err != nil {
		return nil, invalid(dep, err)
	}
	return file, nil
}

// withFile is dep as type FILE, role untouched. It fails on a path that is not UTF-8.
func withFile(dep *pipepb.ArtifactInformation, file, sha256 string) (*pipepb.ArtifactInformation, error) {
	payload, err := proto.Marshal(&pipepb.ArtifactFilePayload{Path: file, Sha256: sha256})
	if err != nil {
		return nil, fmt.Errorf("encode file payload: %w", err)
	}
	return &pipepb.ArtifactInformation{
		TypeUrn: string(typeFile()), TypePayload: payload, RoleUrn: dep.GetRoleUrn(), RolePayload: dep.GetRolePayload(),
	}, nil
}

func invalid(dep *pipepb.ArtifactInformation, err error) *fault.Error {
	return fault.New(fault.Pipeline, "artifact-invalid", "an artifact of type %.100q does not decode: %w", dep.GetTypeUrn(), err)
}

// nameBytesMax keeps a name, with the number that boot scripts put before it, below the 255 bytes of common file systems.
const nameBytesMax = 200

// plainName is the last element of a path or URL of any system, short enough for a file name, or "".
func plainName(name string) string {
	name = path.Base(strings.ReplaceAll(strings.ToValidUTF8(name, "_"), "\\", "/"))
	if name == "." || name == ".." || name == "/" {
		return ""
	}
	if len(name) > nameBytesMax {
		name = strings.ToValidUTF8(name[len(name)-nameBytesMax:], "") // keep the extension
	}
	return name
}
