package jobserver_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/beam/sdks/v2/go/pkg/beam/artifact"
	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/runners/universal/runnerlib"
	"github.com/apache/beam/sdks/v2/go/pkg/beam/util/grpcx"
	"google.golang.org/protobuf/proto"

	"padstone/jobserver/jobtest"
)

// TestGoClient submits with the functions of Beam's Go runner and fetches with those of Beam's boot programs.
func TestGoClient(t *testing.T) {
	exec := &jobtest.Executor{Script: func(r *jobtest.Run) {
		r.State(running)
		if strings.HasPrefix(r.Spec.Name, "failing") {
			r.Message(jobpb.JobMessage_JOB_MESSAGE_ERROR, "the reason")
			r.State(failed)
			return
		}
		r.State(done)
	}}
	endpoint := serve(t, exec)
	binary := filepath.Join(t.TempDir(), "worker")
	if err := os.WriteFile(binary, []byte(strings.Repeat("worker", 1<<20)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"working": "", "failing": "the reason"} {
		id := submitFromGo(t, endpoint, binary, name)
		conn, err := grpcx.Dial(t.Context(), endpoint, dialFor)
		if err != nil {
			t.Fatal(err)
		}
		err = runnerlib.WaitForCompletion(t.Context(), jobpb.NewJobServiceClient(conn), id)
		if (err == nil) != (want == "") || (err != nil && !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", name, err)
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	spec := exec.Runs()[0].Spec
	dest := t.TempDir()
	deps := spec.Pipeline.GetComponents().GetEnvironments()["go"].GetDependencies()
	fetched, err := artifact.Materialize(t.Context(), endpoint, deps, spec.RetrievalToken, dest)
	if err != nil || len(fetched) != 1 {
		t.Fatal(fetched, err)
	}
	path, _ := artifact.MustExtractFilePayload(fetched[0])
	if info, err := os.Stat(filepath.Join(dest, path)); err != nil || info.Size() != 6<<20 {
		t.Errorf("fetched %s: %v, %v", path, info, err)
	}
	// An environment without dependencies must not send a boot program to the legacy service.
	if fetched, err := artifact.Materialize(t.Context(), endpoint, nil, spec.RetrievalToken, dest); err != nil || len(fetched) != 0 {
		t.Errorf("nothing to fetch: %v, %v", fetched, err)
	}
}

const dialFor = 10 * time.Second

func submitFromGo(t *testing.T, endpoint, binary, name string) string {
	t.Helper()
	payload, err := proto.Marshal(&pipepb.ArtifactFilePayload{Path: binary})
	if err != nil {
		t.Fatal(err)
	}
	p := pipeline()
	p.Components.Environments = map[string]*pipepb.Environment{"go": {Dependencies: []*pipepb.ArtifactInformation{
		{TypeUrn: "beam:artifact:type:file:v1", TypePayload: payload, RoleUrn: artifact.URNGoWorkerBinaryRole},
	}}}
	ctx := context.WithoutCancel(t.Context())
	conn, err := grpcx.Dial(ctx, endpoint, dialFor)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}()
	jobs := jobpb.NewJobServiceClient(conn)
	prepared, err := jobs.Prepare(ctx, &jobpb.PrepareJobRequest{Pipeline: p, JobName: name})
	if err != nil {
		t.Fatal(err)
	}
	token, err := runnerlib.Stage(ctx, prepared.GetPreparationId(), prepared.GetArtifactStagingEndpoint().GetUrl(), binary,
		prepared.GetStagingSessionToken())
	if err != nil {
		t.Fatal(err)
	}
	id, err := runnerlib.Submit(ctx, jobs, prepared.GetPreparationId(), token)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
