// Package fault gives every error that leaves Padstone a kind, a code and a hint.
//
// The kind says who has to act: the pipeline's author, the operator of the environment, nobody (the data on disk is corrupt and
// the job stops) or us. The code is stable and has a section in docs/errors.md: meaning, causes, what to do. The hint is one
// sentence for the reader of a terminal. It holds no policy: retries are the engine's, gRPC status codes the jobserver's.
package fault
