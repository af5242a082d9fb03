package docker

import (
	"bytes"
	"context"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"
)

// Probe is what an attempt has shown to reach the server from inside a container.
type Probe int

const (
	Unknown     Probe = iota // the image has nothing to try it with
	Reached                  // a connection was made
	Unreachable              // none could be made
)

// probeScript tries to connect with what images of SDKs have: bash, or Python, or BusyBox. The arguments are host and port. What it says
// first is that it begins to.
const probeScript = `
if command -v bash >/dev/null 2>&1; then
  exec bash -c 'echo trying; exec 3<>"/dev/tcp/$0/$1"' "$1" "$2"
fi
for python in python3 python; do
  if command -v $python >/dev/null 2>&1; then
    exec $python -c '
import socket, sys
print("trying", flush=True)
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])))
except OSError as e:
    sys.exit(str(e))' "$1" "$2"
  fi
done
if command -v nc >/dev/null 2>&1; then
  echo trying
  exec nc -z "$1" "$2"
fi
exit 99`

// Exit statuses of the probe that say nothing of the route. Spec: docker run, exit status.
const (
	statusUnknown       = -1
	statusNoTool        = 99
	statusNotExecutable = 126
	statusNotFound      = 127
)

// Probe tries to reach the server from inside the container; why says what failed. It takes a few seconds at most. An Engine that is slow
// to run a program says nothing of the route.
func (c *Container) Probe(ctx context.Context) (result Probe, why string) {
	patience := c.engine.cfg.ProbeTimeout
	host, port, err := net.SplitHostPort(c.spec.Endpoint)
	if err != nil {
		return Unknown, ""
	}
	asked, cancel := c.engine.answer(ctx)
	defer cancel()
	made, err := c.engine.client.ExecCreate(asked, c.id, client.ExecCreateOptions{
		AttachStdout: true, AttachStderr: true, Cmd: []string{"/bin/sh", "-c", probeScript, "probe", host, port},
	})
	if err != nil {
		return Unknown, ""
	}
	stream, err := c.engine.client.ExecAttach(asked, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return Unknown, ""
	}
	defer stream.Close()
	stop := context.AfterFunc(asked, stream.Close)
	defer stop()
	out := &attempt{patience: patience, giveUp: stream.Close}
	_, _ = stdcopy.StdCopy(out, out, stream.Reader) // how it ended is asked for below
	if out.over() {
		return Unreachable, "the connection is not answered within " + patience.String()
	}
	switch c.status(asked, made.ID) {
	case 0:
		return Reached, ""
	case statusNoTool, statusNotExecutable, statusNotFound, statusUnknown:
		return Unknown, ""
	}
	return Unreachable, out.why()
}

// attempt takes what a probe prints, and gives it up when it has taken too long since it began.
type attempt struct {
	patience time.Duration
	giveUp   func()

	text  bytes.Buffer
	timer *time.Timer
}

// Write implements io.Writer.
func (a *attempt) Write(p []byte) (int, error) {
	if a.timer == nil {
		a.timer = time.AfterFunc(a.patience, a.giveUp)
	}
	return a.text.Write(p)
}

// over says whether the attempt was given up. It is asked once, when nothing more comes.
func (a *attempt) over() bool { return a.timer != nil && !a.timer.Stop() }

// shellPrefix is how bash begins its errors.
var shellPrefix = regexp.MustCompile(`^.*: line \d+: `)

// why returns what the attempt has failed for: the first line after that which says that it begins.
func (a *attempt) why() string {
	_, rest, _ := strings.Cut(a.text.String(), "\n")
	line, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
	if line = shellPrefix.ReplaceAllString(strings.TrimSpace(line), ""); line == "" {
		return "it cannot connect"
	}
	return line
}

// status returns the exit status of a program whose output has ended, which the Engine may know a moment later.
func (c *Container) status(ctx context.Context, id string) int {
	for {
		end, err := c.engine.client.ExecInspect(ctx, id, client.ExecInspectOptions{})
		if err != nil {
			return statusUnknown
		}
		if !end.Running {
			return end.ExitCode
		}
		select {
		case <-ctx.Done():
			return statusUnknown
		case <-time.After(20 * time.Millisecond):
		}
	}
}
