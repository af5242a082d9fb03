package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// terminal is what a command may touch of the process that it runs in; tests give it buffers.
type terminal struct {
	in     *os.File // handed on to a script
	out    io.Writer
	err    io.Writer
	getenv func(string) string
	// width returns the columns of the terminal behind err, 0 when err is none: then nothing is redrawn in place.
	width func() int
}

func newTerminal() *terminal {
	return &terminal{
		in:     os.Stdin,
		out:    os.Stdout,
		err:    os.Stderr,
		getenv: os.Getenv,
		width:  func() int { return columns(os.Stderr) },
	}
}

// columns returns the width of the terminal behind f, or 0.
func columns(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

// isTTY tells whether f is a terminal.
func isTTY(f *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil
}
