package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"
)

// pull pulls the image. A pull that makes no progress for a while is given up; of one that does tell hears now and then.
func (e *Engine) pull(ctx context.Context, image string, tell func(string)) error {
	pulling, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(e.cfg.PullStall, func() { cancel(errSlow) })
	defer stalled.Stop()
	p := progress{layers: make(map[string]layer)}
	begun, told := time.Now(), time.Now()
	err := e.follow(pulling, image, func(m jsonstream.Message) {
		stalled.Reset(e.cfg.PullStall)
		p.add(m)
		if time.Since(told) >= e.cfg.PullTell {
			told = time.Now()
			tell(fmt.Sprintf("still pulling the image %s after %s: %s", image, time.Since(begun).Round(time.Second), p))
		}
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return e.failed(ctx, "pull the image "+image, err)
	case errors.Is(context.Cause(pulling), errSlow):
		return unpulled(image, fmt.Errorf("no progress for %s", e.cfg.PullStall))
	case client.IsErrConnectionFailed(err):
		return e.noEngine("pull the image "+image, err)
	case cerrdefs.IsInvalidArgument(err), strings.Contains(err.Error(), "invalid reference format"):
		return badReference(image, err)
	default:
		return unpulled(image, err)
	}
}

// follow pulls the image and calls progress at each sign of it.
func (e *Engine) follow(ctx context.Context, image string, progress func(jsonstream.Message)) error {
	resp, err := e.client.ImagePull(ctx, image, client.ImagePullOptions{RegistryAuth: password(ctx, image)})
	if err != nil {
		return err
	}
	defer resp.Close()
	progress(jsonstream.Message{})
	for m, err := range resp.JSONMessages(ctx) {
		if err != nil {
			return err
		}
		if m.Error != nil {
			return m.Error
		}
		progress(m)
	}
	return nil
}

// progress is how far a pull is, by what the Engine says of each layer.
type progress struct{ layers map[string]layer }

type layer struct {
	now, all int64 // bytes that were downloaded; all is 0 while it is not known
	there    bool  // downloaded, or here already
	done     bool  // unpacked as well
}

// add takes a message of the pull. Spec: moby docker image pull; what Podman says is worded alike.
func (p progress) add(m jsonstream.Message) {
	if m.ID == "" {
		return
	}
	l := p.layers[m.ID]
	switch status := strings.ToLower(m.Status); {
	case strings.HasPrefix(status, "pulling fs layer"), status == "waiting", strings.HasPrefix(status, "retrying"):
	case status == "downloading":
		if m.Progress != nil { // after an interruption it is of what was left
			left := max(m.Progress.Total-m.Progress.Current, 0)
			l.all = max(l.all, m.Progress.Total)
			l.now = l.all - left
		}
	case status == "pull complete", status == "already exists":
		l.there, l.done, l.now = true, true, l.all
	case status == "download complete", status == "verifying checksum", status == "extracting":
		l.there, l.now = true, l.all
	default: // not about a layer
		return
	}
	p.layers[m.ID] = l
}

// String words it.
func (p progress) String() string {
	var now, all int64
	there, done := 0, 0
	for _, l := range p.layers {
		now, all = now+l.now, all+l.all
		if l.there {
			there++
		}
		if l.done {
			done++
		}
	}
	if len(p.layers) == 0 {
		return "nothing has come yet"
	}
	return fmt.Sprintf("%s of %s that are known of so far, %d of %d layers downloaded, %d unpacked",
		units.HumanSize(float64(now)), units.HumanSize(float64(all)), there, len(p.layers), done)
}
