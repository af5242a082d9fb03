package engine

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/bundle"
)

// told is what a harness tells of a bundle: the place of the element, what it has put out, and how long a transform has taken.
func told(index, out, millis int64) []*pipepb.MonitoringInfo {
	info := func(urn, label, value string, n int64) *pipepb.MonitoringInfo {
		return &pipepb.MonitoringInfo{Urn: urn, Labels: map[string]string{label: value}, Payload: binary.AppendUvarint(nil, uint64(n))}
	}
	return []*pipepb.MonitoringInfo{
		info("beam:metric:data_channel:read_index:v1", "PTRANSFORM", "read", index),
		info("beam:metric:element_count:v1", "PCOLLECTION", "out", out),
		info("beam:metric:pardo_execution_time:process_bundle_msecs:v1", "PTRANSFORM", "fn", millis),
		info("beam:metric:pardo_execution_time:finish_bundle_msecs:v1", "PTRANSFORM", "other", 1),
	}
}

// TestLull tells a bundle second by second, and when its user is to hear of it.
func TestLull(t *testing.T) {
	const limit = 10 * time.Second
	f := &bundle.Flight{}
	for _, c := range []struct {
		name    string
		tells   func(l *lull, second int) // nothing: the harness says nothing
		idle    bool
		refuses bool
		want    string // of the 25th second
	}{
		{"an element takes long", func(l *lull, s int) {
			f.Heard.Add(1)
			l.progressed(f, told(3, 7, int64(s)*1000), time.Duration(s)*time.Second)
		}, false, false, `in step "fn" for at least 00m24s without outputting or completing in state process`},
		{"it puts out", func(l *lull, s int) {
			f.Heard.Add(1)
			l.progressed(f, told(3, int64(s/4), int64(s)*1000), time.Duration(s)*time.Second)
		}, false, false, ""},
		{"it reads on", func(l *lull, s int) {
			f.Heard.Add(1)
			l.progressed(f, told(int64(s/4), 0, int64(s)*1000), time.Duration(s)*time.Second)
		}, false, false, ""},
		{"no user code runs: it waits for its input", func(l *lull, s int) {
			f.Heard.Add(1)
			l.progressed(f, told(3, 7, 900), time.Duration(s)*time.Second)
		}, true, false, ""},
		{"it is being made", func(*lull, int) { f.Heard.Add(1) }, false, false, "being made and set up"},
		{"it is being made, and nothing is known of one that waits", func(*lull, int) { f.Heard.Add(1) }, true, false, ""},
		{"the harness says nothing", func(*lull, int) {}, false, false, "its harness says nothing of it"},
		{"it never does", func(*lull, int) {}, false, true, ""},
	} {
		f = &bundle.Flight{Worker: "w", Instruction: "i"}
		f.Refused.Store(c.refuses)
		l := &lull{}
		var first int
		var o *ongoing
		for s := 0; s <= 25; s++ {
			if s > 0 {
				c.tells(l, s)
			}
			if o = l.look(f, time.Duration(s)*time.Second, limit, c.idle); o != nil && first == 0 {
				first = s
			}
		}
		got := ""
		if o != nil {
			got = o.words(o.step, f, 0)
		}
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) || c.want != "" && (first < 10 || first > 11) {
			t.Errorf("%s: %q from second %d on, want %q", c.name, got, first, c.want)
		}
		l.due = 2 * limit * 2
		if o := l.look(f, 26*time.Second, limit, c.idle); o != nil {
			t.Errorf("%s: told again at once", c.name)
		}
		// The bundle begins anew, or is over.
		again := &bundle.Flight{}
		if o := l.look(again, 30*time.Second, limit, false); o != nil {
			t.Errorf("%s: a bundle that begins is %+v", c.name, o)
		}
		if o := l.look(nil, 90*time.Second, limit, false); o != nil {
			t.Errorf("%s: no bundle is %+v", c.name, o)
		}
	}
}

func TestMinutes(t *testing.T) {
	for d, want := range map[time.Duration]string{
		300 * time.Second: "05m00s", 61500 * time.Millisecond: "01m01s", 2*time.Hour + 3*time.Second: "2h00m03s",
	} {
		if got := minutes(d); got != want {
			t.Errorf("%v: %q", d, got)
		}
	}
}
