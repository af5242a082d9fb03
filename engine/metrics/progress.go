package metrics

import (
	"encoding/binary"
	"math"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
)

// URNs of what a bundle tells of its progress. Spec: metrics.proto MonitoringInfoSpecs DATA_CHANNEL_READ_INDEX, WORK_REMAINING and
// WORK_COMPLETED, ELEMENT_COUNT.
const (
	elementCount  = "beam:metric:element_count:v1"
	readIndex     = "beam:metric:data_channel:read_index:v1"
	workRemaining = "beam:metric:ptransform_progress:remaining:v1"
	workCompleted = "beam:metric:ptransform_progress:completed:v1"
)

// ReadIndex returns the place of the element that a data source is at, -1 before the first.
func ReadIndex(infos []*pipepb.MonitoringInfo, transform string) (int64, bool) {
	for _, info := range infos {
		if info.GetUrn() != readIndex || info.GetLabels()[labelTransform] != transform {
			continue
		}
		if v, _, err := varints(info.GetPayload(), 1); err == nil {
			return v[0], true
		}
	}
	return 0, false
}

// ElementCount returns how many elements the SDK has counted in a PCollection.
func ElementCount(infos []*pipepb.MonitoringInfo, collection string) (int64, bool) {
	for _, info := range infos {
		if !IsElementCount(info, collection) {
			continue
		}
		if v, _, err := varints(info.GetPayload(), 1); err == nil {
			return v[0], true
		}
	}
	return 0, false
}

// IsElementCount says whether a metric is the number of elements of a PCollection.
func IsElementCount(info *pipepb.MonitoringInfo, collection string) bool {
	return info.GetUrn() == elementCount && info.GetLabels()[labelCollection] == collection
}

// Completed returns the share of its current restriction that a splittable DoFn has processed; 0 when it does not tell.
func Completed(infos []*pipepb.MonitoringInfo, transform string) float64 {
	var completed, remaining float64
	for _, info := range infos {
		if info.GetLabels()[labelTransform] != transform {
			continue
		}
		switch info.GetUrn() {
		case workCompleted:
			completed += sumDoubles(info.GetPayload())
		case workRemaining:
			remaining += sumDoubles(info.GetPayload())
		}
	}
	if share := completed / (completed + remaining); share > 0 && share <= 1 {
		return share
	}
	return 0
}

// sumDoubles adds up an iterable of doubles. Spec: metrics.proto MonitoringInfoTypeUrns PROGRESS_TYPE.
func sumDoubles(b []byte) (sum float64) {
	if len(b) < 4 {
		return 0
	}
	n, chunked := int64(int32(binary.BigEndian.Uint32(b))), false
	b = b[4:]
	if n < 0 { // chunks, until an empty one
		n, chunked = 0, true
	}
	for {
		if chunked {
			chunk, w := binary.Uvarint(b)
			if w <= 0 || chunk == 0 {
				return sum
			}
			n, b = int64(chunk), b[w:]
		}
		for ; n > 0 && len(b) >= 8; n-- {
			sum += math.Float64frombits(binary.BigEndian.Uint64(b))
			b = b[8:]
		}
		if !chunked || n > 0 {
			return sum
		}
	}
}
