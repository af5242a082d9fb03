// Package fnapi is the runner's half of Beam's Fn API: what SDK harnesses dial to fetch work, data and state.
//
// A Server serves control, data, state, logging, provisioning, staged files and worker status on one port to any number of harnesses,
// told apart by the worker_id metadata of their calls; for those that cannot reach that port it listens on other addresses, too. Only
// ids that were registered with Expect before are admitted. A Worker is one such id; each control stream that comes under it is a new
// generation, and everything of the former generation (bundles, pending calls, data streams, short ids) ends with ErrWorkerLost. A
// Bundle is one ProcessBundle instruction: it is complete once the response and the end marker of each output and timer family are in,
// in any order.
//
// The package moves bytes and keeps the protocol. It does not know coders, keys, stages or retries, and starts no process.
//
// Invariants: data never travels in a message marked last; every state request is answered; no callback of a bundle runs after its
// Wait has returned; a harness that breaks the protocol fails its bundle or its generation and nothing else.
//
// Goroutines: Server.Run serves; each stream has a reader and a writer, which end with the stream; each bundle with outstanding state
// requests has one that answers them in order. Close waits for all of them.
//
// Errors are *fault.Error; codes in docs/errors/fnapi.md. gRPC status codes do not leave the package.
package fnapi
