// Package metrics merges the MonitoringInfos of bundles into the totals of a job.
//
// A total is keyed by URN, type and labels, with transform ids replaced by the user's transform names. Only committed bundles are
// added, so that a retried bundle counts once. Payload encodings are those of Beam's metrics proto; a type that is not known keeps
// its latest payload. Not for concurrent use; no I/O, no clock.
package metrics
