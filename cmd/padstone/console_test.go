package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestConsoleKeepsLinesApart(t *testing.T) {
	var out bytes.Buffer
	c := newConsole(&out, func() int { return 0 })
	fmt.Fprint(c, "half a line")
	c.printf("ours\n")
	c.setLive("never shown without a terminal")
	fmt.Fprint(c, "next\n")
	fmt.Fprint(c.own(), "a log line\n")
	if got, want := out.String(), "half a line\nours\nnext\na log line\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := c.scriptTail(); got != "half a linenext\n" {
		t.Errorf("the script's tail %q has what the script did not write", got)
	}
}

func TestConsoleLiveLine(t *testing.T) {
	var out bytes.Buffer
	c := newConsole(&out, func() int { return 10 })
	c.setLive("0123456789abc")
	c.printf("ours")
	fmt.Fprint(c, "half")
	c.setLive("")
	const erase = "\r\x1b[K"
	live := erase + "01234567…\r"
	if got, want := out.String(), live+erase+"ours\n"+live+erase+"half"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestConsoleTailIsBounded(t *testing.T) {
	var out bytes.Buffer
	c := newConsole(&out, func() int { return 0 })
	for i := range 100 {
		fmt.Fprintf(c, "%d %s\n", i, strings.Repeat("x", 4096))
	}
	if tail := c.scriptTail(); len(tail) != tailBytesMax || !strings.Contains(tail, "\n99 ") {
		t.Errorf("tail of %d bytes", len(tail))
	}
}
