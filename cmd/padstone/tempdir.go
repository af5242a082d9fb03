package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"go.uber.org/zap"

	"padstone/harness/docker"
)

// A server without --data-dir has a temporary one, which nobody starts a server on again. If it was killed, its directory and containers
// are left, and go when any server of its user starts on the machine: docs/decisions/0050-the-lock-of-a-directory-tells-who-is-dead.md.

// ownerFileName is the file in a temporary data directory that its server has locked for as long as it lives. It holds the address of the
// Docker Engine.
const ownerFileName = "OWNER"

const tempDirPrefix = "padstone-run-"

// newTempDir makes a temporary data directory and returns what removes it, and the file whose lock says that its server lives.
func newTempDir(engine string) (dir string, remove func() error, owner *os.File, err error) {
	if dir, err = os.MkdirTemp("", tempDirPrefix); err != nil {
		return "", nil, nil, fmt.Errorf("data directory: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, ownerFileName), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			_, err = fmt.Fprintln(file, engine) // only now: whoever finds it empty leaves it alone
		}
	}
	if err != nil {
		return "", nil, nil, errors.Join(fmt.Errorf("data directory: %w", err), file.Close(), os.RemoveAll(dir))
	}
	return dir, func() error { return errors.Join(os.RemoveAll(dir), file.Close()) }, file, nil
}

// lostDir is the temporary data directory of a server that was killed.
type lostDir struct {
	path  string
	owner *os.File // whose lock is ours
}

// lostDirs returns the temporary data directories, with that Docker Engine, of this user's servers that were killed. They are the caller's,
// until it closes them.
func lostDirs(engine string) (lost []lostDir) {
	paths, _ := filepath.Glob(filepath.Join(os.TempDir(), tempDirPrefix+"*")) // the pattern is well-formed
	for _, path := range paths {
		if !ours(path) {
			continue
		}
		file, err := os.OpenFile(filepath.Join(path, ownerFileName), os.O_RDWR|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(file, 4096)) // before the lock, which one that begins has yet to take
		if err == nil && string(text) == engine+"\n" && syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			lost = append(lost, lostDir{path, file})
			continue
		}
		_ = file.Close() // nothing was written
	}
	return lost
}

// ours says that a directory is this user's: everybody can make one in the directory of temporary files.
func ours(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// removeLost removes the containers of servers with a temporary data directory that were killed, the staged files of their other harnesses,
// and the directories. What cannot be asked of the Engine now is left for the next server.
func removeLost(ctx context.Context, containers *docker.Engine, engine string, log *zap.Logger) {
	for _, dir := range lostDirs(engine) {
		err := dir.remove(ctx, containers, log)
		if err = errors.Join(err, dir.owner.Close()); err != nil {
			log.Debug("a temporary data directory of a server that was killed is left", zap.String("dir", dir.path), zap.Error(err))
		}
	}
}

func (d lostDir) remove(ctx context.Context, containers *docker.Engine, log *zap.Logger) error {
	id, err := os.ReadFile(filepath.Join(d.path, identityFileName))
	switch owner := strings.TrimSpace(string(id)); {
	case errors.Is(err, os.ErrNotExist): // it had no time for containers
	case err != nil:
		return err
	case owner != "":
		n, err := containers.ReapOf(ctx, owner)
		if err != nil {
			return err
		}
		if n > 0 {
			log.Info("containers removed of a server that was killed", zap.Int("count", n), zap.String("dir", d.path))
		}
		if err := os.RemoveAll(stagingDir(owner, d.path)); err != nil {
			return err
		}
	}
	return os.RemoveAll(d.path)
}
