package harness

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/internal/fault"
)

// closedAddress is an address at which nobody listens: its port is taken for as long as the test, or another program would get it.
func closedAddress(t *testing.T) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", bound.(*syscall.SockaddrInet4).Port)
}

// TestCheckExternal: whether there is a worker pool, without a worker being started.
func TestCheckExternal(t *testing.T) {
	m := newManager(t, nil)
	pool := &workerPool{}
	env, _ := pool.serve(t)
	there, err := resolveExternal(env)
	if err != nil {
		t.Fatal(err)
	}
	address, gone := there.external.GetEndpoint().GetUrl(), closedAddress(t)
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // as a program that is too busy to answer
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, c := range []struct {
		name, url string
		refused   []string // what the error says; none: it is there
	}{
		{"a pool", address, nil},
		{"one of several", gone + "," + address, nil},
		{"nobody", gone, []string{"worker pool at " + gone, "connection refused", "--worker_pool_wait_seconds"}},
		{"none of several", gone + "," + web.Listener.Addr().String(), []string{"worker pools at", gone + ": "}},
		{"not a pool", web.Listener.Addr().String(), []string{"cannot be reached"}},
		{"no such host", "nobody.invalid:50000", []string{"nobody.invalid"}},
		{"one that does not answer", silent.Addr().String(), nil},
	} {
		err := m.Check(t.Context(), externalEnv(t, c.url), nil)
		if c.refused == nil {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if f := fault.Of(err); f == nil || f.Kind != fault.Environment || f.Code != codePool {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		for _, part := range c.refused {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v does not say %q", c.name, err, part)
			}
		}
	}
	if n := pool.count(); n != 0 {
		t.Errorf("%d workers were started", n)
	}
}

// TestCheckProcess: whether there is such a program.
func TestCheckProcess(t *testing.T) {
	m := newManager(t, nil)
	dir := t.TempDir()
	file := filepath.Join(dir, "text")
	if err := os.WriteFile(file, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	for command, want := range map[string]string{
		self(t): "", "sh": "", filepath.Join(dir, "nothing"): "no such file", file: "permission denied", dir: "is a directory",
		"no-such-program-anywhere": "not found", self(t) + " --flag": "no such file",
	} {
		err := m.Check(t.Context(), processEnv(t, command, ""), nil)
		if want == "" && err == nil {
			continue
		}
		if f := fault.Of(err); f == nil || f.Code != codeStart || f.Hint == "" || !strings.Contains(f.Error(), want) || want == "" {
			t.Errorf("%s: %v", command, err)
		}
	}
	if err := m.Check(t.Context(), &pipepb.Environment{Urn: "beam:env:mainframe:v1"}, nil); fault.Of(err) == nil {
		t.Errorf("an unsupported environment: %v", err)
	}
}
