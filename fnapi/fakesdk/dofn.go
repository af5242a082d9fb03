package fakesdk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// DoFn is user code. Functions that are nil do nothing.
type DoFn struct {
	Start   func(c *Context) error
	Process func(c *Context, in Element) error
	OnTimer func(c *Context, family string, t Timer) error
	Finish  func(c *Context) error
	// Ranges makes the DoFn splittable; then Process is not used.
	Ranges *Ranges
}

// New makes a DoFn of a FunctionSpec's payload.
type New func(payload []byte) (DoFn, error)

// Builtins returns a fresh table of DoFns by URN. KVs are KV<bytes, bytes> unless said otherwise.
func Builtins() map[string]New {
	return map[string]New{
		"fakesdk:identity": func([]byte) (DoFn, error) { return mapping(func(v []byte) ([]byte, error) { return v, nil }), nil },
		// append: bytes -> bytes, with the payload added at the end.
		"fakesdk:append": func(suffix []byte) (DoFn, error) {
			return mapping(func(v []byte) ([]byte, error) { return Nested(append(bytes.Clone(Bytes(v)), suffix...)), nil }), nil
		},
		// key: bytes -> KV with the first payload bytes as the key.
		"fakesdk:key": func(n []byte) (DoFn, error) {
			size, err := strconv.Atoi(string(n))
			return mapping(func(v []byte) ([]byte, error) {
				raw := Bytes(v)
				if len(raw) < size {
					return nil, fmt.Errorf("element %q is shorter than its key", raw)
				}
				return append(Nested(raw[:size]), v...), nil
			}), err
		},
		"fakesdk:repeat":   repeat,
		"fakesdk:drop":     func([]byte) (DoFn, error) { return DoFn{Process: func(*Context, Element) error { return nil }}, nil },
		"fakesdk:fail":     failing,
		"fakesdk:slow":     slow,
		"fakesdk:count":    counting,
		"fakesdk:timer":    timed,
		"fakesdk:side":     sided,
		"fakesdk:finalize": finalizing,
		"fakesdk:range":    ranging,
	}
}

// mapping makes a DoFn of a function of values.
func mapping(f func(value []byte) ([]byte, error)) DoFn {
	return DoFn{Process: func(c *Context, in Element) error {
		out, err := f(in.Value)
		if err != nil {
			return err
		}
		in.Value = out
		return c.Emit("", in)
	}}
}

// repeat emits each element as often as the payload says.
func repeat(payload []byte) (DoFn, error) {
	n, err := strconv.Atoi(string(payload))
	return DoFn{Process: func(c *Context, in Element) error {
		for range n {
			if err := c.Emit("", in); err != nil {
				return err
			}
		}
		return nil
	}}, err
}

// failing fails on elements that contain the payload, and on all if it is empty.
func failing(payload []byte) (DoFn, error) {
	return DoFn{Process: func(c *Context, in Element) error {
		if bytes.Contains(in.Value, payload) {
			return errors.New("Traceback (most recent call last): poison element [while running '" + c.Name() + "']")
		}
		return c.Emit("", in)
	}}, nil
}

// slow waits for as long as the payload says ("5ms") with each element.
func slow(payload []byte) (DoFn, error) {
	pause, err := time.ParseDuration(string(payload))
	return DoFn{Process: func(c *Context, in Element) error {
		timer := time.NewTimer(pause)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.Done():
			return context.Canceled
		}
		return c.Emit("", in)
	}}, err
}

// counting counts each key's elements in the bag "count" and emits KV(key, count in decimal).
func counting([]byte) (DoFn, error) {
	return DoFn{Process: func(c *Context, in Element) error {
		key, err := c.Key(in)
		if err != nil {
			return err
		}
		bag := c.Bag("count", key, in.Window())
		old, err := bag.Read()
		if err != nil {
			return err
		}
		var n uint64
		if len(old) > 0 {
			n, _ = binary.Uvarint(old)
		}
		n++
		if err := errors.Join(bag.Clear(), bag.Append(binary.AppendUvarint(nil, n))); err != nil {
			return err
		}
		in.Value = append(bytes.Clone(key), Nested(strconv.AppendUint(nil, n, 10))...)
		return c.Emit("", in)
	}}, nil
}

// timed sets the timer "timer" at the element's time plus the payload in milliseconds; when it fires, emits KV(key, "fired").
func timed(payload []byte) (DoFn, error) {
	delay, err := strconv.ParseInt(string(payload), 10, 64)
	return DoFn{
		Process: func(c *Context, in Element) error {
			key, err := c.Key(in)
			if err != nil {
				return err
			}
			at := in.Timestamp + delay
			return c.SetTimer("timer", Timer{Key: key, Windows: in.Windows, Fire: at, Hold: at, Pane: in.Pane})
		},
		OnTimer: func(c *Context, _ string, t Timer) error {
			value := append(bytes.Clone(t.Key), Nested([]byte("fired"))...)
			return c.Emit("", Element{Timestamp: t.Hold, Windows: t.Windows, Pane: t.Pane, Value: value})
		},
	}, err
}

// sided emits each element with the size of the iterable side input "side" in bytes.
func sided([]byte) (DoFn, error) {
	return DoFn{Process: func(c *Context, in Element) error {
		side, err := c.SideInput("side", in.Window())
		if err != nil {
			return err
		}
		in.Value = Nested(fmt.Appendf(nil, "%s:%d", Bytes(in.Value), len(side)))
		return c.Emit("", in)
	}}, nil
}

// finalizing is identity with a finalization callback.
func finalizing([]byte) (DoFn, error) {
	return DoFn{Process: func(c *Context, in Element) error {
		c.OnFinalize(func() error { return nil })
		return c.Emit("", in)
	}}, nil
}
