package dockertest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
)

// Real returns the address of the Docker Engine of this machine; without one the test is skipped.
func Real(t *testing.T) string {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("the test's own program is for Linux alone")
	}
	c := open(t)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := c.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		t.Skipf("no Docker Engine answers at %s: %v", c.DaemonHost(), err)
	}
	return c.DaemonHost()
}

func open(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.New(client.FromEnv)
	if err != nil {
		t.Skipf("no address of a Docker Engine: %v", err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Boot makes an image whose entry point is the running test program, with the libraries that it needs and nothing else. The image goes
// with the test.
func Boot(t *testing.T, variables ...string) string {
	t.Helper()
	c := open(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const entry = "/opt/apache/beam/boot"
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	pack(t, w, self, entry)
	for _, library := range libraries(t, self) {
		pack(t, w, library, library)
	}
	if err := w.WriteHeader(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o777}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	image := "padstone-dockertest:" + strings.ToLower(rand.Text())
	changes := []string{`ENTRYPOINT ["` + entry + `"]`}
	for _, v := range variables {
		changes = append(changes, "ENV "+v)
	}
	resp, err := c.ImageImport(ctx, client.ImageImportSource{Source: &archive, SourceName: "-"}, image,
		client.ImageImportOptions{Changes: changes})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Close()
	if _, err := io.Copy(io.Discard, resp); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if _, err := c.ImageRemove(ctx, image, client.ImageRemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
	return image
}

// Left returns the names of containers with a label that a real Engine has.
func Left(t *testing.T, label string) (names []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	list, err := open(t).ContainerList(ctx, client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("label", label)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list.Items {
		names = append(names, strings.TrimPrefix(c.Names[0], "/"))
	}
	return names
}

// Kill kills a container of a real Engine.
func Kill(t *testing.T, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := open(t).ContainerKill(ctx, name, client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
}

// libraries lists what a program is linked to.
func libraries(t *testing.T, program string) (paths []string) {
	t.Helper()
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		return nil // it is linked to nothing
	}
	for _, word := range strings.Fields(string(out)) {
		if filepath.IsAbs(word) {
			paths = append(paths, word)
		}
	}
	return paths
}

func pack(t *testing.T, w *tar.Writer, file, as string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	err = w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(path.Clean(as), "/"), Size: int64(len(content)), Mode: 0o755})
	if err == nil {
		_, err = w.Write(content)
	}
	if err != nil {
		t.Fatal(err)
	}
}
