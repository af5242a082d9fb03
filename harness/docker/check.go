package docker

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/moby/moby/client"
)

// checkFor bounds each question of a check; an Engine that runs answers within milliseconds.
const checkFor = 3 * time.Second

// Check says whether containers of the image could be started now, without starting one or pulling anything: whether an Engine answers, has
// the image or could pull it, and the network has a route to the server. A registry that does not answer within a second is given the
// benefit of the doubt. Errors are those of Provide, Entry and Route.
func (e *Engine) Check(ctx context.Context, image string, o Options, server Server) error {
	asked, cancel := within(ctx, min(checkFor, e.cfg.AnswerTimeout))
	defer cancel()
	if _, err := e.client.Ping(asked, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return e.failed(ctx, "start a container", slow(asked, err))
	}
	there, err := e.has(ctx, image)
	switch {
	case err != nil:
		return err
	case !there && o.Pull == PullNever:
		return missing(image)
	case !there || o.Pull == PullAlways:
		if err := e.pullable(ctx, image); err != nil {
			return insisted(err, there)
		}
	}
	if there && o.Pull != PullAlways { // else it may be another one by then
		if _, err := e.Entry(ctx, image); err != nil {
			return err
		}
	}
	_, err = e.Route(ctx, o.Network, server)
	return err
}

// pullable asks the registry for the image, by way of the Engine. Not every Engine passes the question on, so only an answer that is about
// the image or the registry counts.
func (e *Engine) pullable(ctx context.Context, image string) error {
	asked, cancel := within(ctx, time.Second)
	defer cancel()
	_, err := e.client.DistributionInspect(asked, image, client.DistributionInspectOptions{EncodedRegistryAuth: password(asked, image)})
	if err == nil || errors.Is(slow(asked, err), errSlow) || ctx.Err() != nil {
		return nil
	}
	text := strings.ToLower(err.Error())
	if wantsPassword(text) || containsAny(text,
		"manifest unknown", "repository does not exist", "no such host", "connection refused", "unreachable", "invalid reference") {
		return unpulled(image, err)
	}
	return nil
}
