package checkpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"padstone/internal/fault"
)

// everywhere runs a test on a directory and on a bucket.
func everywhere(t *testing.T, test func(t *testing.T, r *Repository)) {
	t.Run("directory", func(t *testing.T) {
		test(t, openTest(t, "file://"+filepath.Join(t.TempDir(), "deep", "er")))
	})
	t.Run("bucket", func(t *testing.T) {
		test(t, openTest(t, bucketURL(t)))
	})
}

func openTest(t *testing.T, location string) *Repository {
	t.Helper()
	r, err := Open(t.Context(), location)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// bucketURL is a place in a bucket that a server in this process keeps in memory.
func bucketURL(t *testing.T) string {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	return "s3://backups/some/place?region=eu-central-1&endpoint=" + server.URL
}

// memory is a file in memory.
type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

func local(path, same string, data []byte) Local {
	return Local{Path: path, Size: int64(len(data)), Same: same, Open: func() (Reader, error) { return memory{bytes.NewReader(data)}, nil }}
}

// tree is the files of a job by path.
type tree map[string]string

// contents makes a checkpoint of files; those that end in .sst have a name for their contents.
func contents(kind Kind, l Lineage, files tree) Contents {
	c := Contents{
		Kind: kind, Job: "job-1", Name: "payments", CreatedAt: time.UnixMilli(1_790_000_000_000), Lineage: l, Padstone: "test", Store: 3,
		Commit: 7, Sinks: []Sink{{Stage: "s", Name: "Write", Published: 5}}, Inventory: json.RawMessage(`{"a":1}`),
	}
	for path, text := range files {
		same := ""
		if strings.HasSuffix(path, ".sst") {
			same = path
		}
		c.Files = append(c.Files, local(path, same, []byte(text)))
	}
	return c
}

func write(t *testing.T, r *Repository, c Contents) *Manifest {
	t.Helper()
	m, err := r.Write(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// fetched is what a checkpoint restores to.
func fetched(t *testing.T, r *Repository, m *Manifest) tree {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "to")
	if err := r.Fetch(t.Context(), m, dir); err != nil {
		t.Fatal(err)
	}
	got := tree{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		got[filepath.ToSlash(rel)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func same(t *testing.T, got, want tree) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("fetched %v, not %v", got, want)
	}
}

func ids(t *testing.T, r *Repository) string {
	t.Helper()
	entries, err := r.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, string(e.Kind)+":"+e.ID)
	}
	return strings.Join(out, " ")
}

// stored lists the contents that lie in the repository.
func stored(t *testing.T, r *Repository) []string {
	t.Helper()
	var names []string
	if err := r.list(t.Context(), filesDir("job-1"), func(b Blob) error { names = append(names, b.Name); return nil }); err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func code(err error) fault.Code {
	if f := fault.Of(err); f != nil {
		return f.Code
	}
	return ""
}

func wantCode(t *testing.T, err error, want fault.Code, text string) {
	t.Helper()
	if code(err) != want || !strings.Contains(fmt.Sprint(err), text) {
		t.Errorf("%v; want %s with %q", err, want, text)
	}
}

var first = Lineage{ID: "AAAAAAAAAA", Incarnation: 1}

// TestIncremental writes three checkpoints and fetches each. What they share goes up once; what only a removed one had goes.
func TestIncremental(t *testing.T) {
	everywhere(t, func(t *testing.T, r *Repository) {
		one := tree{"store/1.sst": "table one", "store/LOG": "log 1", "store/marker": "", "job/pipeline.pb": "p", "artifacts/x/y": "staged"}
		two := tree{"store/1.sst": "table one", "store/2.sst": "table two", "store/LOG": "log 2", "store/marker": "", "job/pipeline.pb": "p"}
		three := tree{"store/2.sst": "table two", "store/LOG": "log 3", "job/pipeline.pb": "p"}
		a := write(t, r, contents(Checkpoint, first, one))
		if a.NewFiles != 4 || a.NewBytes != int64(len("table one")+len("log 1")+len("p")+len("staged")) || a.Bytes != a.NewBytes {
			t.Errorf("the first checkpoint stored %d files, %d bytes of %d", a.NewFiles, a.NewBytes, a.Bytes)
		}
		b := write(t, r, contents(Checkpoint, first, two))
		if b.NewFiles != 2 || b.NewBytes != int64(len("table two")+len("log 2")) {
			t.Errorf("the second checkpoint stored %d files, %d bytes", b.NewFiles, b.NewBytes)
		}
		c := write(t, r, contents(Savepoint, first, three))
		again := openTest(t, r.url) // another process knows none of the hashes
		d := write(t, again, contents(Checkpoint, first, three))
		if c.NewFiles != 1 || d.NewFiles != 0 {
			t.Errorf("the third checkpoint stored %d files, its copy %d", c.NewFiles, d.NewFiles)
		}
		if got := ids(t, r); got != "checkpoint:1-1-aaaaaa checkpoint:1-2-aaaaaa savepoint:1-3-aaaaaa checkpoint:1-4-aaaaaa" {
			t.Errorf("there are %s", got)
		}
		same(t, fetched(t, r, a), one)
		same(t, fetched(t, r, b), two)
		same(t, fetched(t, again, c), three)
		read, err := again.Manifest(t.Context(), "", Latest)
		if err != nil || fmt.Sprintf("%+v", read) != fmt.Sprintf("%+v", d) {
			t.Errorf("read %+v, %v; wrote %+v", read, err, d)
		}
		done, err := again.Prune(t.Context(), "job-1", 1)
		if err != nil || done.Checkpoints != 2 || done.Files != 4 { // logs 1 and 2, table one, the artifact
			t.Errorf("pruned %+v, %v", done, err)
		}
		if got := ids(t, r); got != "savepoint:1-3-aaaaaa checkpoint:1-4-aaaaaa" || len(stored(t, r)) != 3 {
			t.Errorf("there are %s with %q", got, stored(t, r))
		}
		same(t, fetched(t, r, c), three)
		if _, err := r.Manifest(t.Context(), "job-1", a.ID); code(err) != "checkpoint-not-found" {
			t.Errorf("the removed checkpoint: %v", err)
		}
	})
}

// failing fails the operations that change something, from the left-th on.
type failing struct {
	Blobs
	left   atomic.Int64
	before func(name string) // called before each put; may be nil
}

var errBroken = errors.New("the cable is cut")

func (f *failing) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	if f.left.Add(-1) < 0 {
		return errBroken
	}
	if f.before != nil {
		f.before(name)
	}
	return f.Blobs.Put(ctx, name, r, size)
}

func (f *failing) Remove(ctx context.Context, name string) error {
	if f.left.Add(-1) < 0 {
		return errBroken
	}
	return f.Blobs.Remove(ctx, name)
}

// TestCutOff cuts a Write with Prune off after each of its operations. What was there before can be fetched, and so can the checkpoint if
// Write said so; the next Write with Prune leaves nothing behind.
func TestCutOff(t *testing.T) {
	everywhere(t, func(t *testing.T, r *Repository) {
		rng := rand.New(rand.NewPCG(1, 2))
		files := func() tree {
			all := tree{"job/pipeline.pb": "p"}
			for range 5 {
				n := rng.IntN(9)
				all[fmt.Sprintf("store/%d.sst", n)] = fmt.Sprint("table ", n)
			}
			all["store/LOG"] = fmt.Sprint("log ", rng.Int())
			return all
		}
		last := files()
		known := write(t, r, contents(Checkpoint, first, last))
		for n := range int64(14) {
			cut := &failing{Blobs: r.blobs}
			cut.left.Store(n)
			next := files()
			dying := On(r.url, cut)
			m, err := dying.Write(t.Context(), contents(Checkpoint, first, next))
			if err == nil {
				known, last = m, next
				_, _ = dying.Prune(t.Context(), "job-1", 1)
			} else if code(err) != "checkpoint-repository" || !errors.Is(err, errBroken) {
				t.Fatalf("cut off after %d: %v", n, err)
			}
			after := openTest(t, r.url)
			found, err := after.Manifest(t.Context(), "job-1", "")
			if err != nil {
				t.Fatal(err)
			}
			if found.ID == known.ID { // else it was put, and Write was not told
				same(t, fetched(t, after, found), last)
			} else {
				fetched(t, after, found)
			}
			last = files()
			known = write(t, after, contents(Checkpoint, first, last))
			if _, err := after.Prune(t.Context(), "job-1", 1); err != nil {
				t.Fatal(err)
			}
			same(t, fetched(t, after, known), last)
			if got, want := len(stored(t, after)), len(hashesOf(known)); got != want {
				t.Errorf("cut off after %d: %d files are left, want %d", n, got, want)
			}
			if err := after.list(t.Context(), pendingDir("job-1"), func(b Blob) error { return errors.New(b.Name) }); err != nil {
				t.Errorf("cut off after %d: %v is left", n, err)
			}
		}
	})
}

// TestPruneLeavesOthersAlone has another server write a checkpoint of the job while this one prunes.
func TestPruneLeavesOthersAlone(t *testing.T) {
	everywhere(t, func(t *testing.T, r *Repository) {
		write(t, r, contents(Checkpoint, first, tree{"store/1.sst": "one"}))
		second := Lineage{ID: "BBBBBBBB", Incarnation: 2, From: "1-1-aaaaaa"}
		pruned := false
		cut := &failing{Blobs: r.blobs}
		cut.left.Store(1 << 40)
		cut.before = func(name string) {
			if !strings.Contains(name, dirCheckpoints) || pruned {
				return
			}
			pruned = true // everything of the other checkpoint is up but its manifest
			write(t, r, contents(Checkpoint, first, tree{"store/2.sst": "two"}))
			if done, err := r.Prune(t.Context(), "job-1", 1); err != nil || done.Files != 0 || done.Checkpoints != 1 {
				t.Errorf("pruned %+v, %v", done, err)
			}
		}
		other := On(r.url, cut)
		m := write(t, other, contents(Checkpoint, second, tree{"store/1.sst": "one", "store/3.sst": "three"}))
		same(t, fetched(t, r, m), tree{"store/1.sst": "one", "store/3.sst": "three"})

		// It loses its machine in the middle of the next one. A day later that is nobody's.
		cut.before = nil
		cut.left.Store(2)
		if _, err := other.Write(t.Context(), contents(Checkpoint, second, tree{"store/4.sst": "four"})); err == nil {
			t.Fatal("the checkpoint was written")
		}
		before := len(stored(t, r))
		if done, err := r.Prune(t.Context(), "job-1", 3); err != nil || done.Files != 0 {
			t.Errorf("pruned %+v, %v", done, err)
		}
		r.now = func() time.Time { return time.Now().Add(2 * abandonedAfter) }
		if done, err := r.Prune(t.Context(), "job-1", 3); err != nil || done.Files != 1 || len(stored(t, r)) != before-1 {
			t.Errorf("pruned %+v, %v", done, err)
		}
	})
}

// TestRemovedMeanwhile has somebody remove a shared file while the checkpoint is written.
func TestRemovedMeanwhile(t *testing.T) {
	r := openTest(t, t.TempDir())
	m := write(t, r, contents(Checkpoint, first, tree{"store/1.sst": "one"}))
	cut := &failing{Blobs: r.blobs}
	cut.left.Store(1 << 40)
	removed := 0
	cut.before = func(name string) {
		if strings.Contains(name, dirFiles) && removed == 0 {
			removed++
			if err := r.blobs.Remove(t.Context(), filesDir("job-1")+"/"+m.Files[0].SHA256); err != nil {
				t.Error(err)
			}
		}
	}
	files := tree{"store/1.sst": "one", "store/2.sst": "two"}
	got := write(t, On(r.url, cut), contents(Checkpoint, first, files))
	if removed != 1 || got.NewFiles != 2 {
		t.Errorf("%d removed, %d stored", removed, got.NewFiles)
	}
	same(t, fetched(t, r, got), files)
}

// TestDamaged changes what lies in the repository.
func TestDamaged(t *testing.T) {
	everywhere(t, func(t *testing.T, r *Repository) {
		m := write(t, r, contents(Checkpoint, first, tree{"store/1.sst": "table one"}))
		name := filesDir("job-1") + "/" + m.Files[0].SHA256
		change := func(name, text string) {
			if err := r.blobs.Put(t.Context(), name, strings.NewReader(text), int64(len(text))); err != nil {
				t.Fatal(err)
			}
		}
		for _, text := range []string{"table two", "table", "table one and more"} {
			change(name, text)
			err := r.Fetch(t.Context(), m, filepath.Join(t.TempDir(), "to"))
			wantCode(t, err, "checkpoint-damaged", "store/1.sst")
		}
		if err := r.blobs.Remove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		wantCode(t, r.Fetch(t.Context(), m, filepath.Join(t.TempDir(), "to")), "checkpoint-damaged", "is missing")

		e := Entry{Job: m.Job, ID: m.ID, Kind: m.Kind}
		data, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{" ", "{}", string(data[:len(data)-9]), strings.Replace(string(data), "payments", "payment$", 1)} {
			change(manifestName(e), text)
			_, err := r.Read(t.Context(), e)
			wantCode(t, err, "checkpoint-damaged", m.ID)
		}
		other := *m
		for _, path := range []string{"../x", "/etc/passwd", "store/../../x", "other/x", "store"} {
			other.Files = []File{{Path: path, SHA256: m.Files[0].SHA256}}
			if data, err = other.encode(); err != nil {
				t.Fatal(err)
			}
			change(manifestName(e), string(data))
			if _, err := r.Read(t.Context(), e); path != "store" {
				wantCode(t, err, "checkpoint-damaged", path)
			}
		}
		// One of a later version cannot be read, and keeps its files.
		write(t, r, contents(Checkpoint, first, tree{"store/2.sst": "two"}))
		other = *m
		other.Format = Format + 1
		if data, err = other.encode(); err != nil {
			t.Fatal(err)
		}
		change(manifestName(e), string(data))
		_, err = r.Read(t.Context(), e)
		wantCode(t, err, "checkpoint-format", "format 2")
		before := len(stored(t, r))
		_, err = openTest(t, r.url).Prune(t.Context(), "job-1", 0)
		wantCode(t, err, "checkpoint-format", "")
		if len(stored(t, r)) != before {
			t.Error("files were removed that a manifest may name")
		}
	})
}

// TestLatest takes what a restored job has written for newer than anything that the lost server writes.
func TestLatest(t *testing.T) {
	r := openTest(t, t.TempDir())
	var last *Manifest
	for n := range 12 {
		last = write(t, r, contents(Checkpoint, first, tree{"store/LOG": fmt.Sprint(n)}))
	}
	if last.ID != "1-12-aaaaaa" {
		t.Errorf("the twelfth is %s", last.ID)
	}
	restored := write(t, r, contents(Checkpoint, Lineage{ID: "ZZZZZZZZ", Incarnation: 2, From: last.ID}, tree{"store/LOG": "restored"}))
	write(t, r, contents(Checkpoint, first, tree{"store/LOG": "of the lost server"}))
	for _, id := range []string{"", Latest} {
		if m, err := r.Manifest(t.Context(), "job", id); err != nil || m.ID != restored.ID {
			t.Errorf("the latest is %+v, %v", m, err)
		}
	}
	if m, err := r.Manifest(t.Context(), "", "1-3-aaaaaa"); err != nil || m.ID != "1-3-aaaaaa" {
		t.Errorf("the third is %+v, %v", m, err)
	}
	c := contents(Checkpoint, first, tree{"store/LOG": "x"})
	c.Job = "job-2"
	write(t, r, c)
	_, err := r.Manifest(t.Context(), "job", "")
	wantCode(t, err, "checkpoint-ambiguous", "job-1, job-2")
	_, err = r.Manifest(t.Context(), "other", "")
	wantCode(t, err, "checkpoint-not-found", "other")
	_, err = r.Manifest(t.Context(), "job-1", "1-99-aaaaaa")
	wantCode(t, err, "checkpoint-not-found", "1-99-aaaaaa")
	_, err = r.List(t.Context(), "../..")
	wantCode(t, err, "checkpoint-not-found", "")
}

// TestLocations opens what can be a place and refuses what cannot, without a word of a password.
func TestLocations(t *testing.T) {
	for _, good := range []string{
		"/some/where", "file:///some/where", "file://localhost/some", "s3://bucket", "s3://bucket/a/b",
		"s3://bucket/a?endpoint=localhost:9000&region=x&path_style=true", "s3://bucket?endpoint=http://10.0.0.1:9000",
	} {
		if r, err := Open(t.Context(), good); err != nil || r.URL() != good {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "relative/path", "file://host/x", "http://x/y", "gs://bucket", "s3://", "s3:///x", "s3://bucket?endpoint=ftp://x",
		"s3://bucket?acl=public", "s3://bucket?path_style=perhaps", "s3://key:hunter2@bucket/x", "s3://b%zz:hunter2@bucket",
	} {
		_, err := Open(t.Context(), bad)
		wantCode(t, err, "checkpoint-url", "")
		if strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%v tells a password", err)
		}
	}
}

// TestUnreachable asks a bucket that is not there, and one whose server is not.
func TestUnreachable(t *testing.T) {
	location := bucketURL(t)
	_, err := openTest(t, strings.Replace(location, "backups", "nothing-here", 1)).Write(t.Context(), contents(Checkpoint, first, tree{"store/LOG": "x"}))
	wantCode(t, err, "checkpoint-repository", "nothing-here")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = openTest(t, file).Write(t.Context(), contents(Checkpoint, first, tree{"store/LOG": "x"}))
	wantCode(t, err, "checkpoint-repository", file)
	if fault.KindOf(err) != fault.Environment {
		t.Errorf("%v is of the wrong kind", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errBroken)
	if _, err := openTest(t, location).Write(ctx, contents(Checkpoint, first, tree{"store/LOG": "x"})); !errors.Is(err, errBroken) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestLargeFile stores a file in several parts.
func TestLargeFile(t *testing.T) {
	everywhere(t, func(t *testing.T, r *Repository) {
		data := make([]byte, 2*partBytes+12345)
		rng := rand.NewChaCha8([32]byte{1})
		if _, err := rng.Read(data); err != nil {
			t.Fatal(err)
		}
		c := contents(Savepoint, first, nil)
		c.Files = []Local{local("store/1.sst", "1.sst", data)}
		m := write(t, r, c)
		if got := fetched(t, r, m)["store/1.sst"]; got != string(data) {
			t.Errorf("%d bytes came back otherwise", len(got))
		}
	})
}
