package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// byteSize is a number of bytes; as a flag and in the file with or without a unit of GOMEMLIMIT's: B, KiB, MiB, GiB, TiB.
type byteSize int64

var units = []struct {
	name  string
	bytes int64
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// String prints the size in the largest unit that leaves no rest; "" for 0.
func (b *byteSize) String() string {
	n := int64(*b)
	if n == 0 {
		return ""
	}
	for _, u := range units {
		if n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return ""
}

// Set parses the flag.
func (b *byteSize) Set(s string) error {
	number, unit := strings.TrimSpace(s), int64(1)
	if number == "" {
		*b = 0
		return nil
	}
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(n), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64/unit {
		return fmt.Errorf("%q is no size: write bytes, or a number with KiB, MiB or GiB", s)
	}
	*b = byteSize(n * unit)
	return nil
}

// Type names the flag's value in the usage text.
func (b *byteSize) Type() string { return "bytes" }

// UnmarshalYAML parses the value in the file.
func (b *byteSize) UnmarshalYAML(node *yaml.Node) error { return b.Set(node.Value) }

// sizeText prints a number of bytes.
func sizeText(n int64) string {
	b := byteSize(n)
	return b.String()
}
