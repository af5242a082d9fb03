package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf8"
)

// tailBytesMax bounds what a console remembers of the script's stderr: enough for the end of a long traceback.
const tailBytesMax = 64 << 10

// console shares one stderr between the script, our own lines and, on a terminal, one live line that is redrawn in place.
// Safe for concurrent use.
type console struct {
	width func() int

	mu struct {
		sync.Mutex
		w      io.Writer
		live   string // shown now, "" for none
		midway bool   // the script's last byte was no line end: our lines must not glue to it
		tail   []byte // the end of what the script wrote
	}
}

func newConsole(w io.Writer, width func() int) *console {
	c := &console{width: width}
	c.mu.w = w
	return c
}

// Write passes on what the script wrote to its stderr.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.eraseLocked()
	n, err := c.mu.w.Write(p)
	if len(p) > 0 {
		c.mu.midway = p[len(p)-1] != '\n'
		c.mu.tail = append(c.mu.tail, p...)
		if over := len(c.mu.tail) - tailBytesMax; over > 0 {
			c.mu.tail = append(c.mu.tail[:0], c.mu.tail[over:]...)
		}
	}
	c.drawLocked()
	return n, err
}

// printf writes one line of ours, above the live line. A write error is not reported: there is nowhere left to report it to.
func (c *console) printf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.eraseLocked()
	if c.mu.midway {
		fmt.Fprintln(c.mu.w)
		c.mu.midway = false
	}
	fmt.Fprintln(c.mu.w, strings.TrimRight(visible(fmt.Sprintf(format, args...), "\n\t"), "\n"))
	c.drawLocked()
}

// own is a writer for whole lines of ours, such as a server's log.
func (c *console) own() io.Writer { return ownLines{c} }

type ownLines struct{ c *console }

func (o ownLines) Write(p []byte) (int, error) {
	o.c.printf("%s", bytes.TrimRight(p, "\n"))
	return len(p), nil
}

// setLive replaces the live line; "" takes it away. Without a terminal it does nothing.
func (c *console) setLive(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.width() == 0 {
		return
	}
	c.eraseLocked()
	c.mu.live = inLine(line)
	c.drawLocked()
}

// scriptTail returns the end of what the script wrote to stderr.
func (c *console) scriptTail() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.mu.tail)
}

func (c *console) eraseLocked() {
	if c.mu.live != "" && !c.mu.midway {
		io.WriteString(c.mu.w, "\r\x1b[K")
	}
}

// drawLocked leaves the cursor at the start of the line, so that what the script prints to a stdout on the same terminal
// overwrites the live line instead of following it.
func (c *console) drawLocked() {
	if width := c.width(); c.mu.live != "" && !c.mu.midway && width > 0 {
		io.WriteString(c.mu.w, "\r\x1b[K"+cut(c.mu.live, width-1)+"\r")
	}
}

// cut shortens s to at most n characters.
func cut(s string, n int) string {
	if n <= 0 || utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}
