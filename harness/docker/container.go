package docker

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
	"go.uber.org/zap"

	"padstone/internal/fault"
)

// Labels of containers.
const (
	LabelServer  = "io.padstone.server" // the server's data directory
	LabelRun     = "io.padstone.run"    // the server's process
	LabelJobID   = "io.padstone.job-id"
	LabelJobName = "io.padstone.job-name"
	LabelEnv     = "io.padstone.environment"
	labelAttempt = "io.padstone.attempt" // one call that creates a container
)

// Spec describes a container.
type Spec struct {
	Image          string
	Args           []string // of the image's entry point
	Endpoint       string   // that it reaches the server by
	Options        Options
	JobID, JobName string
	EnvID          string
	Number         int // of the container among its environment's
	// Stdout and Stderr take what the container prints; they must not block for long.
	Stdout, Stderr io.Writer
}

// name is what people see in `docker ps`.
func (s *Spec) name() string {
	return fmt.Sprintf("padstone-%s-%s-%d", plain(s.JobName), plain(s.EnvID), s.Number)
}

var unplain = regexp.MustCompile(`[^a-zA-Z0-9_.]+`)

// plain makes a part of a container's name of a text.
func plain(text string) string {
	const partMax = 40
	text = strings.Trim(unplain.ReplaceAllString(text, "-"), "-")
	return text[:min(len(text), partMax)]
}

// Container is a container that was started.
type Container struct {
	engine *Engine
	id     string
	name   string
	spec   Spec

	life    context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	printed chan struct{} // closed when the output has been read to its end
	done    chan struct{} // closed after exit is set
	exit    Exit
	told    int // processes killed for memory, of which Starved has told
}

// Start creates and starts a container. The image must be there. Errors: docker-no-engine, docker-no-image, docker-refused.
func (e *Engine) Start(ctx context.Context, spec Spec) (*Container, error) {
	id, name, err := e.create(ctx, spec)
	if err != nil {
		return nil, err
	}
	asked, cancel := within(ctx, e.cfg.ActTimeout)
	defer cancel()
	_, err = e.client.ContainerStart(asked, id, client.ContainerStartOptions{})
	if err = slow(asked, err); err == nil {
		err = ctx.Err() // nobody wants it any more
	}
	if err != nil {
		failure := e.failed(ctx, "start the container "+name, err)
		e.remove(id)
		if failure.Code == codeRefused {
			failure = failure.WithHint("look at the image's entry point, which must be Beam's boot program, and at the server's --docker flags")
		}
		return nil, failure
	}
	c := &Container{engine: e, id: id, name: name, spec: spec, printed: make(chan struct{}), done: make(chan struct{})}
	c.life, c.cancel = context.WithCancel(context.Background())
	c.running.Go(c.print)
	c.running.Go(c.wait)
	e.log.Info("container started", zap.String("container", name), zap.String("image", spec.Image), zap.String("id", id[:min(len(id), 12)]))
	return c, nil
}

// create creates a container. That is not given up before the Engine has answered, with ctx or without: what it may have created unseen is
// hard to find again. A name that is taken, by another server of this Engine or by a container that could not be removed yet, gets
// an appendix.
func (e *Engine) create(ctx context.Context, spec Spec) (id, name string, err error) {
	options, err := e.createOptions(spec)
	if err != nil {
		return "", "", err
	}
	options.Name = spec.name()
	attempt := strings.ToLower(rand.Text())
	options.Config.Labels[labelAttempt] = attempt
	for range 3 {
		asked, cancel := within(context.WithoutCancel(ctx), e.cfg.ActTimeout)
		created, err := e.client.ContainerCreate(asked, options)
		err = slow(asked, err)
		cancel()
		switch {
		case err == nil:
			for _, w := range created.Warnings {
				e.log.Warn("the Docker Engine warns", zap.String("container", options.Name), zap.String("warning", w))
			}
			return created.ID, options.Name, nil
		case cerrdefs.IsConflict(err):
			options.Name = spec.name() + "-" + strings.ToLower(rand.Text()[:6])
			continue
		case cerrdefs.IsNotFound(err):
			return "", "", missing(spec.Image)
		}
		if unreachable(err) {
			e.removeLate(attempt)
		}
		return "", "", e.failed(ctx, "create a container of "+spec.Image, err)
	}
	return "", "", fault.New(fault.Environment, codeRefused, "create a container of %s: every name like %s is taken", spec.Image, spec.name())
}

