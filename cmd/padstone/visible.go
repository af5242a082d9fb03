package main

import (
	"io"
	"strconv"
	"strings"
	"unicode"
)

// Names and messages are whatever pipelines, and those who submit them, make of them. A terminal would do what their control characters
// say, and a table fall apart at a line's end.

// visible returns a text with its control characters spelt out, as in a Go string, except for those in kept.
func visible(text, kept string) string {
	spelt := func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune(kept, r) }
	if strings.IndexFunc(text, spelt) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if spelt(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// inLine is visible for what stands in one line.
func inLine(text string) string { return visible(text, "") }

// visibly writes whole texts of several lines, visible.
type visibly struct{ w io.Writer }

// Write implements io.Writer.
func (v visibly) Write(p []byte) (int, error) {
	if _, err := io.WriteString(v.w, visible(string(p), "\n\t")); err != nil {
		return 0, err
	}
	return len(p), nil
}
