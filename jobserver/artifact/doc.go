// Package artifact keeps the files that user code needs: it fetches them from the submitting client and hands them to harnesses.
//
// The store is content-addressed: a file is its SHA-256, two jobs that stage the same bytes share them, and bytes that no job refers to
// are deleted. Staging is Beam's reverse retrieval: the client opens a stream and the server asks, first to resolve what the client
// alone understands (Maven, expansion-service "deferred"), then for the bytes. Each environment's dependencies are then rewritten to
// type FILE with the digest, their roles untouched. Retrieval serves a digest, never a path that a caller sent.
//
// Knowing a digest is the right to fetch it; Beam's retrieval calls carry no other credential (Spec: beam_artifact_api.proto).
//
// Goroutines: one receiver a staging stream, ended by the stream's end and waited for by Service.Close. Errors are *fault.Error; gRPC
// statuses are made at the edge. Concurrency: all methods are safe for concurrent use.
package artifact
