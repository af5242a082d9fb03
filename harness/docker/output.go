package docker

import (
	"context"
	"io"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
	"go.uber.org/zap"
)

// print copies the container's output from its beginning to its end, also when the Engine is away for a while.
func (c *Container) print() {
	defer close(c.printed)
	out, errs := &marked{to: c.spec.Stdout}, &marked{to: c.spec.Stderr}
	since := ""
	for {
		err := c.printSince(since, out, errs)
		if c.life.Err() != nil || cerrdefs.IsNotFound(err) {
			return
		}
		if cerrdefs.IsNotImplemented(err) {
			c.engine.log.Warn("the Docker Engine's logging driver does not let output be read", zap.String("container", c.name))
			return
		}
		if state, known := c.state(); err == nil && known && !state.running {
			return
		}
		c.pause()
		if at := later(out.at, errs.at); !at.IsZero() {
			since = at.UTC().Format(time.RFC3339Nano)
		}
	}
}

// marked is a writer that knows when it was last written to.
type marked struct {
	to io.Writer
	at time.Time
}

// Write implements io.Writer.
func (m *marked) Write(p []byte) (int, error) {
	m.at = time.Now()
	return m.to.Write(p)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// printSince copies the output from a point in time on until the container ends or the Engine goes away.
func (c *Container) printSince(since string, stdout, stderr io.Writer) error {
	out, err := c.engine.client.ContainerLogs(c.life, c.id, client.ContainerLogsOptions{
		ShowStdout: true, ShowStderr: true, Follow: true, Since: since,
	})
	if err != nil {
		return err
	}
	defer out.Close()
	stop := context.AfterFunc(c.life, func() { out.Close() })
	defer stop()
	_, err = stdcopy.StdCopy(stdout, stderr, out)
	return err
}
