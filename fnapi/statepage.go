package fnapi

import (
	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of an answer to a get. Spec: beam_fn_api.proto StateResponse, StateGetResponse.
const (
	stateID  protowire.Number = 1    // of StateResponse
	stateGet protowire.Number = 1000 // of StateResponse

	getToken protowire.Number = 1
	getData  protowire.Number = 2
)

// marshalPage encodes an answer with data in two pieces, of which the second is the data itself: a page is a megabyte, or as long as a
// value is.
func marshalPage(m *fnpb.StateResponse) mem.BufferSlice {
	get := m.GetGet()
	inner := make([]byte, 0, 16+len(get.GetContinuationToken()))
	if token := get.GetContinuationToken(); len(token) > 0 {
		inner = protowire.AppendBytes(protowire.AppendTag(inner, getToken, protowire.BytesType), token)
	}
	inner = protowire.AppendVarint(protowire.AppendTag(inner, getData, protowire.BytesType), uint64(len(get.GetData())))
	out := appendString(make([]byte, 0, 24+len(m.GetId())+len(inner)), stateID, m.GetId())
	out = protowire.AppendTag(out, stateGet, protowire.BytesType)
	out = protowire.AppendVarint(out, uint64(len(inner)+len(get.GetData())))
	return mem.BufferSlice{mem.SliceBuffer(append(out, inner...)), mem.SliceBuffer(get.GetData())}
}

// isPage says whether marshalPage encodes the answer: it leaves out what it does not know.
func isPage(m *fnpb.StateResponse) bool {
	const worthIt = 16 << 10
	get := m.GetGet()
	return len(get.GetData()) >= worthIt && m.GetError() == "" &&
		len(m.ProtoReflect().GetUnknown())+len(get.ProtoReflect().GetUnknown()) == 0
}
