package codertest

import (
	"math"
	"reflect"

	"padstone/connector/kafka/row"
)

// Value is one of: string (UTF-8), Raw, bool, int64, float64, nil, KV, []any (iterables), Sharded, Timer, Windowed, row.Row, and the
// windows Global, IntervalWindow and Custom.
type Value = any

// Raw is bytes: those of the bytes coder, or what is behind a length prefix in a coder that nobody here knows.
type Raw string

// KV is a pair.
type KV struct{ Key, Value Value }

// Sharded is a key with the id of its shard.
type Sharded struct {
	ShardID Raw
	Key     Value
}

// Global is the global window.
type Global struct{}

// IntervalWindow is a window by its end, exclusive, and its length, in milliseconds.
type IntervalWindow struct {
	End  int64
	Span uint64
}

// Custom is a window of the user's; its coder writes the maximum timestamp in front.
type Custom struct {
	MaxTimestamp int64
	Window       Value
}

// Pane is a pane with its two indices as they are on the wire, 0 where they are not.
type Pane struct {
	First, Last   bool
	Timing        uint8 // early, on time, late, unknown
	Index, OnTime int64
	Metadata      Raw // an encoded ElementMetadata, "" for none
}

// Windowed is a value with its timestamp, windows and pane.
type Windowed struct {
	Value     Value
	Timestamp int64
	Windows   []Value
	Pane      Pane
}

// Timer is a timer that is set or cleared. A cleared one has only a key, a tag and windows.
type Timer struct {
	Key        Value
	Tag        string
	Windows    []Value
	Clear      bool
	Fire, Hold int64
	Pane       Pane
}

// Equal compares values; floats by their bits, so that NaN equals itself.
func Equal(a, b Value) bool { return reflect.DeepEqual(plain(a), plain(b)) }

// plain replaces floats by their bits and decimals by their text, everywhere in a value.
func plain(v Value) Value {
	switch v := v.(type) {
	case float64:
		return math.Float64bits(v)
	case row.Decimal:
		return v.String()
	case KV:
		return KV{plain(v.Key), plain(v.Value)}
	case []any:
		return each(v)
	case row.Row:
		return row.Row(each(v))
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = plain(e)
		}
		return out
	case []row.Entry:
		out := make([]row.Entry, len(v))
		for i, e := range v {
			out[i] = row.Entry{Key: plain(e.Key), Value: plain(e.Value)}
		}
		return out
	case Sharded:
		return Sharded{v.ShardID, plain(v.Key)}
	case Custom:
		return Custom{v.MaxTimestamp, plain(v.Window)}
	case Windowed:
		v.Value, v.Windows = plain(v.Value), each(v.Windows)
		return v
	case Timer:
		v.Key, v.Windows = plain(v.Key), each(v.Windows)
		return v
	}
	return v
}

func each(values []any) []any {
	out := make([]any, len(values))
	for i, v := range values {
		out[i] = plain(v)
	}
	return out
}
