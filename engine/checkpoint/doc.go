// Package checkpoint keeps checkpoints of whole jobs in a repository: a directory, or a bucket that speaks S3.
//
// A checkpoint is a list of files, each with its length and SHA-256, in a manifest that is put last and in one piece. Files are
// stored under the hash of their contents, so that what a checkpoint shares with those before it goes up once: pebble's tables, the
// pipeline, artifacts. Layout, below the repository's root:
//
//	jobs/<job>/checkpoints/<id>.json   manifests that Prune may remove
//	jobs/<job>/savepoints/<id>.json    manifests that it keeps
//	jobs/<job>/files/<sha256>          contents
//	jobs/<job>/pending/<id>.json       the hashes of a checkpoint that is being written
//
// Invariants. A manifest that is there has all of its files: Write looks for them after everything is up and before the manifest is
// put, and Prune deletes no file that a manifest or a pending checkpoint names. A crash at any moment leaves the checkpoints before
// it as they were, and contents that nobody names; the next Write of the same lineage removes them. Fetch verifies every byte.
//
// A lineage is one job in one data directory. A job that is restored begins another one, whose incarnation is one higher, so that
// what a server still writes which lost the job never counts as newer than what the job has written since.
//
// Not here: what is in the files, and when a checkpoint is taken; see engine. Repository is safe for concurrent use; checkpoints of
// one job are written one at a time. No goroutine outlives a call. Errors: fault.Environment for what is outside,
// fault.Corruption for what does not read back, fault.Pipeline for what was asked for.
package checkpoint
