package kafka

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"padstone/connector"
	"padstone/internal/fault"
)

// Mark implements connector.Marker. It does not take the transactional id, so that a writer that has it goes on; what that one has in an
// open transaction is not in the mark.
func (s *sink) Mark(ctx context.Context, data []byte, as connector.Identity) (connector.Mark, error) {
	cfg, set, err := parseProducer(data)
	if err != nil {
		return connector.Mark{}, err
	}
	mark := connector.Mark{Kept: set.producer.exactlyOnce, Target: "the topics that its records name"}
	if cfg.Topic != "" {
		mark.Target = fmt.Sprintf("topic %q", cfg.Topic)
	}
	if !mark.Kept {
		return mark, nil
	}
	kafka, err := newCluster(set)
	if err != nil {
		return mark, err
	}
	defer kafka.client.Close()
	ctx, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	t := newTransactions(as, set)
	found, err := t.look(ctx, kafka, set)
	if err != nil {
		return mark, err
	}
	if err := t.admit(found); err != nil {
		return mark, err
	}
	mark.Seq, mark.Records, mark.At = found.mark, found.records, found.at
	return mark, nil
}

// look reads the marks without a transaction.
func (t *transactions) look(ctx context.Context, kafka *cluster, set *settings) (marks, error) {
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if _, err := kafka.partitions(opening, []string{t.topic}, false); err != nil {
		if f := fault.Of(err); f != nil && f.Code == codeTopic {
			return marks{}, nil // no sink has written anything yet, here
		}
		return marks{}, err
	}
	// Where reading ends. A record without a value is compacted away.
	probe := &kgo.Record{Topic: t.topic, Partition: marksPartition, Key: []byte(t.id + probeSuffix)}
	if err := kafka.client.ProduceSync(ctx, probe).FirstErr(); err != nil {
		return marks{}, writeError(probe, err)
	}
	return readMarks(ctx, set, t.topic, t.id, probe.Offset)
}
