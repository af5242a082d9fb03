package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"

	"padstone/engine/rows"
	"padstone/engine/watermark"
	"padstone/internal/fault"
)

// Durability says when a commit counts as durable.
type Durability string

const (
	// Frontier syncs in the background whenever somebody waits; the default.
	Frontier Durability = "frontier"
	// Sync syncs every commit before it becomes visible.
	Sync Durability = "sync"
	// None writes no log: a crash loses the job. For scratch work. A store that is closed in order is complete all the same.
	None Durability = "none"
)

// Durabilities lists them all.
var Durabilities = []Durability{Frontier, Sync, None}

// FormatVersion is the version of the row layouts. A store with a later version is refused, and so is one from before formatOldest;
// another earlier one is read and becomes of this version. 2: contents. 3: side inputs by pane, written ahead. 4: rows under numbers
// that stand for the names of transforms. 5: data of blocks apart from their headers. 6: contents in segments.
const (
	FormatVersion = 6
	formatOldest  = 6
)

var metaFormat = []byte("format")

// FS is a file system: the disk, or one of pebble's for tests.
type FS = vfs.FS

// Config configures a Store.
type Config struct {
	Dir        string // created if missing; one process at a time
	FS         FS     // nil: the disk
	Durability Durability
	Cache      *Cache       // block cache, which stores may have in common; nil: one of 16 MiB
	Waiting    *Outstanding // takes what the disk is asked and has not answered yet; may be nil
	MemTable   int          // memtable bytes of a store that has its cache alone, see memTable; default 16 MiB
	Logger     *zap.Logger
}

// A store has so many memtables at most: one that takes writes, the others on their way to disk.
const (
	memTablesMax    = 4
	memTableDefault = 16 << 20
)

// Cache is a block cache, and a count of the stores that are open on it.
type Cache struct {
	blocks *pebble.Cache
	stores atomic.Int64
}

// NewCache makes a cache of so many bytes for a store whose memtables have memTable bytes. Pebble takes memtables out of what it is
// given, the one that fills and the one that is flushed: without room for them nothing would be cached.
func NewCache(bytes int64, memTable int) *Cache {
	return &Cache{blocks: pebble.NewCache(bytes + 2*int64(memTable))}
}

// Share returns the cache for one more holder, who closes it, too.
func (c *Cache) Share() *Cache {
	c.blocks.Ref()
	return c
}

// Close gives the cache up; stores that are open keep it.
func (c *Cache) Close() { c.blocks.Unref() }

// memTable is the size of the memtables of a store that is opened when n are, itself included. Each may have several, and those that came
// earlier keep their size: n² keeps the sum within twice what the first may have, and a little for each.
func memTable(alone int, n int64) uint64 {
	const least = 1 << 20
	return uint64(max(int64(alone)/(n*n), min(least, int64(alone))))
}

// Store is an open database. Commit is called by one goroutine; reads (Bundle, Scan) may be concurrent.
type Store struct {
	db         *pebble.DB
	cache      *Cache
	guard      *guard
	frontier   vfs.File // see frontier.go
	fs         vfs.FS   // the guard
	dir        string
	durability Durability
	log        *zap.Logger
	numbers    Numbering // set before the first commit
	segments   *segments
	committing sync.Mutex // held by Commit, and by who has to know all that was committed

	// Of the committing goroutine only.
	dropping uint64                         // sequence of the commit that is being made, or of the next one
	blockSeq uint64                         // last sequence given to a block
	holds    map[uint32]*watermark.Multiset // number of a stage → watermark holds
	contents map[rows.ContentID]*content    // of committed bundles
	referred map[uint64][]rows.ContentID    // sequence of a waiting block → what it refers to
	side     map[uint32]*sideIndex          // number of an edge → its windows that expire

	manifest   atomic.Bool   // pebble has begun one since the store was opened
	contentSeq atomic.Uint64 // last id given to a content or to a run of side input rows
	scratchSeq atomic.Uint64 // last name given to a scratch file

	mu struct {
		sync.Mutex
		applied uint64 // sequence of the last applied commit
		durable uint64 // frontier: every commit up to it is on disk
		wanted  uint64 // highest sequence somebody waits for
		err     error  // why the store has failed; sticky
		closed  bool
		wake    chan struct{} // closed and replaced when durable, err or closed changes
	}
	failed chan struct{} // closed when mu.err is set
	kick   chan struct{} // 1-buffered: the syncer has work
	synced chan struct{} // closed when the syncer has ended
}

