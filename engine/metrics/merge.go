package metrics

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sort"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
)

var errPayload = errors.New("the payload does not follow its type")

// merge combines the payload of a total with that of a bundle. Spec: metrics.proto MonitoringInfoTypeUrns.
func merge(typ string, total, bundle []byte) ([]byte, error) {
	switch typ {
	case typeSum:
		return mergeSum(total, bundle)
	case "beam:metrics:sum_double:v1":
		return mergeSumDouble(total, bundle)
	case "beam:metrics:distribution_int64:v1":
		return mergeDistribution(total, bundle)
	case "beam:metrics:distribution_double:v1":
		return mergeDistributionDouble(total, bundle)
	case "beam:metrics:latest_int64:v1", "beam:metrics:latest_double:v1":
		return mergeLatest(total, bundle)
	case "beam:metrics:set_string:v1":
		return mergeSet(total, bundle)
	case "beam:metrics:bounded_trie:v1":
		return mergeTrie(total, bundle)
	case "beam:metrics:histogram_int64:v1":
		return mergeHistogram(total, bundle)
	default:
		return bundle, nil
	}
}

// appendVarint appends Beam's varint: two's complement, unsigned.
func appendVarint(b []byte, v int64) []byte { return binary.AppendUvarint(b, uint64(v)) }

func varints(b []byte, n int) ([]int64, []byte, error) {
	out := make([]int64, n)
	for i := range out {
		v, w := binary.Uvarint(b)
		if w <= 0 {
			return nil, nil, errPayload
		}
		out[i], b = int64(v), b[w:]
	}
	return out, b, nil
}

func mergeSum(a, b []byte) ([]byte, error) {
	x, _, err := varints(a, 1)
	y, _, err2 := varints(b, 1)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	return appendVarint(nil, x[0]+y[0]), nil
}

func double(b []byte) (float64, error) {
	if len(b) < 8 {
		return 0, errPayload
	}
	return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
}

func mergeSumDouble(a, b []byte) ([]byte, error) {
	x, err := double(a)
	y, err2 := double(b)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	return binary.BigEndian.AppendUint64(nil, math.Float64bits(x+y)), nil
}

// mergeDistribution merges count, sum, min and max.
func mergeDistribution(a, b []byte) ([]byte, error) {
	x, _, err := varints(a, 4)
	y, _, err2 := varints(b, 4)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	switch {
	case x[0] == 0:
		return b, nil
	case y[0] == 0:
		return a, nil
	}
	out := appendVarint(appendVarint(nil, x[0]+y[0]), x[1]+y[1])
	return appendVarint(appendVarint(out, min(x[2], y[2])), max(x[3], y[3])), nil
}

func mergeDistributionDouble(a, b []byte) ([]byte, error) {
	x, ra, err := varints(a, 1)
	y, rb, err2 := varints(b, 1)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	if len(ra) < 24 || len(rb) < 24 {
		return nil, errPayload
	}
	f := func(b []byte, i int) float64 { return math.Float64frombits(binary.BigEndian.Uint64(b[8*i:])) }
	out := appendVarint(nil, x[0]+y[0])
	for _, v := range []float64{f(ra, 0) + f(rb, 0), min(f(ra, 1), f(rb, 1)), max(f(ra, 2), f(rb, 2))} {
		out = binary.BigEndian.AppendUint64(out, math.Float64bits(v))
	}
	return out, nil
}

// mergeLatest keeps the payload with the later timestamp, which stands first as a varint.
func mergeLatest(a, b []byte) ([]byte, error) {
	x, _, err := varints(a, 1)
	y, _, err2 := varints(b, 1)
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	if x[0] > y[0] {
		return a, nil
	}
	return b, nil
}

// mergeSet merges two iterables of strings.
func mergeSet(a, b []byte) ([]byte, error) {
	set := make(map[string]bool)
	for _, p := range [][]byte{a, b} {
		if err := eachString(p, func(s string) { set[s] = true }); err != nil {
			return nil, err
		}
	}
	sorted := make([]string, 0, len(set))
	for s := range set {
		sorted = append(sorted, s)
	}
	sort.Strings(sorted)
	out := binary.BigEndian.AppendUint32(nil, uint32(len(sorted)))
	for _, s := range sorted {
		out = append(binary.AppendUvarint(out, uint64(len(s))), s...)
	}
	return out, nil
}

// eachString walks an iterable of strings: a count and so many strings, or -1 and chunks of both until an empty chunk.
func eachString(b []byte, fn func(string)) error {
	if len(b) < 4 {
		return errPayload
	}
	n := int32(binary.BigEndian.Uint32(b))
	b = b[4:]
	if n >= 0 {
		_, err := someStrings(b, uint64(n), fn)
		return err
	}
	for {
		chunk, w := binary.Uvarint(b)
		if w <= 0 {
			return errPayload
		}
		if chunk == 0 {
			return nil
		}
		var err error
		if b, err = someStrings(b[w:], chunk, fn); err != nil {
			return err
		}
	}
}

// someStrings takes n strings off b and returns the rest.
func someStrings(b []byte, n uint64, fn func(string)) ([]byte, error) {
	for ; n > 0; n-- {
		l, w := binary.Uvarint(b)
		if w <= 0 || l > uint64(len(b)-w) {
			return nil, errPayload
		}
		fn(string(b[w : w+int(l)]))
		b = b[w+int(l):]
	}
	return b, nil
}

// mergeHistogram adds the buckets of two histograms with the same options.
func mergeHistogram(a, b []byte) ([]byte, error) {
	x, y := &pipepb.HistogramValue{}, &pipepb.HistogramValue{}
	if err := errors.Join(proto.Unmarshal(a, x), proto.Unmarshal(b, y)); err != nil {
		return nil, fmt.Errorf("%w: %w", errPayload, err)
	}
	if !proto.Equal(x.GetBucketOptions(), y.GetBucketOptions()) {
		return b, nil
	}
	count := x.GetCount() + y.GetCount()
	x.Count = &count
	for i, n := range y.GetBucketCounts() {
		if i < len(x.BucketCounts) {
			x.BucketCounts[i] += n
		} else {
			x.BucketCounts = append(x.BucketCounts, n)
		}
	}
	return proto.Marshal(x)
}
