package docker

import (
	"context"
	"path"
	"strings"

	"github.com/moby/moby/client"

	"padstone/internal/fault"
)

// Entry is the entry point of an image.
type Entry []string

// Boots says whether it is Beam's boot program, whose first act is a call to the server.
func (n Entry) Boots() bool { return len(n) > 0 && path.Base(n[0]) == "boot" }

// String returns it as it is run.
func (n Entry) String() string { return strings.Join(n, " ") }

// Entry returns the entry point of an image that is there; nil when the Engine does not tell. Errors: docker-no-entry-point, of an image
// that has none, so that a container would take its first argument for a program.
func (e *Engine) Entry(ctx context.Context, image string) (Entry, error) {
	asked, cancel := e.answer(ctx)
	defer cancel()
	resp, err := e.client.ImageInspect(asked, image)
	if err != nil {
		return nil, nil // whoever creates the container will hear of it
	}
	return entryOf(image, resp)
}

func entryOf(image string, resp client.ImageInspectResult) (Entry, error) {
	if resp.Config == nil {
		return nil, nil
	}
	if len(resp.Config.Entrypoint) == 0 {
		return nil, fault.New(fault.Environment, codeNoEntry, "the image %s has no entry point, which must be Beam's boot program", image).
			WithHint("take an image of a Beam SDK, or one that is built upon it (FROM apache/beam_python3.11_sdk:2.77.0) and leaves its " +
				"ENTRYPOINT as it is")
	}
	return Entry(resp.Config.Entrypoint), nil
}
