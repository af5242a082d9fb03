package translatetest

import (
	"fmt"
	"os"
	"path/filepath"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"google.golang.org/protobuf/proto"
)

// Corpus reads the pipelines in a directory, as an SDK has submitted them.
func Corpus(dir string) ([]*pipepb.Pipeline, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.pb"))
	if err != nil || len(files) == 0 {
		return nil, fmt.Errorf("no pipelines in %s: %w", dir, err)
	}
	var all []*pipepb.Pipeline
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		p := &pipepb.Pipeline{}
		if err := proto.Unmarshal(body, p); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, p)
	}
	return all, nil
}
