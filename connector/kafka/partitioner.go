package kafka

import "github.com/twmb/franz-go/pkg/kgo"

// anyPartition is the Partition of a record that leaves the choice to the partitioner.
const anyPartition = -1

// badPartitionText is in the error of a record whose partition its topic does not have. The client has no value to compare with.
const badPartitionText = "invalid record partitioning choice"

// choose returns the partitioner that the properties ask for: by default murmur2 of the key as Kafka's Java producer has it, and
// one partition a batch for records without a key.
func (p *producerSettings) choose() kgo.Partitioner {
	var inner kgo.Partitioner
	switch {
	case p.partitioner == roundRobin:
		inner = kgo.RoundRobinPartitioner()
	case p.ignoreKeys || p.partitioner == "org.apache.kafka.clients.producer.UniformStickyPartitioner":
		inner = kgo.StickyPartitioner()
	default:
		inner = kgo.StickyKeyPartitioner(nil)
	}
	return explicit{inner}
}

// explicit honours the partition that a record names and asks inner about the others.
type explicit struct{ inner kgo.Partitioner }

// ForTopic implements kgo.Partitioner.
func (e explicit) ForTopic(topic string) kgo.TopicPartitioner {
	return explicitTopic{e.inner.ForTopic(topic)}
}

type explicitTopic struct{ inner kgo.TopicPartitioner }

// RequiresConsistency implements kgo.TopicPartitioner.
func (e explicitTopic) RequiresConsistency(r *kgo.Record) bool {
	return r.Partition != anyPartition || e.inner.RequiresConsistency(r)
}

// Partition implements kgo.TopicPartitioner.
func (e explicitTopic) Partition(r *kgo.Record, n int) int {
	if r.Partition != anyPartition {
		return int(r.Partition)
	}
	return e.inner.Partition(r, n)
}

// OnNewBatch implements kgo.TopicPartitionerOnNewBatch: the sticky partitioners move on then.
func (e explicitTopic) OnNewBatch() {
	if b, ok := e.inner.(kgo.TopicPartitionerOnNewBatch); ok {
		b.OnNewBatch()
	}
}
