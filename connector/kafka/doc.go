// Package kafka is the native Kafka source and sink: reading and writing topics in the runner itself, without a Java harness.
//
// It is the only importer of the Kafka client, franz-go. Configuration is the JSON of package config with the property names of
// Kafka's Java client; a property that is not understood is refused by name, never ignored.
//
// Source. Partitions are assigned directly, without a consumer group, and each is a split named <topic>-<partition>. A position
// holds the next offset, the watermark and the number of records read, so that a reader that opens with the positions of an
// earlier one goes on exactly there. Where a job starts without positions is resolved to numbers when the source opens and
// returned by the first Poll, so that "latest" is decided once in the life of a job. Poll does no more than take what the client
// has fetched; not polling stops the client at one buffered fetch a broker. See policy.go for watermarks and idle partitions.
//
// Sink. Publish decodes a block's elements into records that share its memory, hands them to an idempotent producer and waits
// for all acknowledgements. By default that is a transaction, which carries a mark of how far the outbox has come: see
// transaction.go for who may write and marks.go for how a mark is read. Without transactions it is at-least-once: what was published
// before a crash is published again when the outbox is.
//
// Goroutines: a reader owns one that asks for partition ends and new partitions, and, if it commits offsets, one for that; Close
// waits for both. The client's own goroutines end with Close of the reader or writer.
//
// Errors are *fault.Error; docs/errors/kafka.md has the codes. Kind Environment: the broker or what lies in between; the client
// itself retries those for ever while reading, and they are logged and shown by Describe instead of failing the job.
package kafka
