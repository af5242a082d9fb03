package main

import (
	"strings"
	"testing"
)

func TestVisible(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "",
		"plain, 日本, 😀, \u00ad":         "plain, 日本, 😀, \u00ad",
		"two\nlines\tand a cell":       `two\nlines\tand a cell`,
		"\x1b]0;title\x07 \x00 \u009b": `\x1b]0;title\a \x00 \u009b`,
		"it's \x7f":                    `it's \x7f`,
	} {
		if got := inLine(text); got != want {
			t.Errorf("%q: got %q", text, got)
		}
	}
	var b strings.Builder
	if n, err := (visibly{&b}).Write([]byte("a\n\tb\x1b[2J\r")); n != 9 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if b.String() != "a\n\tb\\x1b[2J\\r" {
		t.Errorf("got %q", b.String())
	}
}

// TestNamesStayInTheirCells checks that a name does not break a table's rows or columns.
func TestNamesStayInTheirCells(t *testing.T) {
	var b strings.Builder
	table := newTable(&b, "NAME", "STATE")
	table.row("a\nb\tc", "DONE")
	if err := table.flush(); err != nil || b.String() != "NAME     STATE\n"+`a\nb\tc  DONE`+"\n" {
		t.Errorf("%v, got %q", err, b.String())
	}
}
