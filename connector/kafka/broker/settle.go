package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"padstone/internal/fault"
)

// Limits of settling.
const (
	settleTimeout = time.Minute
	settleQuiet   = 300 * time.Millisecond // nothing more comes: a compacted log need not have a record at its end
)

// producerAt is a producer's transaction in a partition.
type producerAt struct {
	topic     string
	partition int32
	producer  int64
}

// settle ends the transactions that were open when an earlier broker on the same directory was killed. The broker behind this one
// takes them for aborted, but writes no marker, and clients, which go by markers, would then leave out all that the same producer
// commits later.
func (b *Broker) settle() error {
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.DisableClientMetrics(), kgo.KeepControlRecords(),
		kgo.FetchMaxWait(settleQuiet/3))
	if err != nil {
		return fmt.Errorf("embedded broker: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	ends, err := admin.ListEndOffsets(ctx)
	if err != nil {
		return fault.New(fault.Environment, codeEmbedded, "the embedded broker does not tell what it has kept: %w", err)
	}
	open, err := openTransactions(ctx, client, ends)
	if err != nil || len(open) == 0 {
		return err
	}
	req := kmsg.NewPtrWriteTxnMarkersRequest()
	for at, epoch := range open {
		m := kmsg.NewWriteTxnMarkersRequestMarker()
		m.ProducerID, m.ProducerEpoch = at.producer, epoch
		t := kmsg.NewWriteTxnMarkersRequestMarkerTopic()
		t.Topic, t.Partitions = at.topic, []int32{at.partition}
		m.Topics = append(m.Topics, t)
		req.Markers = append(req.Markers, m)
	}
	if _, err := req.RequestWith(ctx, client); err != nil {
		return fault.New(fault.Environment, codeEmbedded, "the embedded broker cannot end the transactions that were open: %w", err)
	}
	return nil
}

// openTransactions reads all logs to their ends and returns the transactions without a marker, with their epochs.
func openTransactions(ctx context.Context, client *kgo.Client, ends kadm.ListedOffsets) (map[producerAt]int16, error) {
	starts := make(map[string]map[int32]kgo.Offset)
	left := make(map[string]map[int32]int64)
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err != nil || o.Offset == 0 {
			return
		}
		if starts[o.Topic] == nil {
			starts[o.Topic], left[o.Topic] = make(map[int32]kgo.Offset), make(map[int32]int64)
		}
		starts[o.Topic][o.Partition], left[o.Topic][o.Partition] = kgo.NewOffset().AtStart(), o.Offset
	})
	client.AddConsumePartitions(starts)
	open := make(map[producerAt]int16)
	for unread(left) {
		poll, cancel := context.WithTimeout(ctx, settleQuiet)
		fetches := client.PollFetches(poll)
		cancel()
		if err := ctx.Err(); err != nil {
			return nil, fault.New(fault.Environment, codeEmbedded, "the embedded broker's logs take too long to read: %w", err)
		}
		if fetches.NumRecords() == 0 {
			break
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Topic][r.Partition] {
				delete(left[r.Topic], r.Partition)
			}
			at := producerAt{r.Topic, r.Partition, r.ProducerID}
			switch {
			case r.Attrs.IsControl():
				delete(open, at)
			case r.Attrs.IsTransactional():
				open[at] = r.ProducerEpoch
			}
		})
	}
	return open, nil
}

func unread(left map[string]map[int32]int64) bool {
	for _, partitions := range left {
		if len(partitions) > 0 {
			return true
		}
	}
	return false
}
