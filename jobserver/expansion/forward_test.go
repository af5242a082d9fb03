package expansion_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"padstone/connector/kafka"
	"padstone/jobserver/expansion"
)

// other is an expansion service of somebody else, which knows one transform.
type other struct {
	jobpb.UnimplementedExpansionServiceServer
	jobpb.UnimplementedArtifactRetrievalServiceServer
	name    string // of its schema transform and its environment
	urn     string // the transform it knows
	failure string // what it says of that one, or ""
	content string // of its artifact
}

func (o *other) artifact(kind string) *pipepb.ArtifactInformation {
	return &pipepb.ArtifactInformation{TypeUrn: "beam:artifact:type:" + kind + ":v1", TypePayload: []byte(o.name)}
}

func (o *other) Expand(_ context.Context, req *jobpb.ExpansionRequest) (*jobpb.ExpansionResponse, error) {
	if got := req.GetTransform().GetSpec().GetUrn(); got != o.urn {
		return &jobpb.ExpansionResponse{Error: "java.lang.UnsupportedOperationException: Unknown urn: " + got}, nil
	}
	if o.failure != "" {
		return &jobpb.ExpansionResponse{Error: o.failure}, nil
	}
	nested := &pipepb.Environment{Urn: "beam:env:external:v1", Dependencies: []*pipepb.ArtifactInformation{o.artifact("nested")}}
	choice, err := proto.Marshal(&pipepb.AnyOfEnvironmentPayload{Environments: []*pipepb.Environment{nested}})
	if err != nil {
		return nil, err
	}
	return &jobpb.ExpansionResponse{
		Components: &pipepb.Components{Environments: map[string]*pipepb.Environment{
			o.name:         {Urn: "beam:env:docker:v1", Dependencies: []*pipepb.ArtifactInformation{o.artifact("deferred")}},
			"any" + o.name: {Urn: "beam:env:anyof:v1", Payload: choice},
		}},
		Transform:    &pipepb.PTransform{UniqueName: "by " + o.name},
		Requirements: []string{"beam:requirement:pardo:stateful:v1"},
	}, nil
}

func (o *other) DiscoverSchemaTransform(
	context.Context, *jobpb.DiscoverSchemaTransformRequest,
) (*jobpb.DiscoverSchemaTransformResponse, error) {
	if o.name == "old" {
		return nil, status.Error(codes.Unimplemented, "what?")
	}
	return &jobpb.DiscoverSchemaTransformResponse{SchemaTransformConfigs: map[string]*jobpb.SchemaTransformConfig{
		"schema:common": {InputPcollectionNames: []string{o.name}}, "schema:" + o.name: {},
	}}, nil
}

func (o *other) ResolveArtifacts(_ context.Context, req *jobpb.ResolveArtifactsRequest) (*jobpb.ResolveArtifactsResponse, error) {
	resp := &jobpb.ResolveArtifactsResponse{}
	for _, a := range req.GetArtifacts() {
		if string(a.GetTypePayload()) != o.name {
			return nil, status.Error(codes.InvalidArgument, o.name+" was asked for what it does not have")
		}
		if a.GetTypeUrn() == "beam:artifact:type:deferred:v1" {
			a = o.artifact("resolved")
		}
		resp.Replacements = append(resp.Replacements, a)
	}
	return resp, nil
}

func (o *other) GetArtifact(req *jobpb.GetArtifactRequest, stream jobpb.ArtifactRetrievalService_GetArtifactServer) error {
	if a := req.GetArtifact(); a.GetTypeUrn() != "beam:artifact:type:resolved:v1" || string(a.GetTypePayload()) != o.name {
		return status.Error(codes.NotFound, "no such artifact")
	}
	for chunk := []byte(o.content); len(chunk) > 0; chunk = chunk[1:] {
		if err := stream.Send(&jobpb.GetArtifactResponse{Data: chunk[:1]}); err != nil {
			return err
		}
	}
	return nil
}

// start serves on a free port and returns the address.
func start(t *testing.T, register func(*grpc.Server)) string {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	register(server)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

func (o *other) start(t *testing.T) string {
	return start(t, func(s *grpc.Server) {
		jobpb.RegisterExpansionServiceServer(s, o)
		jobpb.RegisterArtifactRetrievalServiceServer(s, o)
	})
}

// padstone is our service in front of others, as an SDK sees it.
func padstone(t *testing.T, routes ...string) *grpc.ClientConn {
	t.Helper()
	var parsed []expansion.Route
	for _, text := range routes {
		route, err := expansion.ParseRoute(text)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, route)
	}
	forward, err := expansion.NewForwarder(parsed, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	address := start(t, func(s *grpc.Server) {
		expansion.New(kafka.Registry(zap.NewNop()), forward, zap.NewNop()).Register(s)
	})
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(conn.Close(), forward.Close()); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func request(urn string) *jobpb.ExpansionRequest {
	return &jobpb.ExpansionRequest{Namespace: "n", Transform: &pipepb.PTransform{
		UniqueName: "Mine", Spec: &pipepb.FunctionSpec{Urn: urn},
	}}
}

func ask(t *testing.T, conn *grpc.ClientConn, req *jobpb.ExpansionRequest) *jobpb.ExpansionResponse {
	t.Helper()
	resp, err := jobpb.NewExpansionServiceClient(conn).Expand(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// closed is an address at which nobody listens. It is taken until the test ends, so that no other server of the test gets it.
func closed(t *testing.T) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Close(socket); err != nil {
			t.Error(err)
		}
	})
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port)
}

