package fault_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"padstone/internal/fault"
)

// TestNamed names the transform in errors that others hold, too.
func TestNamed(t *testing.T) {
	shared := fault.New(fault.Environment, "disk-full", "no room: %w", io.ErrShortWrite).WithHint("make some")
	const before = `disk-full: no room: short write (hint: make some)`
	const after = `disk-full: transform "sum": no room: short write (hint: make some)`
	for _, c := range []struct {
		err  error
		want string
	}{
		{shared, after},
		{fmt.Errorf("bundle 7: %w", shared), "bundle 7: " + after},
		{errors.Join(io.EOF, shared), "EOF\n" + after},
		{fault.New(fault.Pipeline, "x", "y").In("other"), `x: transform "other": y`},
		{io.EOF, "EOF"},
	} {
		got := fault.Named(c.err, "sum")
		if got.Error() != c.want {
			t.Errorf("%q, not %q", got, c.want)
		}
		if !errors.Is(got, c.err) {
			t.Errorf("%q is not the error any more that it was made of", got)
		}
		if errors.Is(c.err, shared) {
			if f := fault.Of(got); f.Transform != "sum" || f.Code != "disk-full" || !errors.Is(got, io.ErrShortWrite) {
				t.Errorf("%q carries %+v", got, f)
			}
		}
	}
	if shared.Error() != before {
		t.Errorf("the error that others hold reads %q now", shared)
	}
}
