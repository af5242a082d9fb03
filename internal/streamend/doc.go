// Package streamend orders the ends of a client's streams: on one connection, the message stream of a job ends after its state streams.
//
// Beam's Python client leaves the state stream at the terminal state, unread to its end, waits for the end of the message stream, and
// exits (python portable_runner.py, PipelineResult._observe_state). When the end of the state stream arrives in a process whose interpreter
// is shutting down already, gRPC's thread takes a lock and dies with it, and the process never exits. In the other order, and with some
// time between, it has handled that end before it goes on.
package streamend
