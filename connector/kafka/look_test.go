package kafka

import (
	"testing"

	"padstone/connector"
	"padstone/connector/kafka/config"
	"padstone/internal/fault"
)

// look asks for the mark of an outbox's sink.
func (o *outbox) look() (connector.Mark, error) {
	snk, _ := Registry(o.f.log()).Sink(config.WriteURN)
	return snk.(connector.Marker).Mark(o.f.ctx, encodeConfig(o.f.t, o.cfg), o.as)
}

// TestMark looks at how far a writer is, which goes on all the same.
func TestMark(t *testing.T) {
	f := newFixture(t, map[string]int32{"out": 1})
	o := f.outbox("out")
	if mark, err := o.look(); err != nil || !mark.Kept || mark.Seq != 0 || mark.Target != `topic "out"` {
		t.Fatalf("before the first writer: %+v, %v", mark, err)
	}
	w := o.open()
	o.add(5)
	o.publish(w, 2)
	seq := o.as.Published
	if mark, err := o.look(); err != nil || mark.Seq != seq || mark.Records != 2 || mark.At.IsZero() {
		t.Fatalf("after two records: %+v, %v", mark, err)
	}
	other := f.outbox("out")
	other.add(1)
	other.publish(other.open(), 1)
	o.publish(w, 3) // the same writer: nobody has taken its place
	w = o.open()    // another one goes on counting
	o.add(1)
	last := o.blocks[0].Seq
	o.publish(w, 1)
	if mark, err := o.look(); err != nil || mark.Seq != last || mark.Records != 6 {
		t.Fatalf("after six records: %+v, %v", mark, err)
	}
	o.want(other)

	o.as.Published = last + 1
	_, err := o.look()
	wantCode(t, err, fault.Environment, codeMarkLost)
	o.cfg.Producer["padstone.delivery"] = "at-least-once"
	if mark, err := o.look(); err != nil || mark.Kept {
		t.Errorf("at-least-once: %+v, %v", mark, err)
	}
}
