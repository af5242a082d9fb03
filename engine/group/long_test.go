package group

import (
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"padstone/engine/plan"
	"padstone/engine/rows"
)

// diskFiles is a scratch on disk, which takes no memory.
type diskFiles struct {
	dir  string
	made int
}

type diskFile struct{ *os.File }

func (d *diskFiles) Create() (rows.ScratchFile, error) {
	d.made++
	f, err := os.Create(filepath.Join(d.dir, strconv.Itoa(d.made)))
	return diskFile{f}, err
}

func (f diskFile) Open() (io.ReadCloser, error) { return os.Open(f.Name()) }
func (f diskFile) Remove() error                { return f.Close() }

// sizes is a content that keeps the sizes of its pages.
type sizes struct{ pages []int }

func (s *sizes) New() rows.Content     { return s }
func (s *sizes) ID() rows.ContentID    { return 1 }
func (s *sizes) Append(p []byte) error { s.pages = append(s.pages, len(p)); return nil }

// TestLongValuesInRuns: of long values that are sorted there is one in memory at a time, however many runs there are.
func TestLongValuesInRuns(t *testing.T) {
	const values, long = 12, 4 << 20
	r, scratch, content := newRig(t, fixed(plan.TriggerDefault)), &diskFiles{dir: t.TempDir()}, &sizes{}
	block := r.encode([]datum{{key: "k", ts: 1, value: strings.Repeat("x", long)}})
	blocks := func(yield func([]byte, error) bool) {
		for i := 0; i < values && yield(block, nil); i++ {
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	out := Output{Contents: content}
	if err := r.m.GroupAll(blocks, Budget{BytesMax: long / 2, Scratch: scratch}, &out); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if scratch.made != values || len(content.pages) != values || content.pages[0] < long {
		t.Fatalf("%d runs, %d pages", scratch.made, len(content.pages))
	}
	// There is a buffer to write, one to read for each run, and a value is read back.
	if got := int(after.TotalAlloc-before.TotalAlloc) - writeBuffer - values*readBuffer; got > 5*long { // where each run had one of its own, it was 25
		t.Errorf("%d MiB were allocated for %d values of %d MiB", got>>20, values, long>>20)
	}
}
