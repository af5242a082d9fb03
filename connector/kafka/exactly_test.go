package kafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"padstone/connector"
	"padstone/connector/kafka/config"
	"padstone/internal/fault"
)

// outbox is the engine's side of a sink: what it has to publish, and what it has dropped as published.
type outbox struct {
	f       *fixture
	cfg     *config.Write
	as      connector.Identity
	blocks  []connector.OutboxBlock
	written []string // all values that were ever put into the outbox, in order
}

func (f *fixture) outbox(topic string) *outbox {
	f.sinks++
	return &outbox{f: f, cfg: f.write(topic), as: connector.Identity{Job: topic, Stage: fmt.Sprint(f.sinks)}}
}

// add puts n blocks of one record each into the outbox; what they write says in which order they came.
func (o *outbox) add(n int) {
	for range n {
		value := fmt.Sprintf("%s-%03d", o.as.Stage, len(o.written))
		o.written = append(o.written, value)
		o.blocks = append(o.blocks, o.f.numbered(blocksOf(value)...)...)
	}
}

// open opens the next writer, which nobody closes, as after a crash, and drops what its mark says.
func (o *outbox) open() *writer {
	o.f.t.Helper()
	snk, _ := Registry(o.f.log()).Sink(config.WriteURN)
	opened, mark, err := snk.Open(o.f.ctx, encodeConfig(o.f.t, o.cfg), o.as)
	if err != nil {
		o.f.t.Fatal(err)
	}
	o.blocks = slices.DeleteFunc(o.blocks, func(b connector.OutboxBlock) bool { return b.Seq <= mark })
	w := opened.(*writer)
	o.f.t.Cleanup(func() { crash(w) })
	return w
}

// publish writes the first n blocks and drops them.
func (o *outbox) publish(w *writer, n int) {
	o.f.t.Helper()
	if err := w.Publish(o.f.ctx, o.blocks[:n]); err != nil {
		o.f.t.Fatal(err)
	}
	o.as.Published = o.blocks[n-1].Seq
	o.blocks = o.blocks[n:]
}

// crash drops the connection and ends nothing.
func crash(w *writer) {
	if w.kafka != nil {
		w.kafka.client.Close()
		w.kafka = nil
	}
}

// want compares what readers of committed records see of a topic with what was ever in the outboxes.
func (o *outbox) want(others ...*outbox) {
	o.f.t.Helper()
	want := slices.Clone(o.written)
	for _, other := range others {
		want = append(want, other.written...)
	}
	got := o.f.committed(o.cfg.Topic)
	if len(others) > 0 {
		slices.Sort(got)
		slices.Sort(want)
	}
	if !slices.Equal(got, want) {
		o.f.t.Fatalf("readers of committed records see\n%v, not\n%v", got, want)
	}
}

