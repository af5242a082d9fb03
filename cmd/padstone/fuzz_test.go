package main

import (
	"context"
	"errors"
	"io"
	"math/rand"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"padstone/engine/coder/codertest"
	"padstone/translate/translatetest"
)

// coded is how the text of a refusal begins: with a code.
var coded = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+: `)

// submitMax is how long a call may take, whatever is submitted.
const submitMax = 3 * time.Minute

// FuzzSubmit submits broken pipelines to a whole server. Each is refused with a code, or runs until it is cancelled.
func FuzzSubmit(f *testing.F) {
	corpus, err := translatetest.Corpus(filepath.Join("..", "..", "testdata", "pipelines"))
	if err != nil {
		f.Fatal(err)
	}
	conn := serveFor(f)
	r := rand.New(rand.NewSource(1))
	for i := range 2 * len(corpus) {
		choices := make([]byte, 60)
		r.Read(choices)
		f.Add(uint8(i), uint8(i%3), choices)
	}
	f.Fuzz(func(t *testing.T, index, count uint8, choices []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), submitMax)
		defer cancel()
		src := codertest.NewSource(choices)
		run := src.Pick(4) == 0
		m := &translatetest.Mutator{Intn: src.Pick, Others: corpus}
		p := m.Mutate(corpus[int(index)%len(corpus)], int(count%16))
		prepared, err := jobpb.NewJobServiceClient(conn).Prepare(ctx, &jobpb.PrepareJobRequest{JobName: "fuzz", Pipeline: p})
		if err != nil {
			refused(t, err)
			return
		}
		if run {
			runAndCancel(ctx, t, conn, prepared)
		}
	})
}

// refused checks that an error is the client's, and has a code.
func refused(t *testing.T, err error) {
	t.Helper()
	s := status.Convert(err)
	theirs := []codes.Code{codes.InvalidArgument, codes.Unimplemented, codes.FailedPrecondition}
	if !slices.Contains(theirs, s.Code()) || !coded.MatchString(s.Message()) {
		t.Fatalf("%s: %.2000s", s.Code(), s.Message())
	}
}

// serveFor runs a server for as long as the test.
func serveFor(tb testing.TB) *grpc.ClientConn {
	tb.Helper()
	cfg := defaultConfig(noEnv)
	cfg.DataDir = filepath.Join(tb.TempDir(), "data")
	cfg.JobEndpoint, cfg.ArtifactEndpoint, cfg.ExpansionEndpoint, cfg.HTTP = "localhost:0", "localhost:0", "localhost:0", "localhost:0"
	cfg.WorkerPoolWaitSeconds = 3600 // there are none: jobs are to be run nevertheless
	ctx, stop := context.WithCancel(context.Background())
	ready, ended := make(chan Endpoints, 1), make(chan error, 1)
	go func() { ended <- serve(ctx, cfg, zap.NewNop(), func(e Endpoints) { ready <- e }) }()
	var endpoints Endpoints
	select {
	case endpoints = <-ready:
	case err := <-ended:
		tb.Fatal(err)
	}
	conn, err := grpc.NewClient(endpoints.Job, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = conn.Close()
		stop()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	return conn
}

// runAndCancel runs a prepared job, whose harness never comes, and ends it.
func runAndCancel(ctx context.Context, t *testing.T, conn *grpc.ClientConn, prepared *jobpb.PrepareJobResponse) {
	t.Helper()
	if err := stageNothing(ctx, prepared); err != nil {
		refused(t, err)
		return
	}
	jobs := jobpb.NewJobServiceClient(conn)
	job, err := jobs.Run(ctx, &jobpb.RunJobRequest{PreparationId: prepared.GetPreparationId()})
	if err != nil {
		t.Fatal(err)
	}
	states, err := jobs.GetStateStream(ctx, &jobpb.GetJobStateRequest{JobId: job.GetJobId()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jobs.Cancel(ctx, &jobpb.CancelJobRequest{JobId: job.GetJobId()}); err != nil {
		t.Fatal(err)
	}
	for {
		s, err := states.Recv()
		if err != nil {
			t.Fatalf("job %s has no end: %v", job.GetJobId(), err)
		}
		switch s.GetState() {
		case jobpb.JobState_CANCELLED, jobpb.JobState_DONE, jobpb.JobState_FAILED:
			return
		}
	}
}

// stageNothing is a client whose files are all empty.
func stageNothing(ctx context.Context, prepared *jobpb.PrepareJobResponse) error {
	conn, err := grpc.NewClient(prepared.GetArtifactStagingEndpoint().GetUrl(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	stream, err := jobpb.NewArtifactStagingServiceClient(conn).ReverseArtifactRetrievalService(ctx)
	if err != nil {
		return err
	}
	answer := &jobpb.ArtifactResponseWrapper{StagingToken: prepared.GetStagingSessionToken()}
	for {
		if err := stream.Send(answer); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		answer = answerTo(request)
	}
}

func answerTo(request *jobpb.ArtifactRequestWrapper) *jobpb.ArtifactResponseWrapper {
	if resolve := request.GetResolveArtifact(); resolve != nil {
		return &jobpb.ArtifactResponseWrapper{Response: &jobpb.ArtifactResponseWrapper_ResolveArtifactResponse{
			ResolveArtifactResponse: &jobpb.ResolveArtifactsResponse{Replacements: resolve.GetArtifacts()},
		}}
	}
	return &jobpb.ArtifactResponseWrapper{IsLast: true, Response: &jobpb.ArtifactResponseWrapper_GetArtifactResponse{
		GetArtifactResponse: &jobpb.GetArtifactResponse{},
	}}
}
