package docker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"

	"padstone/internal/fault"
)

// Provide makes sure that the image is there, and pulls it if the policy says so; tell hears of a pull and how far it is, since it may take
// minutes. Errors: docker-no-engine, docker-no-image.
func (e *Engine) Provide(ctx context.Context, image string, policy Pull, tell func(string)) error {
	if policy != PullAlways {
		there, err := e.has(ctx, image)
		if err != nil || there {
			return err
		}
		if policy == PullNever {
			return missing(image)
		}
	}
	begun := time.Now()
	tell(fmt.Sprintf("pulling the image %s", image))
	if err := e.pull(ctx, image, tell); err != nil {
		if policy == PullAlways {
			there, _ := e.has(ctx, image) // the pull's error is the one to tell
			return insisted(err, there)
		}
		return err
	}
	tell(fmt.Sprintf("pulled the image %s in %s", image, time.Since(begun).Round(100*time.Millisecond)))
	return nil
}

// insisted adds to the fault of a pull that the image is there without one.
func insisted(err error, there bool) error {
	if !there {
		return err
	}
	return fault.Amended(err, func(f *fault.Error) {
		f.Hint += fmt.Sprintf("; the Engine has an image of this name already, which --docker_pull=%s takes", PullMissing)
	})
}

// missing is the fault of an image that is not to be pulled.
func missing(image string) error {
	return fault.New(fault.Environment, codeNoImage, "the Docker Engine has no image %s, and images are never pulled here", image).
		WithHint("load or build the image on the Engine's machine (`docker images` lists what is there), or choose another --docker-pull")
}

// has says whether the Engine has the image.
func (e *Engine) has(ctx context.Context, image string) (bool, error) {
	asked, cancel := e.answer(ctx)
	defer cancel()
	_, err := e.client.ImageInspect(asked, image)
	switch {
	case err == nil:
		return true, nil
	case cerrdefs.IsNotFound(err):
		return false, nil
	case cerrdefs.IsInvalidArgument(err):
		return false, badReference(image, err)
	default:
		return false, e.failed(ctx, "look for the image "+image, slow(asked, err))
	}
}

func badReference(image string, err error) error {
	return fault.New(fault.Pipeline, codeNoImage, "%q is no name of an image: %w", image, err).
		WithHint("write --environment_config=[REGISTRY/]NAME[:TAG]")
}

// unpulled is the fault of an image that cannot be pulled.
func unpulled(image string, err error) error {
	f := fault.New(fault.Environment, codeNoImage, "the image %s cannot be pulled: %w", image, err)
	switch text := strings.ToLower(err.Error()); {
	case containsAny(text, "not found", "manifest unknown", "does not exist"):
		return f.WithHint("the registry has no such image or tag; an image that was built here must be known to the Engine by just that name")
	case wantsPassword(text):
		return f.WithHint("the registry wants a password, or has no such image: log in as the server's user (`docker login`), " +
			"or pull it by hand on the Engine's machine (`docker pull`)")
	default:
		return f.WithHint("the registry must be reached from the Engine's machine; without a network load the image there (`docker load`)")
	}
}

// wantsPassword says of an error, in lower case, that the registry lets only those in who have logged in.
func wantsPassword(text string) bool {
	return containsAny(text, "denied", "unauthorized", "authentication", "no basic auth credentials")
}

func containsAny(text string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(text, p) })
}
