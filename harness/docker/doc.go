// Package docker runs containers of SDK harnesses on a Docker Engine, over the Engine's API; Podman's socket speaks it, too. It is the
// only package that knows the client.
//
// An Engine provides images (Provide), says how containers of a network reach this machine (Route), starts containers (Start), tells
// whether one really does reach it (Container.Probe) and how it ended (Container.Exit), and removes them. What a harness is, its arguments
// and when to start it again is the caller's.
//
// Invariants: a container that was started is removed, at the latest by a later server on the same data directory (Reap): its labels name
// that server. A dead container is kept until its output and its state were read. A job gets nothing of the machine that the server's
// options do not give it (Engine.ForJob). No call waits for an Engine longer than Config says, pulls excepted, which must go
// on.
//
// Goroutines: two a container, which end with Container.Stop; one that removes what could not be removed at once, which ends with Close.
//
// Errors are *fault.Error with codes in docs/errors/docker.md.
package docker
