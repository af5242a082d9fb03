package harness

import (
	"strings"

	"padstone/internal/fault"
)

// Codes of this package. docs/errors/harness.md says what each means and what to do.
const (
	codeStart       fault.Code = "harness-start"
	codeTimeout     fault.Code = "harness-start-timeout"
	codeUnstable    fault.Code = "harness-unstable"
	codePool        fault.Code = "harness-worker-pool"
	codeArtifact    fault.Code = "harness-artifact"
	codeDefault     fault.Code = "unsupported-environment-default"
	codeUnsupported fault.Code = "unsupported-environment"
	codeInvalid     fault.Code = "invalid-environment"
	codePackages    fault.Code = "unsupported-python-packages"
	codeConfig      fault.Code = "harness-config"
)

// withLogs appends the harness's last log lines to an error, as many as an error message may hold.
func withLogs(e *fault.Error, lines []string) *fault.Error {
	const quoteMax = 8 << 10 // bytes
	first, size := len(lines), 0
	for ; first > 0 && size+len(lines[first-1]) <= quoteMax; first-- {
		size += len(lines[first-1])
	}
	if first < len(lines) {
		e.Msg += "; last log lines of the harness:\n  " + strings.Join(lines[first:], "\n  ")
	}
	return e
}
