package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"padstone/engine/rows"
)

// Segments are files of the store's directory that hold what is written ahead of commits: bytes behind bytes, written once by one bundle,
// and removed when nothing refers to any of them. What lies where, and with what checksum, stand in rows of the commit that makes it known.
//
// The log must not refer to what a crash may take. So no byte of the log is written while a segment that a commit refers to is not synced
// (barrier, which the guard calls): what is on disk of the log never says more than the segments hold. And a segment is not removed before
// the commit is durable that has let go of it.
const (
	segmentSuffix = ".segment"
	// segmentBytesMax is the length from which on a bundle begins another segment.
	segmentBytesMax = 64 << 20
	// deadBytesMax bounds the segments that wait for the log to be synced before they are removed.
	deadBytesMax = 64 << 20
)

// extent is where some bytes lie that were written ahead.
type extent struct {
	segment uint64
	at      int64
	size    int
	sum     uint32 // crc32c
}

func (e extent) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, e.segment)
	b = binary.BigEndian.AppendUint64(b, uint64(e.at))
	b = binary.BigEndian.AppendUint64(b, uint64(e.size))
	return binary.BigEndian.AppendUint32(b, e.sum)
}

func parseExtent(v []byte) (extent, error) {
	if len(v) != 3*8+4 {
		return extent{}, corrupt("a page of the job's store is %d bytes, not the place of some", len(v))
	}
	return extent{
		segment: binary.BigEndian.Uint64(v), at: int64(binary.BigEndian.Uint64(v[8:])), size: int(binary.BigEndian.Uint64(v[16:])),
		sum: binary.BigEndian.Uint32(v[24:]),
	}, nil
}

// segment is a file. Its fields but the file's contents are guarded by segments.mu.
type segment struct {
	id    uint64
	size  int64
	file  vfs.File // nil once it is synced, or given up
	pages int      // of known contents
}

// segments are those of a store. Safe for concurrent use.
type segments struct {
	fs     vfs.FS
	dir    string
	spoils bool // its files may change what they are given to write, as vfs.File allows
	atEnd  bool // there is no log: nothing has to be synced before the store is closed
	// syncing is held by who syncs: whoever comes meanwhile must not go on before that is done.
	syncing sync.Mutex
	mu      struct {
		sync.Mutex
		known     map[uint64]*segment // those that commits refer to
		unsynced  []*segment
		dead      []deadSegment
		deadBytes int64
		pins      int // copies that are being taken: nothing is removed
	}
}

// deadSegment goes when a commit is durable.
type deadSegment struct {
	id   uint64
	size int64
	seq  uint64
}

func newSegments(fs vfs.FS, dir string, spoils, atEnd bool) *segments {
	g := &segments{fs: fs, dir: dir, spoils: spoils, atEnd: atEnd}
	g.mu.known = make(map[uint64]*segment)
	return g
}

func (g *segments) path(id uint64) string { return g.fs.PathJoin(g.dir, segmentName(id)) }

func segmentName(id uint64) string { return fmt.Sprintf("%06d", id) + segmentSuffix }

// create makes an empty segment, which belongs to the caller until adopt or abandon.
func (g *segments) create(id uint64) (*segment, error) {
	f, err := g.fs.Create(g.path(id), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	return &segment{id: id, file: f}, nil
}

// write appends bytes to a segment of the caller's.
func (g *segments) write(seg *segment, b []byte) (extent, error) {
	e := extent{segment: seg.id, at: seg.size, size: len(b), sum: crc32.Checksum(b, castagnoli)}
	if g.spoils {
		b = append([]byte(nil), b...)
	}
	if _, err := seg.file.Write(b); err != nil {
		return e, err
	}
	seg.size += int64(len(b))
	return e, nil
}

// adopt makes a segment one that the commit which is about to be made refers to.
func (g *segments) adopt(seg *segment, pages int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	seg.pages = pages
	g.mu.known[seg.id] = seg
	if g.atEnd {
		return seg.file.Close()
	}
	g.mu.unsynced = append(g.mu.unsynced, seg)
	return nil
}

// abandon gives up segments that no commit refers to. Nothing has to be durable before they go.
func (g *segments) abandon(segs []*segment) error {
	var errs []error
	for _, seg := range segs {
		errs = append(errs, seg.file.Close())
		seg.file = nil
		g.mu.Lock()
		g.mu.dead = append(g.mu.dead, deadSegment{id: seg.id, size: seg.size})
		g.mu.deadBytes += seg.size
		g.mu.Unlock()
	}
	return errors.Join(append(errs, g.reap(0))...)
}

// barrier syncs the segments that commits refer to. The guard calls it before each write of the log. An error freezes the disk, so that
// the write which follows is swallowed.
func (g *segments) barrier() {
	g.syncing.Lock()
	defer g.syncing.Unlock()
	g.mu.Lock()
	unsynced := g.mu.unsynced
	g.mu.unsynced = nil
	g.mu.Unlock()
	if len(unsynced) == 0 {
		return
	}
	for _, seg := range unsynced {
		_, _ = seg.file.SyncData(), seg.file.Close()
		seg.file = nil
	}
	if dir, err := g.fs.OpenDir(g.dir); err == nil {
		_, _ = dir.Sync(), dir.Close()
	}
}

// syncAll syncs all segments that commits refer to.
func (g *segments) syncAll() error {
	var errs []error
	for _, id := range g.referred() {
		f, err := g.fs.Open(g.path(id))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, f.SyncData(), f.Close())
	}
	return errors.Join(errs...)
}

