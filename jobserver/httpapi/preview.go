package httpapi

import (
	"bytes"
	"io"
	"net/http"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/internal/fault"
	"padstone/internal/option"
)

// previewBytesMax bounds the pipeline in the body of a request.
const previewBytesMax = 256 << 20

// preview answers what a pipeline, the body, would carry over from a savepoint. Pipeline options come in the query.
func (h *handler) preview(w http.ResponseWriter, r *http.Request) {
	pipeline, err := readPipeline(http.MaxBytesReader(w, r.Body, previewBytesMax))
	if err != nil {
		h.fail(w, fault.New(fault.Pipeline, "invalid-request", "the body is no pipeline: %w", err).
			WithHint("send one org.apache.beam.model.pipeline.v1.Pipeline, binary or as JSON"))
		return
	}
	options := &structpb.Struct{}
	for name, values := range r.URL.Query() {
		option.Set(options, name, values[len(values)-1])
	}
	p, err := h.cfg.Server.Preview(r.Context(), pipeline, options)
	if err != nil {
		h.fail(w, err)
		return
	}
	h.writeJSON(w, http.StatusOK, p)
}

// readPipeline reads a pipeline proto in either encoding.
func readPipeline(body io.Reader) (*pipepb.Pipeline, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	pipeline := &pipepb.Pipeline{}
	if err = proto.Unmarshal(data, pipeline); err != nil && bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		err = protojson.Unmarshal(data, pipeline)
	}
	return pipeline, err
}
