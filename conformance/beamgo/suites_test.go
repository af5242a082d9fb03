package beamgo

// The packages whose tests are run. `go mod tidy` takes what these imports need, tests included, into go.sum.
import (
	_ "github.com/apache/beam/sdks/v2/go/examples/large_wordcount"
	_ "github.com/apache/beam/sdks/v2/go/examples/snippets"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/io/avroio"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/io/fileio"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/io/textio"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/testing/passert"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/transforms/batch"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/transforms/filter"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/transforms/periodic"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/transforms/stats"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/transforms/top"
	_ "github.com/apache/beam/sdks/v2/go/pkg/beam/x/debug"
	_ "github.com/apache/beam/sdks/v2/go/test/integration/primitives"
	_ "github.com/apache/beam/sdks/v2/go/test/integration/synthetic"
	_ "github.com/apache/beam/sdks/v2/go/test/integration/wordcount"
	_ "github.com/apache/beam/sdks/v2/go/test/regression"
)
