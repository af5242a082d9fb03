package metrics

import (
	"fmt"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
)

func histogram(t *testing.T, counts ...int64) []byte {
	t.Helper()
	total := int64(0)
	for _, n := range counts {
		total += n
	}
	b, err := proto.Marshal(&pipepb.HistogramValue{Count: &total, BucketCounts: counts})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func gauge(at, value int64) []byte { return appendVarint(appendVarint(nil, at), value) }

func distribution(values ...int64) (b []byte) {
	for _, v := range values {
		b = appendVarint(b, v)
	}
	return b
}

// TestEveryKindAddsUp adds two bundles' metrics of every kind, and a third bundle's that is in flight.
func TestEveryKindAddsUp(t *testing.T) {
	for _, test := range []struct {
		kind                 string
		first, second, third []byte
		committed, attempted []byte
	}{
		{"sum_int64", appendVarint(nil, 3), appendVarint(nil, 4), appendVarint(nil, 5), appendVarint(nil, 7), appendVarint(nil, 12)},
		{"sum_double", be64(nil, 0.5), be64(nil, 1), be64(nil, 2), be64(nil, 1.5), be64(nil, 3.5)},
		{
			"distribution_int64", distribution(2, 10, 4, 6), distribution(1, 1, 1, 1), distribution(1, 20, 20, 20),
			distribution(3, 11, 1, 6), distribution(4, 31, 1, 20),
		},
		{"latest_int64", gauge(100, 1), gauge(90, 2), gauge(110, 3), gauge(100, 1), gauge(110, 3)},
		{
			"set_string", []byte("\x00\x00\x00\x01\x01b"), []byte("\xff\xff\xff\xff\x01\x01a\x00"), []byte("\x00\x00\x00\x01\x01c"),
			[]byte("\x00\x00\x00\x02\x01a\x01b"), []byte("\x00\x00\x00\x03\x01a\x01b\x01c"),
		},
		{"histogram_int64", histogram(t, 1, 0), histogram(t, 1, 2), histogram(t, 0, 0, 1), histogram(t, 2, 2), histogram(t, 2, 2, 1)},
	} {
		totals := New(map[string]string{"t": "Step"})
		add := func(to *Totals, payload []byte) {
			infos := []*pipepb.MonitoringInfo{{
				Urn: "beam:metric:user:" + test.kind + ":v1", Type: "beam:metrics:" + test.kind + ":v1", Payload: payload,
				Labels: map[string]string{labelTransform: "t", labelName: "n"},
			}}
			if _, err := to.Add(infos); err != nil {
				t.Fatalf("%s: %v", test.kind, err)
			}
		}
		add(totals, test.first)
		add(totals, test.second)
		attempted := totals.Clone()
		add(attempted, test.third)
		for _, c := range []struct {
			name string
			of   *Totals
			want []byte
		}{{"attempted", attempted, test.attempted}, {"committed", totals, test.committed}} {
			infos := c.of.Snapshot()
			if len(infos) != 1 || infos[0].GetLabels()[labelTransform] != "Step" {
				t.Fatalf("%s: %v", test.kind, infos)
			}
			if got := fmt.Sprintf("%x", infos[0].GetPayload()); got != fmt.Sprintf("%x", c.want) {
				t.Errorf("%s: %s is %s, not %x", test.kind, c.name, got, c.want)
			}
		}
	}
}
