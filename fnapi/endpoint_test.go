package fnapi_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	fnpb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/fnexecution_v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"padstone/fnapi"
	"padstone/fnapi/fakesdk"
	"padstone/internal/fault"
)

// elsewhere returns an endpoint of the server on another address, which only Linux has without being told.
func elsewhere(t *testing.T, r *rig) string {
	t.Helper()
	const other = "127.0.0.2"
	endpoint, err := r.server.ListenOn(other, false)
	if err != nil {
		t.Skipf("no second loopback address: %v", err)
	}
	if again, err := r.server.ListenOn(other, false); err != nil || again != endpoint {
		t.Fatalf("listened on twice: %s and %s, %v", endpoint, again, err)
	}
	return endpoint
}

// endpoints lists every endpoint that a descriptor names.
func endpoints(t *testing.T, d *fnpb.ProcessBundleDescriptor) (all []string) {
	t.Helper()
	all = append(all, d.GetStateApiServiceDescriptor().GetUrl(), d.GetTimerApiServiceDescriptor().GetUrl())
	for _, id := range []string{fakesdk.SourceID, fakesdk.SinkID} {
		port := &fnpb.RemoteGrpcPort{}
		if err := proto.Unmarshal(d.GetTransforms()[id].GetSpec().GetPayload(), port); err != nil {
			t.Fatal(err)
		}
		all = append(all, port.GetApiServiceDescriptor().GetUrl())
	}
	return all
}

// TestWorkerSeesItsOwnEndpoint: a harness that reaches the server under another name than others is told that name everywhere, and works
// through it.
func TestWorkerSeesItsOwnEndpoint(t *testing.T) {
	r := newRig(t)
	there := elsewhere(t, r)
	d := r.describe("d", "bytes", fakesdk.Step{ID: "append", DoFn: "fakesdk:append", Params: []byte("!")})
	here := r.worker
	w, err := r.server.Expect(fnapi.WorkerSpec{
		ID: fnapi.NewWorkerID("far"), Endpoint: there, ArtifactEndpoint: "localhost:1",
	})
	if err != nil {
		t.Fatal(err)
	}
	info := w.ProvisionInfo()
	wantStrings(t, []string{
		info.GetControlEndpoint().GetUrl(), info.GetLoggingEndpoint().GetUrl(), info.GetStatusEndpoint().GetUrl(),
		info.GetArtifactEndpoint().GetUrl(), w.Endpoint(), here.Endpoint(),
	}, there, there, there, there, there, r.server.Endpoint())
	conn, err := grpc.NewClient(there, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := fnpb.NewBeamFnControlClient(conn)
	fetch := func(ctx context.Context) []string {
		t.Helper()
		got, err := client.GetProcessBundleDescriptor(ctx, &fnpb.GetProcessBundleDescriptorRequest{ProcessBundleDescriptorId: string(d)})
		if err != nil {
			t.Fatal(err)
		}
		return endpoints(t, got)
	}
	near := endpoints(t, fetchBy(t, r, here.ID(), d))
	wantStrings(t, fetch(as(r.context(), w.ID())), there, there, there, there)
	wantStrings(t, fetch(as(r.context(), here.ID())), near...)
	wantStrings(t, fetch(r.context()), near...) // nobody knows whose call it is
	ctx, leave := context.WithCancel(as(r.context(), w.ID()))
	defer leave()
	if _, err := client.Control(ctx); err != nil {
		t.Fatal(err)
	}
	if err := w.Ready(r.context()); err != nil {
		t.Fatal(err)
	}
	wantStrings(t, fetch(r.context()), there, there, there, there) // as TypeScript asks

	r.worker = w
	h, err := fakesdk.Start(context.Background(), fakesdk.Config{Endpoint: there, WorkerID: w.ID()})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for w.Generation() < 2 {
		<-w.Done()
	}
	b, out := r.start(fnapi.StartBundle{DescriptorID: d})
	if err := r.feed(b, "a"); err != nil {
		t.Fatal(err)
	}
	r.wait(b)
	wantStrings(t, out.values(t), "a!")
}

// fetchBy fetches a descriptor as a worker on this machine does.
func fetchBy(t *testing.T, r *rig, id fnapi.WorkerID, d fnapi.DescriptorID) *fnpb.ProcessBundleDescriptor {
	t.Helper()
	got, err := fnpb.NewBeamFnControlClient(dial(t, r)).GetProcessBundleDescriptor(as(r.context(), id),
		&fnpb.GetProcessBundleDescriptorRequest{ProcessBundleDescriptorId: string(d)})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestListenOnAnAddressOfNobody(t *testing.T) {
	r := newRig(t)
	_, err := r.server.ListenOn("192.0.2.77", false) // Spec: RFC 5737, for documentation
	wantCode(t, err, fault.Environment, "fnapi-listen")
	if runtime.GOOS == "linux" { // which can wait for the address
		if endpoint, err := r.server.ListenOn("192.0.2.77", true); err != nil || !strings.HasPrefix(endpoint, "192.0.2.77:") {
			t.Errorf("%q, %v", endpoint, err)
		}
	}
	r.server.Close()
	_, err = r.server.ListenOn("127.0.0.1", true)
	wantCode(t, err, fault.Internal, "fnapi-misuse")
}

func TestAdvertisedEndpoint(t *testing.T) {
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ address, host, local, advertised string }{
		{"127.0.0.1:0", "", "localhost", "localhost"},
		{"127.0.0.1:0", "host.docker.internal", "localhost", "host.docker.internal"},
		{"0.0.0.0:0", "", "localhost", name},
		{"0.0.0.0:0", "runner.example", "localhost", "runner.example"},
		{"[::1]:0", "", "localhost", "localhost"},
	} {
		s, err := fnapi.New(fnapi.Config{Address: c.address, AdvertisedHost: c.host})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		local, port, err := net.SplitHostPort(s.Endpoint())
		advertised, port2, err2 := net.SplitHostPort(s.AdvertisedEndpoint())
		if err != nil || err2 != nil || port != port2 || local != c.local || advertised != c.advertised || s.Advertises() != (c.host != "") {
			t.Errorf("%+v: %s and %s", c, s.Endpoint(), fmt.Sprint(s.AdvertisedEndpoint(), err, err2))
		}
	}
}