// committed reads a topic of one partition to its end.
func (f *fixture) committed(topic string) []string {
	f.t.Helper()
	ends, err := f.admin.ListEndOffsets(f.ctx, topic)
	if err != nil {
		f.t.Fatal(err)
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(f.addr), kgo.DisableClientMetrics(), kgo.KeepControlRecords(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(50*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		f.t.Fatal(err)
	}
	defer client.Close()
	end, _ := ends.Lookup(topic, 0)
	var out []string
	for next := int64(0); next < end.Offset; {
		fetches := client.PollFetches(f.ctx)
		if err := fetches.Err(); err != nil {
			f.t.Fatalf("%v; have %v, at %d of %d", err, out, next, end.Offset)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if !r.Attrs.IsControl() {
				out = append(out, string(r.Value))
			}
		})
	}
	return out
}

// half is a transaction that is not ended.
func (o *outbox) half(w *writer) {
	o.f.t.Helper()
	if err := w.kafka.client.BeginTransaction(); err != nil {
		o.f.t.Fatal(err)
	}
	var records []*kgo.Record
	for _, b := range o.blocks {
		var err error
		if records, err = w.decode.block(records, b.Block); err != nil {
			o.f.t.Fatal(err)
		}
	}
	last := o.blocks[len(o.blocks)-1].Seq
	records = append(records, markRecord(w.txn.topic, w.txn.id, markSuffix, fmt.Sprint(last)))
	if err := w.produce(o.f.ctx, records); err != nil {
		o.f.t.Fatal(err)
	}
}

// brokers runs a test on the embedded broker and, where there is one, on a real one. Topics have one partition.
func brokers(t *testing.T, run func(t *testing.T, f *fixture, topic string)) {
	t.Run("embedded", func(t *testing.T) { run(t, newFixture(t, map[string]int32{"out": 1}), "out") })
	t.Run("real", func(t *testing.T) {
		if os.Getenv("PADSTONE_KAFKA") == "" {
			t.Skip("PADSTONE_KAFKA names no broker")
		}
		f, topic := realPartitions(t, 1, nil)
		run(t, f, topic)
	})
}

// TestCrashes ends writers at every step of a transaction; what comes after goes on from the mark.
func TestCrashes(t *testing.T) {
	brokers(t, func(t *testing.T, f *fixture, topic string) {
		o := f.outbox(topic)
		for _, step := range []func(w *writer){
			func(*writer) {}, // before the transaction
			func(w *writer) { // begun
				if err := w.kafka.client.BeginTransaction(); err != nil {
					t.Fatal(err)
				}
			},
			o.half, // produced
			func(w *writer) { // committed, but the outbox does not know
				if err := w.Publish(f.ctx, o.blocks); err != nil {
					t.Fatal(err)
				}
			},
			func(w *writer) { o.publish(w, 2) }, // dropped from the outbox
			func(w *writer) { o.publish(w, 1); o.half(w) },
		} {
			o.add(3)
			w := o.open()
			if len(o.blocks) > 1 {
				o.publish(w, 1)
			}
			o.add(2)
			step(w)
			crash(w)
		}
		w := o.open()
		if len(o.blocks) > 0 {
			o.publish(w, len(o.blocks))
		}
		o.want()
	})
}

// TestUnknownOutcome: a commit that the writer is not told of is not written again, one that did not happen is.
func TestUnknownOutcome(t *testing.T) {
	for name, answer := range map[string]*kerr.Error{"committed": kerr.RequestTimedOut, "not committed": kerr.UnknownServerError} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, map[string]int32{"out": 1})
			o := f.outbox("out")
			w := o.open()
			for range 3 {
				o.add(2)
				f.broker.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, TopLevel: true, Err: answer})
				for tries := 0; ; tries++ {
					err := w.Publish(f.ctx, o.blocks)
					if err == nil {
						break
					}
					if fault.KindOf(err) != fault.Environment || tries == 3 {
						t.Fatal(err)
					}
				}
				o.blocks = nil
			}
			o.want()
		})
	}
	t.Run("connection lost", func(t *testing.T) {
		brokers(t, func(t *testing.T, f *fixture, topic string) {
			o := f.outbox(topic)
			w := o.open()
			o.add(2)
			if err := w.Publish(f.ctx, o.blocks); err != nil {
				t.Fatal(err)
			}
			w.txn.mark = 0 // as if the answer had not come
			w.abandon()
			o.add(1)
			o.publish(w, 3)
			o.want()
		})
	})
}

func wantCode(t *testing.T, err error, kind fault.Kind, code fault.Code) {
	t.Helper()
	if f := fault.Of(err); f == nil || f.Code != code || f.Kind != kind {
		t.Fatalf("got %v, not %s", err, code)
	}
}

// TestZombie: of two writers of one stage the later one stays.
func TestZombie(t *testing.T) {
	brokers(t, func(t *testing.T, f *fixture, topic string) {
		o := f.outbox(topic)
		old := o.open()
		o.add(2)
		o.publish(old, 1)
		late := f.numbered(blocksOf("of the old one")...)
		fresh := o.open()
		wantCode(t, old.Publish(f.ctx, late), fault.Corruption, codeFenced)
		o.publish(fresh, 1) // though the old one has just looked in
		wantCode(t, old.Publish(f.ctx, late), fault.Corruption, codeFenced)
		o.add(1)
		o.publish(fresh, 1)
		o.want()
	})
}

// TestNotAdmitted: a writer whose store is behind what was written gives way, and the one before it goes on.
func TestNotAdmitted(t *testing.T) {
	brokers(t, func(t *testing.T, f *fixture, topic string) {
		o := f.outbox(topic)
		w := o.open()
		o.add(4)
		for range 2 {
			o.publish(w, 1)
			snk, _ := Registry(f.log()).Sink(config.WriteURN)
			behind := o.as
			behind.Admit = func(mark uint64) error {
				if mark != o.as.Published {
					t.Errorf("asked about mark %d, not %d", mark, o.as.Published)
				}
				return fault.New(fault.Corruption, "not-admitted", "no")
			}
			_, _, err := snk.Open(f.ctx, encodeConfig(t, o.cfg), behind)
			wantCode(t, err, fault.Corruption, "not-admitted")
			o.publish(w, 1)
		}
		o.want()
	})
}

