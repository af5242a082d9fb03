package main

import "testing"

func TestByteSize(t *testing.T) {
	for text, want := range map[string]struct {
		bytes byteSize
		text  string
	}{
		"": {0, ""}, "1": {1, "1B"}, "512MiB": {512 << 20, "512MiB"}, " 2 GiB ": {2 << 30, "2GiB"}, "1536KiB": {1536 << 10, "1536KiB"},
		"1073741824": {1 << 30, "1GiB"}, "3B": {3, "3B"},
	} {
		var b byteSize
		if err := b.Set(text); err != nil || b != want.bytes || b.String() != want.text {
			t.Errorf("%q: %d, %q, %v", text, b, b.String(), err)
		}
	}
	for _, text := range []string{"0", "-1", "1.5GiB", "512MB", "x", "MiB", "99999999TiB"} {
		var b byteSize
		if err := b.Set(text); err == nil {
			t.Errorf("%q is taken for %d bytes", text, b)
		}
	}
}
