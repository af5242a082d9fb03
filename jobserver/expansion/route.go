package expansion

import (
	"fmt"
	"net"
	"slices"
	"strings"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
)

// Route says which transforms another expansion service has.
type Route struct {
	Address string // host:port
	Prefix  string // of the names of its transforms; "": any transform that no other route names
}

// ParseRoute parses "host:port" or "PREFIX=host:port", as the flag has it.
func ParseRoute(text string) (Route, error) {
	route := Route{Address: text}
	if at := strings.LastIndex(text, "="); at >= 0 {
		route.Prefix, route.Address = text[:at], text[at+1:]
		if route.Prefix == "" {
			return Route{}, fmt.Errorf("%q has nothing before the \"=\"; write host:port or URN=host:port", text)
		}
	}
	if host, port, err := net.SplitHostPort(route.Address); err != nil || host == "" || port == "" || port == "0" {
		return Route{}, fmt.Errorf("%q is not host:port", route.Address)
	}
	return route, nil
}

// candidates returns the addresses to ask for a transform, in order: those with the longest prefix of its name, else those without one.
func candidates(routes []Route, name string) []string {
	longest := 0
	for _, r := range routes {
		if strings.HasPrefix(name, r.Prefix) {
			longest = max(longest, len(r.Prefix))
		}
	}
	var out []string
	for _, r := range routes {
		if len(r.Prefix) == longest && strings.HasPrefix(name, r.Prefix) && !slices.Contains(out, r.Address) {
			out = append(out, r.Address)
		}
	}
	return out
}

// nameOf returns what routes go by: a transform's URN, or, as all schema transforms share one, the identifier of the schema transform.
// Spec: beam_expansion_api.proto, external_transforms.proto SchemaTransformPayload.
func nameOf(req *jobpb.ExpansionRequest) string {
	spec := req.GetTransform().GetSpec()
	if spec.GetUrn() == schemaTransformURN() {
		payload := &pipepb.SchemaTransformPayload{}
		if err := proto.Unmarshal(spec.GetPayload(), payload); err == nil && payload.GetIdentifier() != "" {
			return payload.GetIdentifier()
		}
	}
	return spec.GetUrn()
}

// schemaTransformURN reads the URN from Beam's protos, so that it is not spelled here.
func schemaTransformURN() string {
	value := pipepb.ExpansionMethods_SCHEMA_TRANSFORM
	options := value.Descriptor().Values().ByNumber(value.Number()).Options()
	urn, _ := proto.GetExtension(options, pipepb.E_BeamUrn).(string)
	return urn
}