// Open opens or creates the database.
func Open(c Config) (*Store, error) {
	if c.MemTable == 0 {
		c.MemTable = memTableDefault
	}
	if c.Cache == nil {
		c.Cache = NewCache(16<<20, c.MemTable)
		defer c.Cache.Close()
	}
	if c.Durability == "" {
		c.Durability = Frontier
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	s := &Store{
		dir: c.Dir, durability: c.Durability, log: c.Logger, cache: c.Cache,
		kick: make(chan struct{}, 1), synced: make(chan struct{}), failed: make(chan struct{}),
	}
	s.mu.wake = make(chan struct{})
	s.guard = newGuard(c.FS, s.fail)
	s.guard.waiting = c.Waiting
	s.fs = s.guard
	s.segments = newSegments(s.guard, c.Dir, c.FS != vfs.Default, c.Durability == None)
	s.guard.barrier = s.segments.barrier
	c.Cache.stores.Add(1)
	if err := s.open(c); err != nil {
		c.Cache.stores.Add(-1)
		return nil, s.openError(err)
	}
	go s.syncer()
	return s, nil
}

// open opens the database and reads what Commit goes on from. After an error the database is closed.
func (s *Store) open(c Config) error {
	if err := s.checkClean(); err != nil {
		return err
	}
	db, err := pebble.Open(c.Dir, s.options(c))
	if err != nil {
		s.guard.tidy()
		return err
	}
	s.db = db
	err = errors.Join(s.checkFormat(), s.beginManifest(), s.load(), s.emptyScratch(), s.emptyCopies(), s.begun(), s.openFrontier())
	if err == nil {
		err = s.Err()
	}
	if err != nil {
		s.guard.freeze(nil) // or closing would change what is to be looked at, or wait for a disk
		err = errors.Join(err, db.Close())
		s.guard.tidy()
		return err
	}
	return nil
}

func (s *Store) options(c Config) *pebble.Options {
	return &pebble.Options{
		FS:                          s.guard,
		Merger:                      concatenate,
		Cache:                       c.Cache.blocks,
		MemTableSize:                memTable(c.MemTable, c.Cache.stores.Load()),
		FormatMajorVersion:          pebble.FormatNewest,
		MemTableStopWritesThreshold: memTablesMax,
		MaxOpenFiles:                256,
		DisableWAL:                  c.Durability == None,
		Logger:                      quietLogger{c.Logger},
		EventListener: &pebble.EventListener{
			// Compactions that cannot read or write. Pebble would try them again at once, for ever.
			BackgroundError: s.guard.freeze,
			ManifestCreated: func(info pebble.ManifestCreateInfo) { s.manifest.Store(info.Err == nil) },
			// Without it pebble would end the process.
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				s.guard.freeze(corrupt("the job's store is corrupt: %s: %w", info.Path, info.Details))
			},
		},
	}
}

// Remove removes the store in dir, which must be closed. fs is nil for the disk.
func Remove(fs FS, dir string) error {
	if fs == nil {
		fs = vfs.Default
	}
	if err := fs.RemoveAll(dir); err != nil {
		return fault.New(fault.Environment, "store-write", "cannot remove the job's store: %w", err)
	}
	return nil
}

func (s *Store) checkFormat() error {
	key := append(rows.Prefix(rows.Meta, 0, 0), metaFormat...)
	sync := pebble.Sync
	if s.durability == None {
		sync = pebble.NoSync
	}
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return s.db.Set(key, binary.BigEndian.AppendUint32(nil, FormatVersion), sync)
	}
	if err != nil {
		return readError(err)
	}
	earlier := len(v) == 4 && binary.BigEndian.Uint32(v) >= formatOldest && binary.BigEndian.Uint32(v) < FormatVersion
	if !earlier && (len(v) != 4 || binary.BigEndian.Uint32(v) != FormatVersion) {
		err = fault.New(fault.Corruption, "store-format", "the job's store has format %x, this binary reads %d", v, FormatVersion)
	}
	if err = errors.Join(err, closer.Close()); err != nil || !earlier {
		return err
	}
	return s.db.Set(key, binary.BigEndian.AppendUint32(nil, FormatVersion), sync)
}

// beginManifest makes sure that pebble writes to a manifest of its own. It begins one with the first table, and what it replays when it
// opens gives it that; but a store whose first opening was cut short by a crash has nothing to replay. A checkpoint that is taken before
// pebble has begun a manifest has an empty one, and cannot be opened.
func (s *Store) beginManifest() error {
	if s.manifest.Load() {
		return nil
	}
	key := append(rows.Prefix(rows.Meta, 0, 0), metaFormat...)
	err := s.db.Set(key, binary.BigEndian.AppendUint32(nil, FormatVersion), pebble.NoSync)
	return errors.Join(err, s.db.Flush())
}

// Close waits for the syncer and closes the database. Bundles and iterators must be closed before.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		return nil
	}
	s.mu.closed = true
	s.broadcastLocked()
	s.mu.Unlock()
	close(s.kick)
	<-s.synced
	defer s.cache.stores.Add(-1)
	err := errors.Join(s.ended(), s.frontier.Close())
	if cerr := s.db.Close(); err == nil {
		err = cerr
	}
	if cerr := s.segments.close(); err == nil {
		err = cerr
	}
	s.guard.tidy()
	if s.Err() != nil {
		return nil // whoever needs to know knows; there is nothing that closing could lose
	}
	if err != nil {
		return fault.New(fault.Environment, "store-close", "cannot close the job's store: %w", err)
	}
	return nil
}

// fail records why the store takes no more commits.
func (s *Store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.err == nil {
		s.mu.err = diskError("write", err)
		s.log.Error("store stopped", zap.Error(s.mu.err))
		close(s.failed)
	}
	s.broadcastLocked()
}

// Err returns why the store has failed, or nil.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.err
}

// Failed is closed when the store fails: it takes no more commits, and nothing more becomes durable. Closed and opened again it goes on
// from what is on disk, as after a crash.
func (s *Store) Failed() <-chan struct{} { return s.failed }

func (s *Store) broadcastLocked() {
	close(s.mu.wake)
	s.mu.wake = make(chan struct{})
}

// quietLogger passes pebble's own log on at debug level: compactions are no news to a user.
type quietLogger struct{ log *zap.Logger }

func (l quietLogger) Infof(format string, args ...any)  { l.log.Debug(fmt.Sprintf(format, args...)) }
func (l quietLogger) Errorf(format string, args ...any) { l.log.Warn(fmt.Sprintf(format, args...)) }

// Fatalf is for what pebble holds impossible; it must not return.
func (l quietLogger) Fatalf(format string, args ...any) { l.log.Fatal(fmt.Sprintf(format, args...)) }
