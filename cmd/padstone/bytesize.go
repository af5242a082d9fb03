package main

import (
	"strings"

	"gopkg.in/yaml.v3"

	"padstone/internal/bytesize"
)

// byteSize is a number of bytes; as a flag and in the file with or without a unit of GOMEMLIMIT's: B, KiB, MiB, GiB, TiB.
type byteSize int64

// String prints the size in the largest unit that leaves no rest; "" for 0.
func (b *byteSize) String() string { return bytesize.Text(int64(*b)) }

// Set parses the flag.
func (b *byteSize) Set(s string) error {
	if strings.TrimSpace(s) == "" {
		*b = 0
		return nil
	}
	n, err := bytesize.Parse(s)
	*b = byteSize(n)
	return err
}

// Type names the flag's value in the usage text.
func (b *byteSize) Type() string { return "bytes" }

// UnmarshalYAML parses the value in the file.
func (b *byteSize) UnmarshalYAML(node *yaml.Node) error { return b.Set(node.Value) }

// sizeText prints a number of bytes.
func sizeText(n int64) string { return bytesize.Text(n) }