// TestZombieInTransaction: the old writer is in the middle of a transaction when the new one opens.
func TestZombieInTransaction(t *testing.T) {
	brokers(t, func(t *testing.T, f *fixture, topic string) {
		o := f.outbox(topic)
		old := o.open()
		o.add(2)
		o.half(old)
		fresh := o.open()
		if err := old.kafka.client.EndTransaction(f.ctx, kgo.TryCommit); !isFenced(err) {
			t.Fatalf("the old writer's commit: %v", err)
		}
		o.publish(fresh, 2)
		o.want()
	})
}

// TestLostEpoch: a writer whose transaction was ended by the broker, as after transaction.timeout.ms, goes on.
func TestLostEpoch(t *testing.T) {
	brokers(t, func(t *testing.T, f *fixture, topic string) {
		o := f.outbox(topic)
		w := o.open()
		for range 2 {
			o.add(2)
			o.publish(w, 1)
			visitor, err := kgo.NewClient(kgo.SeedBrokers(f.addr), kgo.TransactionalID(w.txn.id), kgo.DisableClientMetrics())
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := visitor.ProducerID(f.ctx); err != nil {
				t.Fatal(err)
			}
			visitor.Close()
			o.publish(w, len(o.blocks))
		}
		o.want()
	})
}

// TestTimedOutTransaction: the broker ends a transaction that takes longer than transaction.timeout.ms.
func TestTimedOutTransaction(t *testing.T) {
	f, topic := realPartitions(t, 1, nil)
	o := f.outbox(topic)
	o.cfg.Producer["transaction.timeout.ms"] = "1000"
	w := o.open()
	o.add(2)
	o.half(w)
	for f.ctx.Err() == nil { // the broker looks for timed-out transactions every ten seconds
		found, err := f.admin.DescribeTransactions(f.ctx, w.txn.id)
		if err == nil && !slices.Contains([]string{"Ongoing", "PrepareAbort"}, found[w.txn.id].State) {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	if err := w.kafka.client.EndTransaction(f.ctx, kgo.TryCommit); !isFenced(err) {
		t.Fatalf("the commit of a transaction that has timed out: %v", err)
	}
	w.abandon()
	o.publish(w, 2)
	o.want()
}

// TestOpenTransactionOfAnother: a sink that crashed in a transaction does not hold up another's opening.
func TestOpenTransactionOfAnother(t *testing.T) {
	brokers(t, func(t *testing.T, f *fixture, topic string) {
		a, b := f.outbox(topic), f.outbox(topic)
		a.add(1)
		first, dead := b.open(), a.open()
		a.half(dead)
		crash(dead)
		b.add(2)
		b.publish(first, 1)
		crash(first)
		started := time.Now()
		b.publish(b.open(), 1)
		if d := time.Since(started); d > fenceTimeout/2 {
			t.Fatalf("took %v", d)
		}
		a.publish(a.open(), 1)
		b.want(a)
	})
}

// TestBrokerKilled: the embedded broker ends in a transaction, together with the server, and starts on what is on disk.
func TestBrokerKilled(t *testing.T) {
	dir, image := t.TempDir(), t.TempDir()
	f := newFixture(t, map[string]int32{"out": 1}, keep(dir)...)
	o := f.outbox("out")
	w := o.open()
	o.add(3)
	o.publish(w, 1)
	o.half(w)
	if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	addr := f.broker.Addr()
	crash(w)
	f.broker.Close()
	f.restart(addr, image)
	o.publish(o.open(), 1)
	o.publish(o.open(), 1)
	o.want()
}

// TestSequenceRefused: brokers refuse the sequence number of a record, as clients at times get it wrong. Another client writes it, once.
func TestSequenceRefused(t *testing.T) {
	f := newFixture(t, map[string]int32{"out": 1})
	o := f.outbox("out")
	o.add(3)
	w := o.open()
	o.publish(w, 1)
	refused := 0
	f.broker.Cluster().ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		produce := request.(*kmsg.ProduceRequest)
		response := produce.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range produce.Topics {
			answer := kmsg.ProduceResponseTopic{Topic: topic.Topic, TopicID: topic.TopicID}
			for _, p := range topic.Partitions {
				answer.Partitions = append(answer.Partitions, kmsg.ProduceResponseTopicPartition{
					Partition: p.Partition, ErrorCode: kerr.OutOfOrderSequenceNumber.Code,
				})
			}
			response.Topics = append(response.Topics, answer)
		}
		refused++
		return response, nil, true
	})
	o.publish(w, 1)
	o.publish(w, 1)
	o.want()
	if refused != 1 {
		t.Errorf("%d requests were refused", refused)
	}
}

