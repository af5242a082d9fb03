package engine_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"padstone/engine"
	"padstone/engine/element"
	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// newRig is a rig whose test must leave no goroutine behind.
func newRig(t *testing.T, change func(c *engine.Config)) *enginetest.Rig {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) }) // cleanups run last in, first out: after the rig's own
	return enginetest.New(t, change)
}

// texts are elements of coder bytes, one a millisecond from 0 on.
func texts(words ...string) []enginetest.Element {
	out := make([]enginetest.Element, len(words))
	for i, w := range words {
		out[i] = enginetest.Element{At: element.Time(i), Value: enginetest.Text(w)}
	}
	return out
}

// pairs are elements of coder kv(bytes,bytes), written key=value@ms.
func pairs(specs ...string) []enginetest.Element {
	out := make([]enginetest.Element, len(specs))
	for i, s := range specs {
		var at int64
		kv, ms, _ := strings.Cut(s, "@")
		fmt.Sscan(ms, &at)
		k, v, _ := strings.Cut(kv, "=")
		out[i] = enginetest.Element{At: element.Time(at), Value: enginetest.Pair(k, v)}
	}
	return out
}

// bounded is a bounded source of the elements in one batch.
func bounded(elements []enginetest.Element) *enginetest.Source {
	return &enginetest.Source{Batches: []enginetest.Batch{{Elements: elements}}}
}

// want compares what a sink has taken, whatever the order.
func want(t *testing.T, s *enginetest.Sink, texts ...string) {
	t.Helper()
	got := s.Texts()
	slices.Sort(got)
	slices.Sort(texts)
	if !slices.Equal(got, texts) {
		t.Errorf("the sink has\n%q, not\n%q", got, texts)
	}
}

// oneByOne makes of each word KV(word, 1).
func oneByOne(c *fakesdk.Context, e fakesdk.Element) error {
	e.Value = enginetest.KV(e.Value, enginetest.Int(1))
	return c.Emit("", e)
}

// splitWords emits the words of each element.
func splitWords(c *fakesdk.Context, e fakesdk.Element) error {
	for _, w := range strings.Fields(string(fakesdk.Bytes(e.Value))) {
		out := e
		out.Value = enginetest.Text(w)
		if err := c.Emit("", out); err != nil {
			return err
		}
	}
	return nil
}

// What tests share with package enginetest.
const textPair = enginetest.TextPair

var (
	pairOf, each  = enginetest.PairOf, enginetest.Each
	windowOf      = enginetest.WindowOf
	keyed, ranges = enginetest.Keyed, enginetest.Restrictions
	difference    = enginetest.Difference
)
