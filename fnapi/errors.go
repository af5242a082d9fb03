package fnapi

import (
	"errors"
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"padstone/internal/fault"
)

// ErrWorkerLost is the cause of every error that comes from a harness that went away. The fault's kind is Environment: what it was
// doing may be done again, on its next generation or elsewhere.
var ErrWorkerLost = errors.New("the SDK harness went away")

// Codes of this package. docs/errors/fnapi.md says what each means and what to do.
const (
	codeWorkerLost    fault.Code = "harness-lost"
	codeBundleFailed  fault.Code = "bundle-failed"
	codeSDKMismatch   fault.Code = "harness-sdk-version"
	codeProtocol      fault.Code = "harness-protocol"
	CodeRequestFailed fault.Code = "harness-request-failed"
	codeNoStatus      fault.Code = "harness-status-unavailable"
	codeWorkersMax    fault.Code = "workers-max"
	codeNamedStreams  fault.Code = "unsupported-named-data-streams"
	codeMisuse        fault.Code = "fnapi-misuse"
	codeListen        fault.Code = "fnapi-listen"
)

// lost says that the worker's harness went away and why.
func lost(id WorkerID, why string) error {
	return fault.New(fault.Environment, codeWorkerLost, "worker %s: %s: %w", id, why, ErrWorkerLost)
}

// protocol says that the harness broke the Fn API.
func protocol(format string, args ...any) *fault.Error {
	return fault.New(fault.Environment, codeProtocol, format, args...).
		WithHint("the SDK harness does not follow the Fn API; check that its Beam version is supported")
}

// misuse says that the caller broke this package's rules.
func misuse(format string, args ...any) error {
	return fault.New(fault.Internal, codeMisuse, format, args...)
}

// whileRunning is how the Python SDK names the user's transform in an error.
// Spec: python apache_beam/runners/common.py DoFnRunner._reraise_augmented.
var whileRunning = regexp.MustCompile(`\[while running '([^']+)'\]`)

// bundleFailed wraps the error text of a ProcessBundleResponse, which is the SDK's traceback.
func bundleFailed(text string) error {
	// Spec: python apache_beam/runners/worker/bundle_processor.py _verify_descriptor_created_in_a_compatible_env.
	if strings.Contains(text, "Pipeline construction environment and pipeline runtime environment are not compatible") {
		return fault.New(fault.Pipeline, codeSDKMismatch, "%s", text).
			WithHint("run the harness with the same Beam and Python version that built the pipeline")
	}
	e := fault.New(fault.Pipeline, codeBundleFailed, "%s", text)
	if m := whileRunning.FindStringSubmatch(text); m != nil {
		e = e.In(m[1])
	}
	return e
}

// unsupportedStreams refuses a named data stream for a harness that would wait for its data on the default one for ever.
func unsupportedStreams(id WorkerID) error {
	return fault.New(fault.Internal, codeNamedStreams, "worker %s does not declare %s", id, CapabilityNamedDataStreams)
}

// ofStream is how SDKs tell of a broken stream of the Fn API. User code that uses gRPC itself reads the same.
// Spec: python apache_beam/runners/worker/data_plane.py; grpc's own errors in Python, Java and Go.
var ofStream = regexp.MustCompile(
	`Channel closed prematurely|grpc\._channel|StatusRuntimeException|rpc error: code = |transport is closing`)

func tellsOfStream(text string) bool { return ofStream.MatchString(text) }

// asStatus turns an error into what a harness is told. A harness can only act on two of them: try again, or give up.
func asStatus(err error) error {
	if errors.Is(err, ErrWorkerLost) {
		return status.Error(codes.Unavailable, err.Error())
	}
	return status.Error(codes.NotFound, err.Error())
}
