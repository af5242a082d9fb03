package engine_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"

	"padstone/connector"
	"padstone/connector/kafka"
	"padstone/connector/kafka/broker"
	"padstone/connector/kafka/config"
	"padstone/engine"
	"padstone/engine/coder"
	"padstone/engine/enginetest"
	"padstone/engine/plan"
	"padstone/engine/store/storetest"
	"padstone/fnapi/fakesdk"
)

// mortal is the Kafka sink in a server that can be killed: from then on nothing leaves it, and the disk is what it was then.
type mortal struct {
	connector.Registry
	kafka connector.Registry
	rng   *rand.Rand
	fs    *storetest.Disk
	taken chan death
	src   *enginetest.Source
	mu    sync.Mutex
	left  int  // publications until the end; 0: it does not come
	dead  bool // after it
}

// death is the disk, and what the source had been told to be durable, at the end.
type death struct {
	fs      *storetest.Disk
	durable int
}

// Sink implements connector.Registry.
func (m *mortal) Sink(urn connector.URN) (connector.Sink, bool) {
	if s, ok := m.kafka.Sink(urn); ok {
		return mortalSink{s, m}, true
	}
	return m.Registry.Sink(urn)
}

// Source implements connector.Registry.
func (m *mortal) Source(urn connector.URN) (connector.Source, bool) { return m.Registry.Source(urn) }

type mortalSink struct {
	connector.Sink
	m *mortal
}

func (s mortalSink) Open(ctx context.Context, config []byte, as connector.Identity) (connector.Writer, uint64, error) {
	w, mark, err := s.Sink.Open(ctx, config, as)
	return mortalWriter{w, s.m}, mark, err
}

type mortalWriter struct {
	connector.Writer
	m *mortal
}

