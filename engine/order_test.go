package engine_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"padstone/engine/element"
	"padstone/engine/enginetest"
	"padstone/engine/enginetest/reference"
	"padstone/fnapi/fakesdk"
)

// TestPanesInOrder has a bundle of the step behind a grouping wait until one that began after it has run. What leaves is in the order
// of the panes all the same.
func TestPanesInOrder(t *testing.T) {
	r := newRig(t, nil)
	const panes = 3
	first, second := make(chan struct{}), make(chan struct{})
	var once [2]sync.Once
	src := &enginetest.Source{Unbounded: true, Ends: true}
	for i := range panes {
		b := enginetest.Batch{Elements: pairs(fmt.Sprintf("k=%d@%d", i, i)), Watermark: element.Time(i)}
		if i == 1 {
			b.Gate = first
		}
		src.Batches = append(src.Batches, b)
	}
	p := r.Pipeline()
	in := p.WindowInto("windows", p.Read("in", src, textPair), enginetest.Fixed(1000).Early(1))
	out := p.Write("out", p.Map("slow", p.GroupByKey("group", in), "bytes", func(c *fakesdk.Context, e fakesdk.Element) error {
		var pane reference.Pane
		enginetest.PaneInfo(&pane, e.Pane)
		e.Value = enginetest.Text(fmt.Sprint(pane.Index))
		switch pane.Index {
		case 0:
			once[0].Do(func() { close(first) })
			select {
			case <-second:
			case <-r.Context().Done():
				return context.DeadlineExceeded
			}
		case 1:
			once[1].Do(func() { close(second) })
		}
		return c.Emit("", e)
	}))
	r.Run(p, enginetest.Options{"max_bundle_size": 1})
	for i, text := range out.Texts() {
		if n, _, _ := strings.Cut(text, "@"); n != fmt.Sprint(i) {
			t.Errorf("the sink has %q", out.Texts())
			break
		}
	}
	if n := len(out.Texts()); n < panes {
		t.Errorf("%d panes, not %d", n, panes)
	}
}
