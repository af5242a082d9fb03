package fnapi

import (
	"bytes"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// TestStatePages holds the encoding of large answers against the generated one, and says that their data is not copied.
func TestStatePages(t *testing.T) {
	codec := newElementsCodec(sinceStart())
	for _, size := range []int{0, 1, 16<<10 - 1, 16 << 10, 3 << 20} {
		for _, token := range []string{"", "more"} {
			for _, id := range []string{"", "a", string(bytes.Repeat([]byte("i"), 300))} {
				data := bytes.Repeat([]byte{9}, size)
				get := &fnpb.StateGetResponse{Data: data, ContinuationToken: []byte(token)}
				m := &fnpb.StateResponse{Id: id, Response: &fnpb.StateResponse_Get{Get: get}}
				wire, err := codec.Marshal(m)
				if err != nil {
					t.Fatal(err)
				}
				if apart := len(wire) == 2 && &wire[1].ReadOnlyData()[0] == &data[0]; apart != (size >= 16<<10) {
					t.Errorf("%d bytes: %d pieces, apart %v", size, len(wire), apart)
				}
				var back fnpb.StateResponse
				if err := proto.Unmarshal(wire.Materialize(), &back); err != nil {
					t.Fatal(err)
				}
				if len(token) == 0 {
					back.GetGet().ContinuationToken = []byte{}
				}
				if size == 0 {
					back.GetGet().Data = data
				}
				if !proto.Equal(m, &back) {
					t.Errorf("%d bytes, token %q, id %q came back otherwise", size, token, id)
				}
			}
		}
	}
}

// TestStatePagesKeepAll: what the short way does not know goes the long one.
func TestStatePagesKeepAll(t *testing.T) {
	get := func() *fnpb.StateGetResponse { return &fnpb.StateGetResponse{Data: make([]byte, 1<<20)} }
	extra := protowire.AppendVarint(protowire.AppendTag(nil, 77, protowire.VarintType), 1)
	unknown, within := &fnpb.StateResponse{Response: &fnpb.StateResponse_Get{Get: get()}}, get()
	unknown.ProtoReflect().SetUnknown(extra)
	within.ProtoReflect().SetUnknown(extra)
	for name, m := range map[string]*fnpb.StateResponse{
		"an error":         {Error: "no", Response: &fnpb.StateResponse_Get{Get: get()}},
		"a field":          unknown,
		"a field of a get": {Response: &fnpb.StateResponse_Get{Get: within}},
		"an append":        {Id: "a", Response: &fnpb.StateResponse_Append{Append: &fnpb.StateAppendResponse{}}},
	} {
		wire, err := newElementsCodec(sinceStart()).Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		var back fnpb.StateResponse
		if err := proto.Unmarshal(wire.Materialize(), &back); err != nil || !proto.Equal(m, &back) {
			t.Errorf("%s is lost: %v", name, err)
		}
	}
}