// createOptions words the container as the API has it.
func (e *Engine) createOptions(spec Spec) (client.ContainerCreateOptions, error) {
	o := spec.Options
	host := &container.HostConfig{
		NetworkMode: container.NetworkMode(o.Network),
		ExtraHosts:  extraHosts(o, spec.Endpoint),
		// User code is not to become more than it begins as.
		SecurityOpt: []string{"no-new-privileges"},
		Resources:   container.Resources{Memory: o.Memory, MemorySwap: o.Memory, NanoCPUs: int64(o.CPUs * 1e9)},
		Mounts:      make([]mount.Mount, 0, len(o.Volumes)),
	}
	for _, v := range o.Volumes {
		m, err := parseVolume(v)
		if err != nil {
			return client.ContainerCreateOptions{}, invalid("volume: %w", err)
		}
		host.Mounts = append(host.Mounts, m)
	}
	return client.ContainerCreateOptions{
		Config: &container.Config{
			Image: spec.Image, Cmd: spec.Args, Env: o.Env,
			Labels: map[string]string{
				LabelServer: e.cfg.Owner, LabelRun: e.run,
				LabelJobID: spec.JobID, LabelJobName: spec.JobName, LabelEnv: spec.EnvID,
			},
		},
		HostConfig: host,
	}, nil
}

// Name returns the container's name.
func (c *Container) Name() string { return c.name }

// Done is closed when the container is known to have ended, and its output and state have been read.
func (c *Container) Done() <-chan struct{} { return c.done }

// Exit says how the container ended; only valid after Done.
func (c *Container) Exit() Exit { return c.exit }

// wait waits for the container's end. An Engine that is away is asked again: a container may outlive it.
func (c *Container) wait() {
	defer close(c.done)
	for c.life.Err() == nil {
		w := c.engine.client.ContainerWait(c.life, c.id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
		var err error
		select {
		case <-w.Result:
		case err = <-w.Error:
		}
		if c.life.Err() != nil {
			return
		}
		state, known := c.state()
		if known && (state.removed || !state.running) {
			c.drain()
			c.exit = state.exit
			return
		}
		c.engine.log.Debug("container waited for in vain", zap.String("container", c.name), zap.Error(err))
		c.pause()
	}
}

// drain waits until the output has been read, which ends with the container.
func (c *Container) drain() {
	timer := time.NewTimer(c.engine.cfg.AnswerTimeout)
	defer timer.Stop()
	select {
	case <-c.printed:
	case <-c.life.Done():
	case <-timer.C:
	}
}

// pause waits a little before the Engine is asked again.
func (c *Container) pause() {
	select {
	case <-c.life.Done():
	case <-time.After(c.engine.cfg.RetryEvery):
	}
}

// Stop ends the container and removes it: after patience it is asked to end, after patience again it is killed. It is killed at once when
// hurry is closed. An Engine that does not answer is not waited for; the container is removed when it does.
func (c *Container) Stop(patience time.Duration, hurry <-chan struct{}) {
	ended := c.ends(patience, hurry)
	if !ended && !c.engine.answers() { // then it would be waited for again and again
		c.engine.removeLater(c.id)
		c.cancel()
		c.running.Wait()
		return
	}
	if !ended {
		asking, cancel := within(c.life, patience+c.engine.cfg.AnswerTimeout)
		stopping := make(chan struct{})
		go func() {
			defer close(stopping)
			seconds := int(max(patience, time.Second) / time.Second)
			_, err := c.engine.client.ContainerStop(asking, c.id, client.ContainerStopOptions{Timeout: &seconds})
			if err != nil && asking.Err() == nil {
				c.engine.log.Debug("container does not stop", zap.String("container", c.name), zap.Error(err))
			}
		}()
		c.ends(patience+time.Second, hurry)
		cancel()
		<-stopping
	}
	c.engine.remove(c.id)
	c.cancel()
	c.running.Wait()
}

// ends waits for the container's end, patience at most and not in a hurry.
func (c *Container) ends(patience time.Duration, hurry <-chan struct{}) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-c.done:
		return true
	case <-hurry:
	case <-timer.C:
	}
	return false
}
