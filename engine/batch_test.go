package engine_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"

	"padstone/engine/enginetest"
	"padstone/fnapi/fakesdk"
)

func TestWordCount(t *testing.T) {
	for _, style := range []string{"plain", "embedded", "short ids", "two processes"} {
		t.Run(style, func(t *testing.T) {
			r := newRig(t, nil)
			r.Harnesses.Embed, r.Harnesses.ShortIDs = style == "embedded", style == "short ids"
			p := r.Pipeline()
			lines := p.Read("lines", bounded(texts("to be or", "not to be", "", "be")), "bytes")
			words := p.Map("words", lines, "", splitWords)
			ones := p.Map("ones", words, "kv(bytes,varint)", oneByOne)
			out := p.Write("out", p.Sum("count", ones))
			o := enginetest.Options{}
			if style == "two processes" {
				o["sdk_worker_parallelism"] = 2
			}
			j := r.Run(p, o)
			want(t, out, "to=2", "be=3", "or=1", "not=1")
			if n := j.Counter("words", "elements"); n != 4 {
				t.Errorf("words has counted %d elements, not 4", n)
			}
			states := fmt.Sprint(j.States())
			if states != "[STARTING RUNNING DONE]" {
				t.Errorf("states %s", states)
			}
		})
	}
}

func TestFixedWindows(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	in := p.Read("in", bounded(pairs("a=1@0", "a=2@9", "a=3@10", "b=4@25")), "kv(bytes,bytes)")
	out := p.Write("out", p.GroupByKey("group", p.WindowInto("windows", in, enginetest.Fixed(10))))
	r.Run(p, nil)
	want(t, out, "a=[1 2]@10", "a=[3]@20", "b=[4]@30")
}

func TestSessions(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	in := p.Read("in", bounded(pairs("a=1@0", "a=2@9", "a=3@19", "b=4@25")), "kv(bytes,bytes)")
	out := p.Write("out", p.GroupByKey("group", p.WindowInto("windows", in, enginetest.Sessions(10))))
	r.Run(p, nil)
	want(t, out, "a=[1 2]@19", "a=[3]@29", "b=[4]@35")
}

// TestImpulseOnly has no source but Impulse, and two groups one after the other.
func TestImpulseOnly(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	made := p.Map("make", p.Impulse("impulse"), "kv(bytes,bytes)", func(c *fakesdk.Context, e fakesdk.Element) error {
		for i := range 5 {
			e.Value = enginetest.Pair(fmt.Sprint("k", i%2), fmt.Sprint(i))
			if err := c.Emit("", e); err != nil {
				return err
			}
		}
		return nil
	})
	grouped := p.Map("sizes", p.GroupByKey("group", made), "kv(bytes,bytes)", func(c *fakesdk.Context, e fakesdk.Element) error {
		key, values, err := enginetest.Values("bytes", e.Value)
		if err != nil {
			return err
		}
		e.Value = enginetest.KV(enginetest.Text("all"), enginetest.Text(fmt.Sprint(enginetest.Show("bytes", key), len(values))))
		return c.Emit("", e)
	})
	out := p.Write("out", p.GroupByKey("regroup", grouped))
	r.Run(p, nil)
	want(t, out, "all=[k03 k12]")
}

// TestFlatten joins two sources before a group, and one collection with itself.
func TestFlatten(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	a := p.Read("a", bounded(pairs("x=1@0")), "kv(bytes,bytes)")
	b := p.Read("b", bounded(pairs("x=2@0", "y=3@0")), "kv(bytes,bytes)")
	out := p.Write("out", p.GroupByKey("group", p.Flatten("both", a, b)))
	r.Run(p, nil)
	want(t, out, "x=[1 2]", "y=[3]")
}

// TestEmpty has no elements anywhere: every stage must see the end all the same.
func TestEmpty(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	in := p.Read("in", bounded(nil), "kv(bytes,bytes)")
	dropped := p.Map("drop", p.Read("some", bounded(pairs("a=1@0")), "kv(bytes,bytes)"), "",
		func(*fakesdk.Context, fakesdk.Element) error { return nil })
	out := p.Write("out", p.GroupByKey("group", p.Flatten("both", in, dropped)))
	r.Run(p, nil)
	want(t, out)
}

// TestNoTransforms: a pipeline without transforms is done at once.
func TestNoTransforms(t *testing.T) {
	r := newRig(t, nil)
	r.Run(r.Pipeline(), nil)
}

