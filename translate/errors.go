package translate

import (
	"errors"

	"padstone/internal/fault"
)

// Codes of the errors that Compile returns, all of kind Pipeline. docs/errors/translate.md has a section for each.
const (
	codeNoRoot            fault.Code = "no-root-transform"
	codeDanglingTransform fault.Code = "dangling-transform"
	codeDanglingPColl     fault.Code = "dangling-pcollection"
	codeDanglingCoder     fault.Code = "dangling-coder"
	codeDanglingWindowing fault.Code = "dangling-windowing-strategy"
	codeDanglingEnv       fault.Code = "dangling-environment"
	codeDuplicateProducer fault.Code = "duplicate-producer"
	codeCycle             fault.Code = "pipeline-cycle"
	codePayload           fault.Code = "invalid-payload"
	codeShape             fault.Code = "invalid-transform-shape"
	codeCoder             fault.Code = "invalid-coder"
	codeKeyed             fault.Code = "keyed-input-required"
	codeWindowFn          fault.Code = "invalid-window-fn"
	codeTrigger           fault.Code = "invalid-trigger"
	codeFlattenWindows    fault.Code = "flatten-window-mismatch"
	codeFlattenCoders     fault.Code = "flatten-coder-mismatch"
	codeNativeConfig      fault.Code = "invalid-native-config"
	codeUnknownTransform  fault.Code = "unknown-transform"
	codeUnknownRequire    fault.Code = "unknown-requirement"

	codeEnvironment     fault.Code = "unsupported-environment"
	codeRead            fault.Code = "unsupported-read"
	codeTestStream      fault.Code = "unsupported-test-stream"
	codeMergingWindowFn fault.Code = "unsupported-merging-window-fn"
	codeRetractions     fault.Code = "unsupported-retractions"
	codeSideInput       fault.Code = "unsupported-side-input"
	codeState           fault.Code = "unsupported-state"
	codeTimeDomain      fault.Code = "unsupported-time-domain"
	codeNativeCoder     fault.Code = "unsupported-native-coder"
	codeStatefulSDF     fault.Code = "unsupported-stateful-splittable"
	codeCustomWindowSDF fault.Code = "unsupported-custom-window-splittable"
)

// refuse returns an error of kind Pipeline.
func refuse(code fault.Code, format string, args ...any) *fault.Error {
	return fault.New(fault.Pipeline, code, format, args...)
}

// in names the user's transform in err, unless a transform is named already.
func in(err error, transform string) error {
	var e *fault.Error
	if errors.As(err, &e) && e.Transform == "" {
		return e.In(transform)
	}
	return err
}
