// Package durable writes small files so that a crash at any byte leaves the old content or the new one, never a mixture.
//
// A file is written beside its place, synced, renamed over it, and the directory is synced: the rename is what makes it exist.
// It is the fence around fsync for the job registry and the artifact store; the engine's data goes through its own store.
package durable