// TestNoOutput ends in a ParDo that writes nowhere; another output has no consumer.
func TestNoOutput(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	outs := p.ParDos("split", p.Read("in", bounded(texts("a", "b")), "bytes"), enginetest.ParDo{
		Outs: map[string]string{"main": "bytes", "rest": "bytes"},
		Fn: func() fakesdk.DoFn {
			return fakesdk.DoFn{Process: func(c *fakesdk.Context, e fakesdk.Element) error {
				if enginetest.Show("bytes", e.Value) == "a" {
					return c.Emit("main", e)
				}
				return c.Emit("rest", e)
			}}
		},
	})
	p.ParDos("last", outs["main"], enginetest.ParDo{
		Outs: map[string]string{}, Fn: func() fakesdk.DoFn {
			return fakesdk.DoFn{Process: func(c *fakesdk.Context, _ fakesdk.Element) error { c.Count("seen", 1); return nil }}
		},
	})
	if n := r.Run(p, nil).Counter("last", "seen"); n != 1 {
		t.Errorf("%d elements arrived, not 1", n)
	}
}

// TestLargeValues moves elements of 5 MB through a harness, a group and a harness.
func TestLargeValues(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	const size, count = 5 << 20, 6
	var elements []enginetest.Element
	for i := range count {
		big := bytes.Repeat([]byte{byte('a' + i)}, size)
		elements = append(elements, enginetest.At(0, enginetest.KV(enginetest.Text(fmt.Sprint(i%2)), fakesdk.Nested(big)))...)
	}
	pass := p.Map("pass", p.Read("in", bounded(elements), "kv(bytes,bytes)"), "",
		func(c *fakesdk.Context, e fakesdk.Element) error { return c.Emit("", e) })
	sizes := p.Map("sizes", p.GroupByKey("group", pass), "bytes", func(c *fakesdk.Context, e fakesdk.Element) error {
		_, values, err := enginetest.Values("bytes", e.Value)
		if err != nil {
			return err
		}
		for _, v := range values {
			raw := fakesdk.Bytes(v)
			out := e
			out.Value = enginetest.Text(fmt.Sprint(string(raw[0]), len(raw), bytes.Count(raw, raw[:1])))
			if err := c.Emit("", out); err != nil {
				return err
			}
		}
		return nil
	})
	out := p.Write("out", sizes)
	r.Run(p, nil)
	var texts []string
	for i := range count {
		texts = append(texts, fmt.Sprint(string(rune('a'+i)), size, size))
	}
	want(t, out, texts...)
}

// TestManyElements counts 100 000 elements in bundles of many sizes.
func TestManyElements(t *testing.T) {
	for _, bundle := range []any{nil, 7000} {
		t.Run(fmt.Sprint(bundle), func(t *testing.T) {
			r := newRig(t, nil)
			p := r.Pipeline()
			const perBatch, batches = 10_000, 10
			src := &enginetest.Source{}
			for b := range batches {
				var elements []enginetest.Element
				for i := range perBatch {
					elements = append(elements, enginetest.At(0, enginetest.Text(fmt.Sprint("k", (b*perBatch+i)%100)))...)
				}
				src.Batches = append(src.Batches, enginetest.Batch{Elements: elements})
			}
			ones := p.Map("ones", p.Read("in", src, "bytes"), "kv(bytes,varint)", oneByOne)
			out := p.Write("out", p.Sum("count", ones))
			j := r.Run(p, enginetest.Options{"max_bundle_size": bundle})
			if n := j.Counter("ones", "elements"); n != perBatch*batches {
				t.Errorf("%d elements", n)
			}
			for _, text := range out.Texts() {
				if !strings.HasSuffix(text, "=1000") {
					t.Errorf("%s, not 1000", text)
				}
			}
			if n := len(out.Texts()); n != 100 {
				t.Errorf("%d keys, not 100", n)
			}
		})
	}
}

// TestManyJobs runs one job after the other on one engine; newRig sees to the goroutines.
func TestManyJobs(t *testing.T) {
	r := newRig(t, nil)
	for i := range 30 {
		p := r.Pipeline()
		name := fmt.Sprint("words", i)
		words := p.Map(name, p.Read("in", bounded(texts("a b", "c")), "bytes"), "", splitWords)
		out := p.Write("out", words)
		r.Run(p, nil)
		want(t, out, "a", "b", "c")
		if n := r.Harnesses.Open(); n != 0 {
			t.Fatalf("after job %d: %d pools open", i, n)
		}
	}
}

// TestDescribeAfterEnd asks a job that has ended for its picture.
func TestDescribeAfterEnd(t *testing.T) {
	r := newRig(t, nil)
	p := r.Pipeline()
	p.Write("out", p.Map("words", p.Read("in", bounded(texts("a b", "c")), "bytes"), "", splitWords))
	j := r.Run(p, nil)
	d, err := j.Describe(r.Context())
	if err != nil {
		t.Fatal(err)
	}
	var in, out int64
	for _, s := range d.Stages {
		if s.OutputWatermark != "+inf" || s.BacklogElements != 0 || s.BundlesInFlight != 0 || s.Waiting != "" {
			t.Errorf("stage %+v is not at its end", s)
		}
		in, out = in+s.ElementsIn, out+s.ElementsOut
	}
	if in != 5 || out != 8 || j.Last() != jobpb.JobState_DONE {
		t.Errorf("%d elements in and %d out of all stages, not 5 and 8", in, out)
	}
}