// TestCoordinatorMoves: a sink that opens while the brokers look for the coordinator of its transactions waits for that.
func TestCoordinatorMoves(t *testing.T) {
	f := newFixture(t, map[string]int32{"out": 1})
	left := 60 // more than the client tries by itself
	f.broker.Cluster().ControlKey(int16(kmsg.EndTxn), func(request kmsg.Request) (kmsg.Response, error, bool) {
		f.broker.Cluster().KeepControl()
		if left--; left < 0 {
			return nil, nil, false
		}
		answer := request.ResponseKind().(*kmsg.EndTxnResponse)
		answer.ErrorCode = kerr.CoordinatorNotAvailable.Code
		return answer, nil, true
	})
	o := f.outbox("out")
	o.cfg.Producer["retry.backoff.ms"], o.cfg.Producer["retry.backoff.max.ms"] = "1", "1"
	o.add(2)
	o.publish(o.open(), 2)
	o.want()
	if left >= 0 {
		t.Fatalf("%d requests were not made", left)
	}
}

// TestLostWhileARecordWaits: brokers refuse one record of a transaction, as from a lost producer, while another one waits for what the client
// has yet to learn of its topic. Nobody waits for that one: it may be for ever.
func TestLostWhileARecordWaits(t *testing.T) {
	f := newFixture(t, map[string]int32{"out": 1})
	o := f.outbox("out")
	lost := make(chan struct{})
	once := sync.OnceFunc(func() { close(lost) })
	snk, _ := Registry(f.log().WithOptions(zap.Hooks(func(e zapcore.Entry) error {
		if strings.HasPrefix(e.Message, "a transaction was lost") {
			once()
		}
		return nil
	}))).Sink(config.WriteURN)
	opened, _, err := snk.Open(f.ctx, encodeConfig(t, o.cfg), o.as)
	if err != nil {
		t.Fatal(err)
	}
	w := opened.(*writer)
	t.Cleanup(func() { crash(w) })
	visitor, err := kgo.NewClient(kgo.SeedBrokers(f.addr), kgo.TransactionalID(w.txn.id), kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer visitor.Close()
	if _, _, err := visitor.ProducerID(f.ctx); err != nil { // the writer's epoch is an old one now
		t.Fatal(err)
	}
	cluster := f.broker.Cluster()
	cluster.ControlKey(int16(kmsg.Metadata), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		cluster.SleepControl(func() {
			select {
			case <-lost:
			case <-f.ctx.Done():
			}
		})
		return nil, nil, false
	})
	o.add(1)
	o.publish(w, 1)
	o.want()
}

// TestMarkLost: what the engine knows to be written is not in the topic of marks.
func TestMarkLost(t *testing.T) {
	f := newFixture(t, map[string]int32{"out": 1})
	o := f.outbox("out")
	o.add(1)
	o.publish(o.open(), 1)
	if _, err := f.admin.DeleteTopic(f.ctx, marksTopicDefault); err != nil {
		t.Fatal(err)
	}
	snk, _ := Registry(f.log()).Sink(config.WriteURN)
	_, _, err := snk.Open(f.ctx, encodeConfig(t, o.cfg), o.as)
	wantCode(t, err, fault.Environment, codeMarkLost)
}

