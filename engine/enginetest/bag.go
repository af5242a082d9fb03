package enginetest

import "padstone/fnapi/fakesdk"

// keptIn is the bag of a step that keeps values until a timer lets them out.
const keptIn = "values"

// Keep appends the value of a keyed element to the bag "values" of its key and window, and returns a timer for the end of that window.
func Keep(c *fakesdk.Context, e fakesdk.Element) (fakesdk.Timer, error) {
	key, err := c.Key(e)
	if err != nil {
		return fakesdk.Timer{}, err
	}
	end := WindowOf(e).Max()
	return fakesdk.Timer{Key: key, Windows: e.Windows, Fire: end, Hold: end, Pane: e.Pane},
		c.Bag(keptIn, key, e.Window()).Append(e.Value[len(key):])
}

// LetOut hands the values that Keep has kept for a timer's key and window to fn, with an element in that window and at the timer's time to
// emit them by, and empties the bag.
func LetOut(c *fakesdk.Context, t fakesdk.Timer, fn func(e fakesdk.Element, values []string) error) error {
	bag := c.Bag(keptIn, t.Key, t.Windows[4:])
	data, err := bag.Read()
	if err != nil {
		return err
	}
	if err := fn(fakesdk.Element{Timestamp: t.Hold, Windows: t.Windows, Pane: t.Pane}, RunOf(data)); err != nil {
		return err
	}
	return bag.Clear()
}
