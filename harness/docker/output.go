package docker

import (
	"context"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
	"go.uber.org/zap"
)

// print copies the container's output from its beginning to its end, also when the Engine is away for a while.
func (c *Container) print() {
	defer close(c.printed)
	since := ""
	for {
		asked := time.Now()
		err := c.printSince(since)
		if c.life.Err() != nil || cerrdefs.IsNotFound(err) {
			return
		}
		if cerrdefs.IsNotImplemented(err) {
			c.engine.log.Warn("the Docker Engine's logging driver does not let output be read", zap.String("container", c.name))
			return
		}
		if state, known := c.state(); known && !state.running {
			return
		}
		c.pause()
		since = asked.UTC().Format(time.RFC3339Nano)
	}
}

// printSince copies the output from a point in time on until the container ends or the Engine goes away.
func (c *Container) printSince(since string) error {
	out, err := c.engine.client.ContainerLogs(c.life, c.id, client.ContainerLogsOptions{
		ShowStdout: true, ShowStderr: true, Follow: true, Since: since,
	})
	if err != nil {
		return err
	}
	defer out.Close()
	stop := context.AfterFunc(c.life, func() { out.Close() })
	defer stop()
	_, err = stdcopy.StdCopy(c.spec.Stdout, c.spec.Stderr, out)
	return err
}
