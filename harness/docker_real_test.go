package harness

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"padstone/fnapi"
	"padstone/harness/docker"
	"padstone/harness/docker/dockertest"
	"padstone/internal/fault"
)

// The tests of this file use the Docker Engine of this machine, and are skipped where none answers. The image is the test program.

// real is a manager on the machine's Engine whose containers can be told from all others.
type real struct {
	*Manager
	owner string
}

func newReal(t *testing.T, options docker.Options, adjust func(*Config)) *real {
	t.Helper()
	r := &real{owner: "test-" + strings.ToLower(rand.Text())}
	host := dockertest.Real(t)
	e, err := docker.New(docker.Config{Host: host, Owner: r.owner, Options: options})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := e.Reap(context.Background()); err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	r.Manager = newManager(t, func(c *Config) {
		c.Docker, c.StartTimeout, c.BootSilence = e, time.Minute, time.Minute
		if adjust != nil {
			adjust(c)
		}
	})
	return r
}

func (r *real) left(t *testing.T) []string { return dockertest.Left(t, docker.LabelServer+"="+r.owner) }

// TestRealContainers run bundles on the machine's network and on one of their own, outlive the loss of one, and are gone with their pool.
func TestRealContainers(t *testing.T) {
	t.Parallel()
	dockertest.Real(t)
	image := dockertest.Boot(t, bootMode+"=run")
	for _, network := range []string{"host", "bridge"} {
		t.Run(network, func(t *testing.T) {
			r := newReal(t, docker.Options{Network: network, Pull: docker.PullNever, Memory: 256 << 20, CPUs: 1}, nil)
			if err := r.Check(testContext(t), dockerEnv(t, image), nil); err != nil {
				t.Fatal(err)
			}
			p := start(t, r.Manager, Spec{Environment: dockerEnv(t, image), Processes: 2})
			workers := p.Workers()
			echo(t, r.Manager, workers[0], "d0")
			echo(t, r.Manager, workers[1], "d1")
			usage := p.Usage()
			if len(usage) != 2 || usage[0].Memory == 0 || usage[0].CPU == 0 {
				t.Errorf("usage %+v", usage)
			}
			left := r.left(t)
			if len(left) != 2 {
				t.Fatalf("containers %q", left)
			}
			dockertest.Kill(t, left[0])
			lost := func() *fnapi.Worker {
				for _, w := range workers {
					select {
					case <-w.Done():
						return w
					default:
					}
				}
				return nil
			}
			for ctx := testContext(t); lost() == nil; {
				if !rest(ctx, time.Millisecond) {
					t.Fatal("nobody notices the loss")
				}
			}
			w := lost()
			if why := p.Loss(testContext(t), w.ID(), 1); !strings.Contains(why, left[0]+" ended: signal: killed (exit status 137)") {
				t.Errorf("%q", why)
			}
			back(t, p, w, 1)
			echo(t, r.Manager, w, "d2")
			p.Close(context.Background())
			if logs := strings.Join(p.LastLogs(), "\n"); !strings.Contains(logs, "boot says hello") || !strings.Contains(logs, "boot says goodbye") {
				t.Errorf("logs %q", logs)
			}
			if left := r.left(t); len(left) != 0 {
				t.Errorf("left are %q", left)
			}
		})
	}
}

// TestRealContainerThatFails: how it ended, and what it said.
func TestRealContainerThatFails(t *testing.T) {
	t.Parallel()
	dockertest.Real(t)
	image := dockertest.Boot(t, bootMode+"=exit")
	r := newReal(t, docker.Options{Network: "host", Pull: docker.PullNever}, nil)
	_, err := r.Start(testContext(t), Spec{JobName: "job", EnvID: "env", Environment: dockerEnv(t, image)})
	wantCode(t, err, fault.Environment, "harness-start")
	for _, want := range []string{"exit status 3", "boot says hello", "boot cannot go on"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
	if left := r.left(t); len(left) != 0 {
		t.Errorf("left are %q", left)
	}
}

// TestRealContainerThatEats is killed for its memory, and the error says so.
func TestRealContainerThatEats(t *testing.T) {
	t.Parallel()
	dockertest.Real(t)
	image := dockertest.Boot(t, bootMode+"=eat")
	r := newReal(t, docker.Options{Network: "host", Pull: docker.PullNever, Memory: 64 << 20}, nil)
	_, err := r.Start(testContext(t), Spec{JobName: "job", EnvID: "env", Environment: dockerEnv(t, image)})
	wantCode(t, err, fault.Environment, "harness-start")
	// Podman does not know; then the kernel's own count tells.
	if !strings.Contains(err.Error(), "signal: killed") || !strings.Contains(err.Error(), "for memory") {
		t.Errorf("got %v", err)
	}
}

// TestRealContainerWithoutARoute is told of what is the matter long before the start's own limit. The image has nothing to try it with.
func TestRealContainerWithoutARoute(t *testing.T) {
	t.Parallel()
	dockertest.Real(t)
	image := dockertest.Boot(t, bootMode+"=mute")
	r := newReal(t, docker.Options{Network: "bridge", Pull: docker.PullNever}, func(c *Config) { c.BootSilence = 3 * time.Second })
	_, err := r.Start(testContext(t), Spec{JobName: "job", EnvID: "env", Environment: dockerEnv(t, image)})
	wantCode(t, err, fault.Environment, "docker-no-route")
	if left := r.left(t); len(left) != 0 {
		t.Errorf("left are %q", left)
	}
}

// TestRealContainersAreReaped: those of a server that was killed are removed by the next one on its data directory.
func TestRealContainersAreReaped(t *testing.T) {
	t.Parallel()
	dockertest.Real(t)
	image := dockertest.Boot(t, bootMode+"=run")
	r := newReal(t, docker.Options{Network: "host", Pull: docker.PullNever}, nil)
	p := start(t, r.Manager, Spec{Environment: dockerEnv(t, image)})
	w := p.Workers()[0]
	if n, err := r.cfg.Docker.Reap(testContext(t)); n != 0 || err != nil {
		t.Fatalf("a server has removed %d of its own, %v", n, err)
	}
	next, err := docker.New(docker.Config{Owner: r.owner})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if n, err := next.Reap(testContext(t)); n != 1 || err != nil {
		t.Fatalf("removed %d, %v; left are %q", n, err, r.left(t))
	}
	// Its state may or may not have been read between its end and its removal.
	why := p.Loss(testContext(t), w.ID(), 1)
	if !strings.Contains(why, "somebody has removed the container") && !strings.Contains(why, "signal: killed") {
		t.Errorf("%q", why)
	}
}
