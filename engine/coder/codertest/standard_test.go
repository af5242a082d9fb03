package codertest_test

import (
	"bytes"
	"os"
	"testing"

	"padstone/engine/coder/codertest"
	"padstone/translate/urn"
)

// TestStandardCoders decodes and encodes every example of the SDK's standard_coders.yaml.
func TestStandardCoders(t *testing.T) {
	python := os.Getenv("PADSTONE_PYTHON")
	if python == "" {
		t.Skip("PADSTONE_PYTHON names no Python interpreter with apache-beam")
	}
	examples, err := codertest.Standard(python)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, x := range examples {
		seen[x.Coder.URN] = true
		got, rest, err := x.Coder.Decode(x.Encoded, x.Nested)
		if err != nil || len(rest) > 0 || !codertest.Equal(got, x.Value) {
			t.Errorf("%s: decodes to %#v, rest %x, %v\nwant %#v", x.Name(), got, rest, err, x.Value)
			continue
		}
		again, err := x.Coder.Encode(nil, x.Value, x.Nested, nil)
		if err != nil || x.Deterministic && !bytes.Equal(again, x.Encoded) {
			t.Errorf("%s: is encoded as %x, %v", x.Name(), again, err)
			continue
		}
		if back, _, err := x.Coder.Decode(again, x.Nested); err != nil || !codertest.Equal(back, x.Value) {
			t.Errorf("%s: %x decodes to %#v, %v", x.Name(), again, back, err)
		}
		for cut := range x.Encoded {
			if x.Nested {
				if v, rest, err := x.Coder.Decode(x.Encoded[:cut], true); err == nil {
					t.Errorf("%s: the first %d bytes decode to %#v, rest %x", x.Name(), cut, v, rest)
				}
			}
		}
	}
	if len(examples) < 120 {
		t.Errorf("%d examples", len(examples))
	}
	for _, coder := range []string{
		urn.CoderBytes, urn.CoderStringUTF8, urn.CoderBool, urn.CoderVarint, urn.CoderDouble, urn.CoderKV, urn.CoderIterable,
		urn.CoderStateBackedIterable, urn.CoderNullable, urn.CoderShardedKey, urn.CoderTimer, urn.CoderWindowedValue,
		urn.CoderParamWindowedValue, urn.CoderGlobalWindow, urn.CoderIntervalWindow, urn.CoderCustomWindow, codertest.Rows,
	} {
		if !seen[coder] {
			t.Errorf("no example of %s", coder)
		}
	}
	t.Logf("%d examples", len(examples))
}