// close closes the files of segments that are not synced: nobody has waited for the commits that refer to them.
func (g *segments) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for _, seg := range g.mu.unsynced {
		errs = append(errs, seg.file.Close())
	}
	g.mu.unsynced = nil
	return errors.Join(errs...)
}

// release lets go of a page in the commit of a sequence.
func (g *segments) release(e extent, seq uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	seg := g.mu.known[e.segment]
	if seg == nil {
		return
	}
	if seg.pages--; seg.pages > 0 {
		return
	}
	delete(g.mu.known, seg.id)
	g.mu.dead = append(g.mu.dead, deadSegment{id: seg.id, size: seg.size, seq: seq})
	g.mu.deadBytes += seg.size
}

// full says that much waits to be removed.
func (g *segments) full() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.deadBytes >= deadBytesMax
}

// reap removes the segments that commits up to a sequence have let go of, now that those are durable.
func (g *segments) reap(durable uint64) error {
	g.mu.Lock()
	if g.mu.pins > 0 || len(g.mu.dead) == 0 {
		g.mu.Unlock()
		return nil
	}
	var gone []deadSegment
	left := g.mu.dead[:0]
	for _, d := range g.mu.dead {
		if d.seq <= durable {
			gone = append(gone, d)
			g.mu.deadBytes -= d.size
		} else {
			left = append(left, d)
		}
	}
	g.mu.dead = left
	g.mu.Unlock()
	var errs []error
	for _, d := range gone {
		errs = append(errs, g.fs.Remove(g.path(d.id)))
	}
	return errors.Join(errs...)
}

// pin keeps all segments where they are until unpin.
func (g *segments) pin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.pins++
}

func (g *segments) unpin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.pins--
}

// referred lists the segments that commits refer to, or have referred to until now.
func (g *segments) referred() (ids []uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id := range g.mu.known {
		ids = append(ids, id)
	}
	for _, d := range g.mu.dead {
		if d.seq > 0 {
			ids = append(ids, d.id)
		}
	}
	return ids
}

// read reads into b what lies at the beginning of an extent of that size.
func (g *segments) read(e extent, b []byte) error {
	f, err := g.fs.Open(g.path(e.segment))
	if errors.Is(err, os.ErrNotExist) {
		return corrupt("%s of the job's store is missing", segmentName(e.segment))
	}
	if err != nil {
		return readError(err)
	}
	n, err := f.ReadAt(b, e.at)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	err = errors.Join(err, f.Close())
	switch {
	case err != nil:
		return readError(err)
	case n < len(b):
		return corrupt("%s of the job's store ends at byte %d, which is before what it should hold", segmentName(e.segment), e.at+int64(n))
	case crc32.Checksum(b, castagnoli) != e.sum:
		return corrupt("%s of the job's store does not hold at byte %d what was written there", segmentName(e.segment), e.at)
	}
	return nil
}

// load takes over the segments that the rows refer to, by contents, and removes the others: a crash has left them, or they were let go
// of in the end.
func (g *segments) load(contents map[rows.ContentID]*content) error {
	ends := make(map[uint64]int64)
	for _, c := range contents {
		for _, e := range c.extents {
			seg := g.mu.known[e.segment]
			if seg == nil {
				seg = &segment{id: e.segment}
				g.mu.known[e.segment] = seg
			}
			seg.pages++
			ends[seg.id] = max(ends[seg.id], e.at+int64(e.size))
		}
	}
	names, err := g.fs.List(g.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		id, err := strconv.ParseUint(strings.TrimSuffix(name, segmentSuffix), 10, 64)
		if err != nil || !strings.HasSuffix(name, segmentSuffix) {
			continue
		}
		seg := g.mu.known[id]
		if seg == nil {
			if err := g.fs.Remove(g.path(id)); err != nil {
				return err
			}
			continue
		}
		info, err := g.fs.Stat(g.path(id))
		if err != nil {
			return readError(err)
		}
		seg.size = info.Size()
	}
	for id, end := range ends {
		if seg := g.mu.known[id]; seg.size < end {
			return corrupt("%s of the job's store has %d bytes, and should have %d", segmentName(id), seg.size, end)
		}
	}
	return nil
}

// SegmentBytes is how long the segments are that commits refer to, or that wait to be removed.
func (s *Store) SegmentBytes() (n int64) {
	g := s.segments
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, seg := range g.mu.known {
		n += seg.size
	}
	return n + g.mu.deadBytes
}