// Publish dies before it has written, or after, before anybody learns of it.
func (w mortalWriter) Publish(ctx context.Context, blocks []connector.OutboxBlock) error {
	m := w.m
	m.mu.Lock()
	dies := false
	if m.left > 0 {
		m.left--
		dies = m.left == 0
	}
	after := m.rng.IntN(2) == 0
	m.dead = m.dead || dies
	dead := m.dead
	m.mu.Unlock()
	var err error
	if !dead || dies && after {
		err = w.Writer.Publish(ctx, blocks)
	}
	if dies {
		percent := []int{0, 50, 100}[m.rng.IntN(3)]
		at := death{durable: m.src.Durable()}
		at.fs = m.fs.Crashed(percent, m.rng)
		m.taken <- at
	}
	if dead {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return err
}

// live lets it run on a disk, until as many publications.
func (m *mortal) live(fs *storetest.Disk, until int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fs, m.left, m.dead = fs, until, false
}

// readCommitted reads n elements of the topic, and what comes within a moment after them.
func readCommitted(t *testing.T, r *enginetest.Rig, b *broker.Broker, n int) []string {
	t.Helper()
	src, _ := kafka.Registry(zap.NewNop()).Source(config.ReadURN)
	cfg, err := json.Marshal(&config.Read{
		Topics: []string{"out"}, Key: config.Bytes, Value: config.Bytes, Policy: config.CreateTime,
		Consumer: map[string]string{
			"bootstrap.servers": b.Addr(), "auto.offset.reset": "earliest", "isolation.level": "read_committed", "fetch.max.wait.ms": "50",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := src.Open(r.Context(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	program, err := coder.Compile("kv(nullable(lp),nullable(lp))")
	if err != nil {
		t.Fatal(err)
	}
	scanner := coder.NewScanner(program, plan.GlobalWindow)
	var out []string
	ctx := r.Context()
	for quiet := 0; quiet < 3; quiet++ {
		batch, err := reader.Poll(ctx, 1000, 1<<20, 100*time.Millisecond)
		if err != nil {
			t.Fatalf("%v; have %d of %d", err, len(out), n)
		}
		if err := scanner.Scan(batch.Data, func(e *coder.Elem) error { out = append(out, string(e.Value)); return nil }); err != nil {
			t.Fatal(err)
		}
		if batch.Count > 0 || len(out) < n && ctx.Err() == nil {
			quiet = -1
		}
	}
	return out
}

// toKafka is a job from a source in memory to the topic "out". It returns what the topic must hold.
func toKafka(t *testing.T, r *enginetest.Rig, b *broker.Broker, batches int) (p *enginetest.Pipeline, src *enginetest.Source, want []string) {
	t.Helper()
	src = &enginetest.Source{}
	src.OnPoll = func(context.Context, int) error { time.Sleep(2 * time.Millisecond); return nil } // or one bundle would take all
	for i := range batches {
		pair := fmt.Sprintf("k%d=n%d", i%5, i)
		src.Batches = append(src.Batches, enginetest.Batch{Elements: pairs(pair + "@1")})
		want = append(want, string(binary.AppendUvarint([]byte{1}, 2))+pair[:2]+
			string(binary.AppendUvarint([]byte{1}, uint64(len(pair)-3)))+pair[3:])
	}
	operand := config.Operand{Format: config.Bytes, Coder: config.BytesCoder}
	cfg, err := json.Marshal(&config.Write{
		Topic: "out", Key: operand, Value: operand, Window: plan.GlobalWindow,
		Producer: map[string]string{"bootstrap.servers": b.Addr()},
	})
	if err != nil {
		t.Fatal(err)
	}
	p = r.Pipeline()
	pass := p.Map("pass", p.Read("in", src, "kv(bytes,bytes)"), "",
		func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) })
	p.WriteNative("out", string(config.WriteURN), cfg, pass)
	slices.Sort(want)
	return p, src, want
}

// TestExactlyOnceKafka kills the server at random publications, with what was not synced lost in part or whole. What readers of
// committed records see in the end is what an uninterrupted run writes: every element once.
func TestExactlyOnceKafka(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			b, err := broker.Start("localhost:0", map[string]int32{"out": 1})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { b.Close() })
			rng := rand.New(rand.NewPCG(seed, 3))
			m := &mortal{kafka: kafka.Registry(zap.NewNop()), rng: rng, taken: make(chan death, 1)}
			fs := storetest.NewDisk()
			r := newRig(t, func(c *engine.Config) {
				m.Registry, c.Natives, c.FS = c.Natives, m, fs
			})
			p, src, wanted := toKafka(t, r, b, 100)
			m.src = src
			kills := int(seed) * 2 // none with the first: the uninterrupted run
			next := func() int {
				if kills--; kills < 0 {
					return 0
				}
				return 1 + rng.IntN(4)
			}
			m.live(fs, next())
			j := r.Start(p, nil)
			ended := make(chan error, 1)
			for wait := true; wait; {
				go func(j *enginetest.Job) { ended <- j.Wait(r.Context()) }(j)
				select {
				case at := <-m.taken:
					r.Crash(j, at.fs)
					<-ended
					m.src.Rewind(at.durable)
					m.live(at.fs, next())
					j = r.Recover(j)
				case err := <-ended:
					if err != nil {
						t.Fatal(err)
					}
					wait = false
				}
			}
			j.End(jobpb.JobState_DONE)
			got := readCommitted(t, r, b, len(wanted))
			slices.Sort(got)
			if !slices.Equal(got, wanted) {
				t.Fatalf("%d records, not %d:\n%q\n%q", len(got), len(wanted), got, wanted)
			}
		})
	}
}

// TestOutboxBehind: a store that is older than what was written to Kafka does not go on.
func TestOutboxBehind(t *testing.T) {
	r := newRig(t, func(c *engine.Config) { c.Natives = ahead{c.Natives} })
	p := r.Pipeline()
	p.Write("out", p.Read("in", bounded(texts("a", "b")), "bytes"))
	failed(t, r.Start(p, nil), "outbox-behind", "out")
}

// ahead is a registry whose sinks say that far more has been written than there is.
type ahead struct{ connector.Registry }

func (a ahead) Sink(urn connector.URN) (connector.Sink, bool) {
	s, ok := a.Registry.Sink(urn)
	return aheadSink{s}, ok
}

type aheadSink struct{ connector.Sink }

func (s aheadSink) Open(ctx context.Context, config []byte, as connector.Identity) (connector.Writer, uint64, error) {
	w, _, err := s.Sink.Open(ctx, config, as)
	return w, 1 << 40, err
}