// TestForwardInOrder: services are asked one after the other, and the answer of the one that knows the transform passes unchanged.
func TestForwardInOrder(t *testing.T) {
	a, b := &other{name: "a", urn: "x:a"}, &other{name: "b", urn: "x:b"}
	conn := padstone(t, closed(t), a.start(t), b.start(t))
	for _, o := range []*other{a, b} {
		want, err := o.Expand(t.Context(), request(o.urn))
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, conn, request(o.urn)); !proto.Equal(got, want) {
			t.Errorf("%s: got %v", o.name, got)
		}
	}
	// What is ours is not passed on.
	if got := ask(t, conn, readRequest(t, readURN, readOptions())); got.GetError() != "" || len(got.GetComponents().GetEnvironments()) > 0 {
		t.Errorf("a transform of ours was passed on: %v", got)
	}
}

// TestForwardRoutes: a prefix decides; one that names a native transform exactly takes it from us.
func TestForwardRoutes(t *testing.T) {
	schemaURN := "beam:expansion:payload:schematransform:v1"
	named, err := proto.Marshal(&pipepb.SchemaTransformPayload{Identifier: "schema:b"})
	if err != nil {
		t.Fatal(err)
	}
	general, long, java, schema := &other{name: "general", urn: "x:y:1"}, &other{name: "long", urn: "x:y:1"},
		&other{name: "java", urn: readURN}, &other{name: "schema", urn: schemaURN}
	conn := padstone(t, general.start(t), "x:="+closed(t), "x:y:="+long.start(t), readURN+"="+java.start(t),
		"beam:transform:org.apache.beam:="+closed(t), "schema:="+schema.start(t))
	byIdentifier := request(schemaURN)
	byIdentifier.Transform.Spec.Payload = named
	for want, req := range map[string]*jobpb.ExpansionRequest{
		"by long": request("x:y:1"), "by java": request(readURN), "by schema": byIdentifier,
	} {
		if got := ask(t, conn, req); got.GetTransform().GetUniqueName() != want {
			t.Errorf("%s: got %v", want, got)
		}
	}
	// A prefix that other native transforms begin with does not take these.
	if got := ask(t, conn, readRequest(t, metadataURN, &payload{})).GetError(); !strings.HasPrefix(got, "kafka-") {
		t.Errorf("an empty read was not refused by us: %s", got)
	}
}

// TestForwardRefusals: what went wrong is said with a code, and by which service.
func TestForwardRefusals(t *testing.T) {
	knows, ignorant, gone := &other{name: "a", urn: "x:a", failure: "Traceback: no such table"}, &other{name: "b"}, closed(t)
	knowsAt, ignorantAt := knows.start(t), ignorant.start(t)
	for _, tc := range []struct {
		routes []string
		want   []string
	}{
		{nil, []string{"unsupported-external-transform: transform \"Mine\"", "--expansion-service"}},
		{[]string{ignorantAt}, []string{"unsupported-external-transform", ignorantAt}},
		{[]string{gone, ignorantAt}, []string{"expansion-service-unreachable", gone, "connection refused"}},
		{[]string{gone, ignorantAt, knowsAt}, []string{"expansion-failed", knowsAt + ": Traceback: no such table"}},
	} {
		got := ask(t, padstone(t, tc.routes...), request("x:a")).GetError()
		for _, want := range tc.want {
			if !strings.Contains(got, want) {
				t.Errorf("%v: %q does not contain %q", tc.routes, got, want)
			}
		}
	}
}

// TestForwardNeverHangs: a service that accepts the connection and says nothing is given up with the client's deadline at the latest. The
// call says so itself, since which of client and server sees the deadline first is not known.
func TestForwardNeverHangs(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	client := jobpb.NewExpansionServiceClient(padstone(t, l.Addr().String()))
	if _, err = client.Expand(ctx, request("x:a")); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("the client got %v", err)
	}

	forward, err := expansion.NewForwarder([]expansion.Route{{Address: l.Addr().String()}}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer forward.Close()
	service := expansion.New(kafka.Registry(zap.NewNop()), forward, zap.NewNop())
	if resp, err := service.Expand(ctx, request("x:a")); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("the server answered %v, %v after the deadline", resp, err)
	}
}