// TestMarksTopic: what is made, and what is refused.
func TestMarksTopic(t *testing.T) {
	f := newFixture(t, map[string]int32{"out": 1})
	o := f.outbox("out")
	o.add(300)
	w := o.open()
	for len(o.blocks) > 0 {
		o.publish(w, 1)
	}
	f.broker.Cluster().Compact()
	o.add(1)
	o.publish(o.open(), 1)
	o.want()
	found, err := f.admin.DescribeTopicConfigs(f.ctx, marksTopicDefault)
	if err != nil || checkMarks(marksTopicDefault, found[0]) != nil {
		t.Fatalf("%v, %v", found, err)
	}
	for name, policy := range map[string]string{"deleting": "delete", "both": "compact,delete"} {
		if _, err := f.admin.CreateTopic(f.ctx, 1, 1, map[string]*string{"cleanup.policy": &policy}, name); err != nil {
			t.Fatal(err)
		}
		o.cfg.Producer["padstone.marks.topic"] = name
		snk, _ := Registry(f.log()).Sink(config.WriteURN)
		_, _, err := snk.Open(f.ctx, encodeConfig(t, o.cfg), o.as)
		wantCode(t, err, fault.Environment, codeMarks)
	}
}

// TestAtLeastOnce needs nothing of the broker beyond topics.
func TestAtLeastOnce(t *testing.T) {
	for _, properties := range []map[string]string{
		{"padstone.delivery": "at-least-once"}, {"acks": "1"}, {"enable.idempotence": "false"}, {"max.in.flight.requests.per.connection": "6"},
	} {
		f := newFixture(t, map[string]int32{"out": 1})
		f.broker.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, TopLevel: true, Count: -1})
		o := f.outbox("out")
		for k, v := range properties {
			o.cfg.Producer[k] = v
		}
		w := o.open()
		o.add(3)
		o.publish(w, 3)
		o.want()
		if topics, err := f.admin.ListTopics(f.ctx); err != nil || topics.Has(marksTopicDefault) {
			t.Fatalf("%v: %v, %v", properties, topics.Names(), err)
		}
		crash(w)
	}
}

// TestNoTransactions: brokers that refuse them are named with what to do.
func TestNoTransactions(t *testing.T) {
	for want, answer := range map[string]*kerr.Error{
		"at-least-once": kerr.TransactionalIDAuthorizationFailed, "transaction.max.timeout.ms": kerr.InvalidTransactionTimeout,
	} {
		f := newFixture(t, map[string]int32{"out": 1})
		f.broker.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.InitProducerID}, TopLevel: true, Err: answer, Count: -1})
		o := f.outbox("out")
		snk, _ := Registry(f.log()).Sink(config.WriteURN)
		_, _, err := snk.Open(f.ctx, encodeConfig(t, o.cfg), o.as)
		if fault.KindOf(err) != fault.Environment || !strings.Contains(fmt.Sprint(err), want) {
			t.Fatalf("got %v", err)
		}
	}
}

// TestGivenUp: a Publish that is cancelled leaves no open transaction behind.
func TestGivenUp(t *testing.T) {
	f := newFixture(t, map[string]int32{"out": 1})
	o := f.outbox("out")
	w := o.open()
	o.add(2)
	ctx, cancel := context.WithCancelCause(f.ctx)
	why := errors.New("enough")
	f.broker.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, TopLevel: true, When: func(kmsg.Request) bool {
		cancel(why)
		return false
	}})
	if err := w.Publish(ctx, o.blocks); err != nil && !errors.Is(err, why) {
		t.Fatal(err)
	}
	if got := f.committed("out"); len(got) != 0 && len(got) != 2 {
		t.Fatalf("got %v", got)
	}
	o.publish(w, 2)
	o.want()
}

// TestMarkReader follows transactions that end in every way.
func TestMarkReader(t *testing.T) {
	record := func(pid int64, epoch int16, suffix, value string) *kgo.Record {
		r := markRecord("marks", "id", suffix, value)
		r.ProducerID, r.ProducerEpoch = pid, epoch
		return r
	}
	m := newMarkReader("id")
	for _, r := range []*kgo.Record{
		record(1, 0, ownerSuffix, "a"), record(1, 0, markSuffix, "1"), // neither ended nor continued
		record(1, 1, ownerSuffix, "b"), record(7, 0, "#other", "x"),
	} {
		if err := m.add(r); err != nil {
			t.Fatal(err)
		}
	}
	if m.open[1].marks != (marks{owner: "b"}) || m.committed != (marks{}) {
		t.Fatalf("open %v, committed %v", m.open, m.committed)
	}
	wantCode(t, m.add(record(1, 1, markSuffix, "x")), fault.Corruption, codeMarks)
}
