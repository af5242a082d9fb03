package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/moby/moby/client"

	"padstone/internal/fault"
)

// Codes of this package. docs/errors/docker.md says what each means and what to do.
const (
	codeNoEngine   fault.Code = "docker-no-engine"
	codeNoImage    fault.Code = "docker-no-image"
	codeNoEntry    fault.Code = "docker-no-entry-point"
	codeNoNetwork  fault.Code = "docker-no-network"
	codeNoRoute    fault.Code = "docker-no-route"
	codeRefused    fault.Code = "docker-refused"
	codeOption     fault.Code = "docker-option"
	codeNotAllowed fault.Code = "docker-not-allowed"
)

// errSlow is the cause of a call that took too long.
var errSlow = errors.New("no answer in time")

func invalid(format string, args ...any) error {
	return fault.New(fault.Pipeline, codeOption, "%w", fmt.Errorf(format, args...))
}

// unreachable says whether an error means that no Engine answers.
func unreachable(err error) bool {
	var op net.Error
	return client.IsErrConnectionFailed(err) || errors.Is(err, errSlow) || errors.As(err, &op) ||
		errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist)
}

// failed words an error of the Engine's API. ctx is the caller's own; its end is not the Engine's fault.
func (e *Engine) failed(ctx context.Context, what string, err error) *fault.Error {
	if ctx.Err() != nil {
		return fault.New(fault.Environment, codeRefused, "%s: given up: %w", what, context.Cause(ctx))
	}
	if unreachable(err) {
		return e.noEngine(what, err)
	}
	return fault.New(fault.Environment, codeRefused, "%s: the Docker Engine says: %w", what, err)
}

func (e *Engine) noEngine(what string, err error) *fault.Error {
	host := e.client.DaemonHost()
	hint := "start Docker or Podman's socket on this machine, or set DOCKER_HOST; --environment_type=LOOPBACK, PROCESS and EXTERNAL need none"
	if errors.Is(err, errSlow) {
		return fault.New(fault.Environment, codeNoEngine, "%s: the Docker Engine at %s does not answer", what, host).
			WithHint("look at the Engine: `docker version` should answer")
	}
	if errors.Is(err, os.ErrPermission) {
		hint = "the server's user must be let in by the socket: add it to the group docker, or set DOCKER_HOST to an Engine of its own"
	}
	return fault.New(fault.Environment, codeNoEngine, "%s: no Docker Engine answers at %s: %w", what, host, err).WithHint("%s", hint)
}