// TestForwardLoop: two servers that name each other give up.
func TestForwardLoop(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	self := l.Addr().String()
	forward, err := expansion.NewForwarder([]expansion.Route{{Address: self}}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	service := expansion.New(kafka.Registry(zap.NewNop()), forward, zap.NewNop())
	service.Register(server)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	resp, err := service.Expand(t.Context(), request("x:a"))
	if err != nil || !strings.Contains(resp.GetError(), "was passed on 4 times") {
		t.Errorf("got %v, %v", resp, err)
	}
	found, err := service.DiscoverSchemaTransform(t.Context(), &jobpb.DiscoverSchemaTransformRequest{})
	if err != nil || !strings.Contains(found.GetError(), "was passed on 4 times") {
		t.Errorf("got %v, %v", found, err)
	}
	err = forward.Close()
	server.Stop()
	if err := errors.Join(err, <-done); err != nil {
		t.Error(err)
	}
}

// TestForwardDiscover merges what the services offer; of one name the first counts, and one that is away is said.
func TestForwardDiscover(t *testing.T) {
	a, b, old := &other{name: "a"}, &other{name: "b"}, &other{name: "old"}
	gone := closed(t)
	conn := padstone(t, old.start(t), a.start(t), gone, b.start(t))
	got, err := jobpb.NewExpansionServiceClient(conn).DiscoverSchemaTransform(t.Context(), &jobpb.DiscoverSchemaTransformRequest{})
	if err != nil {
		t.Fatal(err)
	}
	found := got.GetSchemaTransformConfigs()
	if len(found) != 3 || found["schema:a"] == nil || found["schema:b"] == nil ||
		found["schema:common"].GetInputPcollectionNames()[0] != "a" {
		t.Errorf("got %v", found)
	}
	if !strings.Contains(got.GetError(), "expansion-service-unreachable") || !strings.Contains(got.GetError(), gone) ||
		strings.Count(got.GetError(), "127.0.0.1") != 2 { // once ours, once in the error of the dial
		t.Errorf("error %q", got.GetError())
	}
	none, err := jobpb.NewExpansionServiceClient(padstone(t)).DiscoverSchemaTransform(t.Context(), &jobpb.DiscoverSchemaTransformRequest{})
	if err != nil || none.GetError() != "" || len(none.GetSchemaTransformConfigs()) != 0 {
		t.Errorf("without services: %v, %v", none, err)
	}
}

// TestForwardArtifacts: the SDK asks us for the artifacts of what was passed on; each comes from the service that named it.
func TestForwardArtifacts(t *testing.T) {
	a, b := &other{name: "a", urn: "x:a", content: "of a"}, &other{name: "b", urn: "x:b", content: "of b"}
	conn := padstone(t, a.start(t), b.start(t))
	retrieval := jobpb.NewArtifactRetrievalServiceClient(conn)
	deferred := []*pipepb.ArtifactInformation{b.artifact("deferred"), b.artifact("nested"), a.artifact("deferred")}
	_, err := retrieval.ResolveArtifacts(t.Context(), &jobpb.ResolveArtifactsRequest{Artifacts: deferred})
	if status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "expansion-artifact-unknown") {
		t.Errorf("an artifact that nobody named: %v", err)
	}
	ask(t, conn, request("x:a"))
	ask(t, conn, request("x:b"))
	resolved, err := retrieval.ResolveArtifacts(t.Context(), &jobpb.ResolveArtifactsRequest{Artifacts: deferred})
	if err != nil {
		t.Fatal(err)
	}
	want := &jobpb.ResolveArtifactsResponse{Replacements: []*pipepb.ArtifactInformation{
		b.artifact("resolved"), b.artifact("nested"), a.artifact("resolved"),
	}}
	if !proto.Equal(resolved, want) {
		t.Fatalf("resolved %v", resolved)
	}
	for _, o := range []*other{a, b} {
		if got, err := content(t, retrieval, o.artifact("resolved")); err != nil || got != o.content {
			t.Errorf("%s: %q, %v", o.name, got, err)
		}
	}
	if _, err := content(t, retrieval, a.artifact("nested")); status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "no such artifact") {
		t.Errorf("the service's own refusal became %v", err)
	}
	if _, err := content(t, retrieval, a.artifact("file")); status.Code(err) != codes.NotFound {
		t.Errorf("a file that no service named: %v", err)
	}
}

func content(t *testing.T, c jobpb.ArtifactRetrievalServiceClient, a *pipepb.ArtifactInformation) (string, error) {
	t.Helper()
	stream, err := c.GetArtifact(t.Context(), &jobpb.GetArtifactRequest{Artifact: a})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out.String(), nil
		}
		if err != nil {
			return "", err
		}
		out.Write(chunk.GetData())
	}
}

func TestParseRoute(t *testing.T) {
	for text, want := range map[string]expansion.Route{
		"localhost:1":            {Address: "localhost:1"},
		"a=b:c=[::1]:2":          {Address: "[::1]:2", Prefix: "a=b:c"},
		"beam:transform:=host:3": {Address: "host:3", Prefix: "beam:transform:"},
	} {
		if got, err := expansion.ParseRoute(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "localhost", ":1", "x:0", "=a:1", "urn=", "a:b:c"} {
		if got, err := expansion.ParseRoute(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
