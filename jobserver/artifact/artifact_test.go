package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	jobpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/jobmanagement_v1"
	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"padstone/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type env struct {
	t       *testing.T
	store   *Store
	service *Service
	conn    *grpc.ClientConn
}

func newEnv(t *testing.T, change func(*Config)) *env {
	t.Helper()
	store, err := OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Store: store, Log: zap.NewNop()}
	if change != nil {
		change(&cfg)
	}
	e := &env{t: t, store: store, service: NewService(cfg)}
	server := grpc.NewServer()
	e.service.Register(server)
	listener := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	e.conn, err = grpc.NewClient("passthrough:///bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.service.Close()
		if err := e.conn.Close(); err != nil {
			t.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return e
}

// client answers a staging stream as Beam's clients do: resolve is what it makes of unresolved artifacts, files what it sends by path.
type client struct {
	files   map[string]string
	resolve func([]*pipepb.ArtifactInformation) []*pipepb.ArtifactInformation
	silent  bool // never answers, like a client whose handler threw
	asked   []string
	headers metadata.MD // nil when the stream ended without any
}

func (c *client) stage(e *env, token Token) error {
	ctx, cancel := context.WithTimeout(e.t.Context(), time.Minute)
	defer cancel()
	stream, err := jobpb.NewArtifactStagingServiceClient(e.conn).ReverseArtifactRetrievalService(ctx)
	if err != nil {
		return err
	}
	// Send fails with EOF when the server has ended the stream already; the reason is Recv's.
	send := func(answer *jobpb.ArtifactResponseWrapper) error {
		if err := stream.Send(answer); !errors.Is(err, io.EOF) {
			return err
		}
		return nil
	}
	if err := send(&jobpb.ArtifactResponseWrapper{StagingToken: string(token)}); err != nil {
		return err
	}
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			c.headers, err = stream.Header()
			return err
		}
		if err != nil {
			return err
		}
		if c.silent {
			continue
		}
		if r := request.GetResolveArtifact(); r != nil {
			replacements := r.GetArtifacts()
			if c.resolve != nil {
				replacements = c.resolve(replacements)
			}
			if err := send(&jobpb.ArtifactResponseWrapper{Response: &jobpb.ArtifactResponseWrapper_ResolveArtifactResponse{
				ResolveArtifactResponse: &jobpb.ResolveArtifactsResponse{Replacements: replacements},
			}}); err != nil {
				return err
			}
			continue
		}
		payload := &pipepb.ArtifactFilePayload{}
		if err := proto.Unmarshal(request.GetGetArtifact().GetArtifact().GetTypePayload(), payload); err != nil {
			return err
		}
		c.asked = append(c.asked, payload.GetPath())
		rest := []byte(c.files[payload.GetPath()])
		for len(rest) > 0 {
			n := min(len(rest), 1000)
			if err := send(chunk(rest[:n], false)); err != nil {
				return err
			}
			rest = rest[n:]
		}
		if err := send(chunk(nil, true)); err != nil {
			return err
		}
	}
}

func chunk(data []byte, last bool) *jobpb.ArtifactResponseWrapper {
	return &jobpb.ArtifactResponseWrapper{IsLast: last, Response: &jobpb.ArtifactResponseWrapper_GetArtifactResponse{
		GetArtifactResponse: &jobpb.GetArtifactResponse{Data: data},
	}}
}

func (e *env) fetch(artifact *pipepb.ArtifactInformation) (string, int, error) {
	retrieval := jobpb.NewArtifactRetrievalServiceClient(e.conn)
	if _, err := retrieval.ResolveArtifacts(e.t.Context(), &jobpb.ResolveArtifactsRequest{
		Artifacts: []*pipepb.ArtifactInformation{artifact},
	}); err != nil {
		return "", 0, err
	}
	stream, err := retrieval.GetArtifact(e.t.Context(), &jobpb.GetArtifactRequest{Artifact: artifact})
	if err != nil {
		return "", 0, err
	}
	var all []byte
	for chunks := 0; ; chunks++ {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return string(all), chunks, nil
		}
		if err != nil {
			return "", 0, err
		}
		all = append(all, response.GetData()...)
	}
}

func (e *env) contents() (paths []string) {
	e.t.Helper()
	paths, err := filepath.Glob(filepath.Join(e.store.contentDir(), "*", "*"))
	if err != nil {
		e.t.Fatal(err)
	}
	tmp, err := os.ReadDir(e.store.tmpDir())
	if err != nil || len(tmp) > 0 {
		e.t.Fatalf("left in tmp: %v, %v", tmp, err)
	}
	return paths
}

