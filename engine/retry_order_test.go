package engine_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

// TestReplayFlaky fails on what events of a TestStream bring: the panes are the same, since an event is not cut, and so is the clock.
func TestReplayFlaky(t *testing.T) {
	f := &times{left: map[string]int{"k=2": 1, "k=5": 1, "k=6": 3, "k=7": 2}}
	r := newRig(t, nil)
	p := r.Pipeline()
	in := p.TestStream("events", []string{only},
		enginetest.Elements(only, 1, "k=1", "k=2", "k=3", "k=4", "k=5"),
		enginetest.Elements(only, 2, "k=6"),
		enginetest.Watermark(only, 10),
		enginetest.Elements(only, 11, "k=7"),
	)[only]
	pairs := p.Map("key", in, "kv(bytes,bytes)", func(c *fakesdk.Context, e fakesdk.Element) error {
		if text := enginetest.Show("bytes", e.Value); f.fail(text) {
			return errors.New("no luck with " + text)
		}
		return keyed(c, e)
	})
	panes := p.Write("panes", p.GroupByKey("group", p.WindowInto("windows", pairs, enginetest.Fixed(10).Early(1))))
	r.Run(p, nil)
	inOrder(t, panes, "k=[1 2 3 4 5]@10", "k=[6]@10", "k=[]@10", "k=[7]@20", "k=[]@20")
}

// TestReplayPoison fails for good on an event, which is not cut either.
func TestReplayPoison(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	in := p.TestStream("events", []string{only}, enginetest.Elements(only, 1, "a", "b", "c"))[only]
	p.Write("out", p.Map("check", in, "", failing(func(text string) bool { return text == "b" })))
	failed(t, r.Start(p, nil), "check", "cannot take b", "failed 4 times, with the same input")
}

// sortedPipeline has a time-sorted input of two keys, of which user code fails as it is told.
func sortedPipeline(p *enginetest.Pipeline, fails func(value string) bool) *enginetest.Sink {
	var elements []enginetest.Element
	for i := range 30 { // the last come first
		elements = append(elements, pairs(fmt.Sprintf("a=%d@%d", 29-i, 29-i), fmt.Sprintf("b=%d@%d", 129-i, 29-i))...)
	}
	d := diary{}.parDo()
	fn := d.Fn
	d.Fn = func() fakesdk.DoFn {
		made := fn()
		process := made.Process
		made.Process = func(c *fakesdk.Context, e fakesdk.Element) error {
			key, err := c.Key(e)
			if value := string(fakesdk.Bytes(e.Value[len(key):])); err == nil && fails(value) {
				err = errors.New("no luck with " + value)
			}
			return errors.Join(process(c, e), err)
		}
		return made
	}
	windowed := p.WindowInto("windows", p.Read("in", bounded(elements), "kv(bytes,bytes)"), enginetest.Fixed(1000))
	return p.Write("out", p.ParDo("sorted", windowed, d))
}

// TestFlakySorted: a time-sorted input keeps its order through failures.
func TestFlakySorted(t *testing.T) {
	f := &times{left: map[string]int{"0": 1, "7": 2, "8": 1, "29": 1, "100": 1, "115": 2}}
	r := newRig(t, nil)
	p := r.Pipeline()
	out := sortedPipeline(p, f.fail)
	r.Run(p, nil)
	var a, b []string
	for i := range 30 {
		a, b = append(a, fmt.Sprintf("%d@%d", i, i)), append(b, fmt.Sprintf("%d@%d", 100+i, i))
	}
	want(t, out, "a="+strings.Join(a, " ")+"@1000", "b="+strings.Join(b, " ")+"@1000")
}

// TestPoisonSorted names an element that has waited to be sorted.
func TestPoisonSorted(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	sortedPipeline(p, func(value string) bool { return value == "115" })
	failed(t, r.Start(p, nil), "sorted", "no luck with 115", `("b", "115"), at 1970-01-01T00:00:00.015Z in the window [`)
}
