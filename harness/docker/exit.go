package docker

import (
	"context"
	"fmt"
	"syscall"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/moby/moby/client"
)

// Exit is how a container ended.
type Exit struct {
	Code    int
	OOM     bool   // the kernel has killed a process of it for memory
	Removed bool   // somebody has removed it before its state was read
	Message string // the Engine's own, when it could not be run
	limit   int64  // of its memory; 0: none
}

// String words it.
func (x Exit) String() string {
	if x.Removed {
		return "somebody has removed the container"
	}
	text := fmt.Sprintf("exit status %d", x.Code)
	const signalled = 128 // Spec: docker run, exit status; POSIX shells.
	if n := syscall.Signal(x.Code - signalled); x.Code > signalled && n < 32 {
		text = fmt.Sprintf("signal: %s (exit status %d)", n, x.Code)
	}
	switch {
	case x.OOM:
		text += "; " + outOfMemory(x.limit)
	case x.Code == signalled+int(syscall.SIGKILL):
		text += "; the Docker Engine knows of no lack of memory, so somebody has killed it"
	}
	if x.Message != "" {
		text += "; the Docker Engine says: " + x.Message
	}
	return text
}

// outOfMemory words that the kernel has killed a process for memory.
func outOfMemory(limit int64) string {
	if limit > 0 {
		return fmt.Sprintf("the kernel has killed a process of it for memory, its limit is %s", units.BytesSize(float64(limit)))
	}
	return "the kernel has killed a process of it for memory; it has no limit of its own, so the machine's was reached"
}

// state is a container's, as the Engine knows it.
type state struct {
	running, removed bool
	exit             Exit
}

// state asks the Engine. known is false when it does not answer.
func (c *Container) state() (s state, known bool) {
	asked, cancel := c.engine.answer(c.life)
	defer cancel()
	resp, err := c.engine.client.ContainerInspect(asked, c.id, client.ContainerInspectOptions{})
	if cerrdefs.IsNotFound(err) {
		return state{removed: true, exit: Exit{Removed: true}}, true
	}
	if err != nil || resp.Container.State == nil {
		return state{}, false
	}
	is := resp.Container.State
	return state{
		running: is.Running || is.Restarting,
		exit:    Exit{Code: is.ExitCode, OOM: is.OOMKilled, Message: is.Error, limit: c.spec.Options.Memory},
	}, true
}

// Starved says, of a container that runs, that the kernel has killed a process of it for memory, and words it. The Engine does not
// forget it.
func (c *Container) Starved(ctx context.Context) string {
	asked, cancel := c.engine.answer(ctx)
	defer cancel()
	resp, err := c.engine.client.ContainerInspect(asked, c.id, client.ContainerInspectOptions{})
	if err != nil || resp.Container.State == nil || !resp.Container.State.OOMKilled {
		return ""
	}
	return outOfMemory(c.spec.Options.Memory)
}
