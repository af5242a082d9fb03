package window

import (
	"testing"

	"padstone/engine/coder"
	"padstone/engine/plan"
)

// TestKey checks which bytes of a window SDKs put into the keys of state.
func TestKey(t *testing.T) {
	interval := Span{Start: 0, End: 10}.Append(nil)
	custom := append(coder.AppendTime(nil, 9), 3, 'a', 'b', 'c')
	for _, c := range []struct {
		coding plan.WindowCoding
		window string
		want   string
		bad    bool
	}{
		{coding: plan.GlobalWindow},
		{coding: plan.IntervalWindow, window: string(interval), want: string(interval)},
		{coding: plan.CustomWindow, window: string(custom), want: "abc"},
		{coding: plan.CustomWindow, window: string(custom[:10]), bad: true},
		{coding: plan.CustomWindow, window: "", bad: true},
	} {
		got, err := Key(c.coding, []byte(c.window))
		if (err != nil) != c.bad || string(got) != c.want {
			t.Errorf("%s %x: %q, %v; want %q", c.coding, c.window, got, err, c.want)
		}
	}
}
