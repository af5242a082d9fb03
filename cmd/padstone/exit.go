package main

import (
	"errors"
	"fmt"

	"padstone/internal/fault"
)

// Exit codes. 0 to 2 are the terminal states of jobs; 64 and 69 are those of sysexits.h, out of the way of a script's own.
const (
	exitOK          = 0   // DONE, DRAINED, UPDATED
	exitFailed      = 1   // FAILED, and every error without a code of its own
	exitCancelled   = 2   // CANCELLED
	exitUsage       = 64  // flags, arguments or configuration
	exitUnavailable = 69  // no server answers
	exitInterrupted = 130 // killed by a second Ctrl-C
)

// Fault codes of the command line; docs/errors/cli.md has a section for each.
const (
	codeConfig          fault.Code = "config-invalid"
	codeAddress         fault.Code = "address-unavailable"
	codeServer          fault.Code = "server-unreachable"
	codeServerReply     fault.Code = "server-refused"
	codePython          fault.Code = "python-not-found"
	codeScript          fault.Code = "script-not-started"
	codePipeline        fault.Code = "pipeline-unreadable"
	codeWait            fault.Code = "wait-timeout"
	codeBenchScript     fault.Code = "bench-script"
	codeBenchRegression fault.Code = "bench-regression"
)

// exitError ends the command with a code; a nil err prints nothing, since everything has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError marks an error of flags, arguments or configuration.
func usageError(err error) error { return &exitError{code: exitUsage, err: err} }

// exitCode maps a command's error to the code of the process and to what is still to be printed ("": nothing).
func exitCode(err error) (code int, text string) {
	if err == nil {
		return exitOK, ""
	}
	var exit *exitError
	if errors.As(err, &exit) {
		if exit.err == nil {
			return exit.code, ""
		}
		return exit.code, err.Error()
	}
	if f := fault.Of(err); f != nil {
		switch f.Code {
		case codeConfig:
			return exitUsage, err.Error()
		case codeServer:
			return exitUnavailable, err.Error()
		}
	}
	return exitFailed, err.Error()
}
