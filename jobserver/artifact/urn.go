package artifact

import (
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// URN is a Beam URN of an artifact type or role.
type URN string

// urnOf reads the beam_urn option of a value of one of Beam's "standard" enums, so that no URN is spelled here.
func urnOf(value protoreflect.Enum) URN {
	options := value.Descriptor().Values().ByNumber(value.Number()).Options()
	urn, _ := proto.GetExtension(options, pipepb.E_BeamUrn).(string)
	return URN(urn)
}

func typeFile() URN     { return urnOf(pipepb.StandardArtifacts_FILE) }
func typeURL() URN      { return urnOf(pipepb.StandardArtifacts_URL) }
func typeEmbedded() URN { return urnOf(pipepb.StandardArtifacts_EMBEDDED) }
func typePyPI() URN     { return urnOf(pipepb.StandardArtifacts_PYPI) }
func typeMaven() URN    { return urnOf(pipepb.StandardArtifacts_MAVEN) }

func roleStagingTo() URN { return urnOf(pipepb.StandardArtifacts_STAGING_TO) }
