package docker

import (
	"context"
	"fmt"
	"syscall"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/events"
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
	if n := syscall.Signal(x.Code - signalled); x.Code > signalled && n < 32 {
		text = fmt.Sprintf("signal: %s (exit status %d)", n, x.Code)
	}
	if x.OOM {
		text += "; " + outOfMemory(x.limit)
	}
	if x.Message != "" {
		text += "; the Docker Engine says: " + x.Message
	}
	return text
}

// signalled is what is added to a signal's number. Spec: docker run, exit status; POSIX shells.
const signalled = 128

// Killed says that its first process was killed by a signal that it cannot catch, and the Engine does not know why.
func (x Exit) Killed() bool { return x.Code == signalled+int(syscall.SIGKILL) && !x.OOM && !x.Removed }

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

// Runs says whether the container is known to run.
func (c *Container) Runs(ctx context.Context) bool {
	asked, cancel := c.engine.answer(ctx)
	defer cancel()
	resp, err := c.engine.client.ContainerInspect(asked, c.id, client.ContainerInspectOptions{})
	return err == nil && resp.Container.State != nil && resp.Container.State.Running
}

// Starved says, of a container that runs, that the kernel has killed a process of it for memory since the last question, and words it. It
// must not be called concurrently.
func (c *Container) Starved(ctx context.Context) string {
	kills := max(c.kills(ctx), c.marked(ctx))
	if kills <= c.told {
		return ""
	}
	c.told = kills
	return outOfMemory(c.spec.Options.Memory)
}

// kills counts the events of the container that tell of a process killed for memory, of those which the Engine remembers.
func (c *Container) kills(ctx context.Context) (n int) {
	asked, cancel := c.engine.answer(ctx)
	defer cancel()
	now := time.Now()
	found := c.engine.client.Events(asked, client.EventsListOptions{
		Since: "1", Until: fmt.Sprintf("%d.%09d", now.Unix(), now.Nanosecond()), // seconds since 1970: all that are past
		Filters: make(client.Filters).Add("container", c.id).Add("event", string(events.ActionOOM)),
	})
	for {
		select {
		case m := <-found.Messages:
			if m.Action == events.ActionOOM && m.Actor.ID == c.id {
				n++
			}
		case <-found.Err: // the end of what is past, or of the Engine's patience
			return n
		}
	}
}

// marked returns 1 if the container's state says that a process was killed for memory, which some Engines know only at its end.
func (c *Container) marked(ctx context.Context) int {
	asked, cancel := c.engine.answer(ctx)
	defer cancel()
	resp, err := c.engine.client.ContainerInspect(asked, c.id, client.ContainerInspectOptions{})
	if err != nil || resp.Container.State == nil || !resp.Container.State.OOMKilled {
		return 0
	}
	return 1
}