func sha(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func dep(typ URN, payload proto.Message, staged string) *pipepb.ArtifactInformation {
	raw, err := proto.Marshal(payload)
	if err != nil {
		panic(err)
	}
	role, err := proto.Marshal(&pipepb.ArtifactStagingToRolePayload{StagedName: staged})
	if err != nil {
		panic(err)
	}
	return &pipepb.ArtifactInformation{
		TypeUrn: string(typ), TypePayload: raw, RoleUrn: string(roleStagingTo()), RolePayload: role,
	}
}

func file(path, digest, staged string) *pipepb.ArtifactInformation {
	return dep(typeFile(), &pipepb.ArtifactFilePayload{Path: path, Sha256: digest}, staged)
}

func one(deps ...*pipepb.ArtifactInformation) map[EnvironmentID]Dependencies {
	return map[EnvironmentID]Dependencies{"env": deps}
}

func TestURNs(t *testing.T) {
	for want, got := range map[URN]URN{
		"beam:artifact:type:file:v1": typeFile(), "beam:artifact:type:url:v1": typeURL(), "beam:artifact:type:embedded:v1": typeEmbedded(),
		"beam:artifact:type:pypi:v1": typePyPI(), "beam:artifact:type:maven:v1": typeMaven(),
		"beam:artifact:role:staging_to:v1": roleStagingTo(),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestStageAndRetrieve stages every type over gRPC and fetches the result as a harness does.
func TestStageAndRetrieve(t *testing.T) {
	e := newEnv(t, nil)
	big := strings.Repeat("0123456789abcdef", chunkBytes/8) // 4 MiB: several chunks both ways
	c := &client{files: map[string]string{"/home/me/big.jar": big, "/x/empty": "", "/etc/conf": "conf"}}
	deferred := &pipepb.ArtifactInformation{TypeUrn: "beam:artifact:type:deferred:v1", TypePayload: []byte("key")}
	c.resolve = func(in []*pipepb.ArtifactInformation) (out []*pipepb.ArtifactInformation) {
		for _, d := range in {
			if d.GetTypeUrn() == deferred.GetTypeUrn() {
				out = append(out, file("/home/me/big.jar", sha(big), "dep.jar"), file("/x/empty", "", "empty"))
			} else {
				out = append(out, d)
			}
		}
		return out
	}
	e.service.Open("tok", map[EnvironmentID]Dependencies{
		"a": {deferred, dep(typeEmbedded(), &pipepb.EmbeddedFilePayload{Data: []byte("inline")}, "inline.txt")},
		"b": {file("/home/me/big.jar", sha(big), "dep.jar"), dep(typeURL(), &pipepb.ArtifactUrlPayload{Url: "file:///etc/conf"}, "conf")},
	})
	if _, err := e.service.Staged("tok"); fault.Of(err) == nil || fault.Of(err).Code != "artifacts-not-staged" {
		t.Fatalf("before staging: %v", err)
	}
	if err := c.stage(e, "tok"); err != nil {
		t.Fatal(err)
	}
	staged, err := e.service.Staged("tok")
	if err != nil {
		t.Fatal(err)
	}
	want := map[EnvironmentID][]string{"a": {big, "", "inline"}, "b": {big, "conf"}}
	for id, contents := range want {
		if len(staged.Dependencies[id]) != len(contents) {
			t.Fatalf("environment %s: %v", id, staged.Dependencies[id])
		}
		for i, content := range contents {
			artifact := staged.Dependencies[id][i]
			got, chunks, err := e.fetch(artifact)
			if err != nil || got != content {
				t.Errorf("environment %s, artifact %d: %d bytes, %v; want %d bytes", id, i, len(got), err, len(content))
			}
			if wantChunks := max(1, (len(content)+chunkBytes-1)/chunkBytes); chunks != wantChunks {
				t.Errorf("%d bytes came in %d chunks, want %d", len(content), chunks, wantChunks)
			}
			payload := &pipepb.ArtifactFilePayload{}
			if err := proto.Unmarshal(artifact.GetTypePayload(), payload); err != nil || payload.GetSha256() != sha(content) {
				t.Errorf("payload %v, %v", payload, err)
			}
			if artifact.GetRoleUrn() != string(roleStagingTo()) || len(artifact.GetRolePayload()) == 0 {
				t.Errorf("role lost: %v", artifact)
			}
		}
	}
	if len(c.asked) != 3 {
		t.Errorf("asked for %v, want each file once", c.asked)
	}
	if got := len(e.contents()); got != 4 {
		t.Errorf("%d contents stored, want 4", got)
	}
	// A client that lost the end of its stream stages again and is told that all is there.
	if err := c.stage(e, "tok"); err != nil || len(c.asked) != 3 {
		t.Errorf("second staging: %v, asked %v", err, c.asked)
	}
	e.service.Adopt("tok")
	if err := e.store.Release(staged.Digests...); err != nil {
		t.Fatal(err)
	}
	if left := e.contents(); len(left) != 0 {
		t.Errorf("left after the last release: %v", left)
	}
	_, _, err = e.fetch(staged.Dependencies["a"][0])
	if status.Code(err) != codes.NotFound {
		t.Errorf("fetch of what is gone: %v", err)
	}
}

// TestNothingToStage: the server ends the stream, and has sent headers: TypeScript's client waits for both.
func TestNothingToStage(t *testing.T) {
	e := newEnv(t, nil)
	e.service.Open("tok", nil)
	if _, err := e.service.Staged("tok"); err != nil {
		t.Errorf("a session without dependencies: %v", err)
	}
	c := &client{}
	if err := c.stage(e, "tok"); err != nil || c.headers == nil {
		t.Errorf("%v, headers %v", err, c.headers)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		deps   map[EnvironmentID]Dependencies
		client client
		limits func(*Config)
		code   fault.Code
		grpc   codes.Code
	}{
		"http":        {deps: one(dep(typeURL(), &pipepb.ArtifactUrlPayload{Url: "https://h/a"}, "a")), code: "unsupported-artifact-url"},
		"remote file": {deps: one(dep(typeURL(), &pipepb.ArtifactUrlPayload{Url: "file://host/a"}, "a")), code: "unsupported-artifact-url"},
		"pypi":        {deps: one(dep(typePyPI(), &pipepb.PyPIPayload{ArtifactId: "x"}, "a")), code: "unsupported-artifact-type"},
		"traversal":   {deps: one(file("/a", "", "../../etc/passwd")), code: "artifact-name-invalid"},
		"absolute":    {deps: one(file("/a", "", "/etc/passwd")), code: "artifact-name-invalid"},
		"garbage": {
			deps: one(&pipepb.ArtifactInformation{TypeUrn: string(typeFile()), TypePayload: []byte{0xff}}), code: "artifact-invalid",
		},
		"bad digest":  {deps: one(file("/a", "../../../x", "a")), code: "artifact-invalid"},
		"other bytes": {deps: one(file("/a", sha("other"), "a")), code: "artifact-digest-mismatch"},
		"too large": {
			deps: one(file("/a", "", "a")), limits: func(c *Config) { c.FileBytesMax = 10 }, code: "artifact-too-large",
			grpc: codes.ResourceExhausted,
		},
		"too many": {
			deps: one(file("/a", "", "a"), file("/a", "", "b")), limits: func(c *Config) { c.FilesMax = 1 }, code: "artifact-too-large",
			grpc: codes.ResourceExhausted,
		},
		"silent": {
			deps: one(file("/a", "", "a")), limits: func(c *Config) { c.ClientIdleMax = 50 * time.Millisecond },
			client: client{silent: true}, code: "staging-client-silent", grpc: codes.DeadlineExceeded,
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnv(t, c.limits)
			e.service.Open("tok", c.deps)
			c.client.files = map[string]string{"/a": strings.Repeat("a", 3000)}
			err := c.client.stage(e, "tok")
			want := c.grpc
			if want == codes.OK {
				want = codes.InvalidArgument
			}
			if status.Code(err) != want || !strings.Contains(err.Error(), string(c.code)) {
				t.Errorf("got %v, want %s %s", err, want, c.code)
			}
			if left := e.contents(); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	pipeline := func(d *pipepb.ArtifactInformation) *pipepb.Pipeline {
		return &pipepb.Pipeline{Components: &pipepb.Components{
			Environments: map[string]*pipepb.Environment{"py": {Dependencies: []*pipepb.ArtifactInformation{d}}},
		}}
	}
	// PyPI is not refused yet: the client may resolve it.
	for _, ok := range []*pipepb.ArtifactInformation{file("/a", "", "a"), dep(typePyPI(), &pipepb.PyPIPayload{}, "a")} {
		if err := Validate(pipeline(ok)); err != nil {
			t.Error(err)
		}
	}
	err := Validate(pipeline(dep(typeURL(), &pipepb.ArtifactUrlPayload{Url: "http://h/a"}, "a")))
	if f := fault.Of(err); f == nil || f.Code != "unsupported-artifact-url" || !strings.Contains(f.Msg, "environment py") {
		t.Errorf("got %v", err)
	}
	for _, p := range []*pipepb.Pipeline{nil, {}} {
		if err := Validate(p); err != nil {
			t.Error(err)
		}
	}
}

func TestTokens(t *testing.T) {
	e := newEnv(t, nil)
	if err := (&client{}).stage(e, "nobody's"); status.Code(err) != codes.NotFound {
		t.Errorf("unknown token: %v", err)
	}
	e.service.Open("tok", one(file("/a", "", "a")))
	if _, done, err := e.service.begin("tok"); done || err != nil {
		t.Fatal(done, err)
	}
	if err := (&client{}).stage(e, "tok"); status.Code(err) != codes.Aborted {
		t.Errorf("second stream: %v", err)
	}
	// The preparation is forgotten while its stream stages: what the stream stored is released at its end.
	w, err := e.store.Create()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	e.service.Discard("tok")
	if err := e.service.end("tok", nil, []Digest{digest}, nil); err == nil || len(e.contents()) != 0 {
		t.Errorf("end of a discarded session: %v, %v", err, e.contents())
	}
}

// TestConcurrentSessions stages the same content from many clients at once; one copy is kept, until the last job lets go.
func TestConcurrentSessions(t *testing.T) {
	e := newEnv(t, nil)
	const n = 16
	var group sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
		token := Token(strings.Repeat("t", i+1))
		e.service.Open(token, one(file("/a", sha("same"), "a")))
		group.Go(func() {
			errs <- (&client{files: map[string]string{"/a": "same"}}).stage(e, token)
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	for i := range n {
		if got := len(e.contents()); got != 1 {
			t.Fatalf("%d contents after %d discards", got, i)
		}
		e.service.Discard(Token(strings.Repeat("t", i+1)))
	}
	if left := e.contents(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestCloseEndsStreams(t *testing.T) {
	e := newEnv(t, nil)
	e.service.Open("tok", one(file("/a", "", "a")))
	stream, err := jobpb.NewArtifactStagingServiceClient(e.conn).ReverseArtifactRetrievalService(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&jobpb.ArtifactResponseWrapper{StagingToken: "tok"}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil { // the resolve request: the handler waits for its answer
		t.Fatal(err)
	}
	e.service.Close()
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("open stream: %v", err)
	}
	if err := (&client{}).stage(e, "tok"); status.Code(err) != codes.Unavailable {
		t.Errorf("new stream: %v", err)
	}
}

func TestStoreSweepAndCorruption(t *testing.T) {
	e := newEnv(t, nil)
	put := func(text string) Digest {
		w, err := e.store.Create()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(w, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		d, err := w.Commit()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	kept, gone := put("kept"), put("gone")
	if err := os.WriteFile(filepath.Join(e.store.tmpDir(), "half"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	reopened, err := OpenStore(e.store.dir)
	if err != nil {
		t.Fatal(err)
	}
	e.store = reopened
	reopened.Retain(kept)
	if removed, err := reopened.Sweep(); err != nil || removed != 1 {
		t.Fatal(removed, err)
	}
	if _, _, err := reopened.Open(gone); fault.Of(err) == nil {
		t.Errorf("swept content: %v", err)
	}
	if got := e.contents(); len(got) != 1 {
		t.Errorf("contents: %v", got)
	}
	path := reopened.Path(kept)
	if err := errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("Kept"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.fetch(file("x", string(kept), "x")); status.Code(err) != codes.DataLoss {
		t.Errorf("corrupt content: %v", err)
	}
	// The server's own files are never opened by a name that a caller sends.
	if _, _, err := e.fetch(file("/etc/passwd", "", "x")); err == nil || !bytes.Contains([]byte(err.Error()), []byte("artifact-not-found")) {
		t.Errorf("fetch by path: %v", err)
	}
	if _, _, err := e.fetch(dep("beam:artifact:type:x:v1", &structpb.Struct{}, "x")); status.Code(err) != codes.InvalidArgument {
		t.Errorf("fetch of another type: %v", err)
	}
}
