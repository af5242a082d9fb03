package harness

import (
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/harness/docker"
)

// Options describes the pipeline options that this package reads, for SDKs that take no option which is not described.
func Options() []*jobpb.PipelineOptionDescriptor {
	const group = "padstone"
	return []*jobpb.PipelineOptionDescriptor{
		{
			Name: docker.OptionEnv, Type: jobpb.PipelineOptionType_ARRAY, Group: group,
			Description: "NAME=VALUE, an environment variable of the job's containers, with --environment_type=DOCKER; may be repeated.",
		},
		{
			Name: docker.OptionMemory, Type: jobpb.PipelineOptionType_STRING, Group: group,
			Description: "The most memory of each of the job's containers, such as 2g. Default and bound: the server's --docker-memory.",
		},
		{
			Name: docker.OptionCPUs, Type: jobpb.PipelineOptionType_STRING, Group: group,
			Description: "The most processors of each of the job's containers, such as 1.5. Default and bound: the server's --docker-cpus.",
		},
		{
			Name: docker.OptionPull, Type: jobpb.PipelineOptionType_STRING, Group: group,
			Description: "When the image is pulled: missing, always or never. Default: the server's --docker-pull.",
		},
		{
			Name: docker.OptionNetwork, Type: jobpb.PipelineOptionType_STRING, Group: group,
			Description: "The network of the job's containers, if the server allows it. Default: the server's --docker-network.",
		},
		{
			Name: docker.OptionVolume, Type: jobpb.PipelineOptionType_ARRAY, Group: group,
			Description: "SOURCE:TARGET[:ro], a mount of the job's containers, if the server allows it; may be repeated.",
		},
	}
}
