package jobserver

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"padstone/internal/fault"
)

// lockDir takes the exclusive lock of a data directory; closing the file gives it back, as does the end of the process. A second
// server on the directory fails at once, naming the first one's process.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "LOCK")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fault.New(fault.Environment, "data-dir-unusable", "the data directory cannot be written: %w", err).
			WithHint("choose another --data-dir or change its owner")
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := io.ReadAll(io.LimitReader(file, 32)) // only for the message
		return nil, errors.Join(fault.New(fault.Environment, "data-dir-locked",
			"another server (process %s) uses the data directory %s: %w", strings.TrimSpace(string(owner)), dir, err).
			WithHint("stop that server, or give this one its own --data-dir"), file.Close())
	}
	if err := errors.Join(file.Truncate(0), writeOwner(file)); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s: %w", path, err), file.Close())
	}
	return file, nil
}

func writeOwner(file *os.File) error {
	_, err := file.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}
