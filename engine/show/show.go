package show

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	pipepb "github.com/apache/beam/sdks/v2/go/pkg/beam/model/pipeline_v1"

	"padstone/engine/element"
)

// Max bounds what is shown of one value, in bytes.
const Max = 1 << 10

// itemsMax bounds the items of an iterable that are shown, depthMax the nesting.
const (
	itemsMax = 100
	depthMax = 32
)

// Coders that are read. Spec: beam_runner_api.proto StandardCoders.
const (
	coderBytes          = "beam:coder:bytes:v1"
	coderString         = "beam:coder:string_utf8:v1"
	coderBool           = "beam:coder:bool:v1"
	coderVarint         = "beam:coder:varint:v1"
	coderDouble         = "beam:coder:double:v1"
	coderKV             = "beam:coder:kv:v1"
	coderIterable       = "beam:coder:iterable:v1"
	coderNullable       = "beam:coder:nullable:v1"
	coderLengthPrefix   = "beam:coder:length_prefix:v1"
	coderGlobalWindow   = "beam:coder:global_window:v1"
	coderIntervalWindow = "beam:coder:interval_window:v1"
)

// errUnknown says that a coder, or what it has written, is not understood.
var errUnknown = errors.New("not understood")

// Value words a value in its nested encoding by the coder.
func Value(coders map[string]*pipepb.Coder, coder string, data []byte) string {
	r := &reader{coders: coders, data: data}
	var b strings.Builder
	if err := r.nested(&b, coder, 0); err != nil || len(r.data) > 0 {
		return Bytes(data)
	}
	return shorten(b.String(), len(data))
}

// Whole words a value that the coder has written whole, without a length in front.
func Whole(coders map[string]*pipepb.Coder, coder string, data []byte) string {
	r := &reader{coders: coders}
	var b strings.Builder
	r.outer(&b, coders[coder], data, 0)
	return shorten(b.String(), len(data))
}

// Bytes words bytes of which nothing is known.
func Bytes(data []byte) string {
	part := data[:min(len(data), Max)]
	text := 0
	for rest := part; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		if r != utf8.RuneError && unicode.IsPrint(r) {
			text += n
		}
		rest = rest[n:]
	}
	if text*2 >= len(part) {
		return shorten(strconv.Quote(string(part)), len(data))
	}
	return shorten("0x"+hex.EncodeToString(part[:min(len(part), Max/2)]), len(data))
}

// shorten cuts a text that is too long, or was made of less than there is.
func shorten(text string, size int) string {
	if len(text) <= Max && size <= Max {
		return text
	}
	end := min(len(text), Max)
	for end > 0 && end < len(text) && !utf8.RuneStart(text[end]) {
		end--
	}
	return fmt.Sprintf("%s… (%d bytes in all)", text[:end], size)
}

// reader takes a value apart.
type reader struct {
	coders map[string]*pipepb.Coder
	data   []byte
}

func (r *reader) take(n int) ([]byte, error) {
	if n < 0 || n > len(r.data) {
		return nil, errUnknown
	}
	taken := r.data[:n]
	r.data = r.data[n:]
	return taken, nil
}

func (r *reader) uvarint() (uint64, error) {
	v, n := binary.Uvarint(r.data)
	if n <= 0 {
		return 0, errUnknown
	}
	r.data = r.data[n:]
	return v, nil
}

// prefixed takes bytes behind their length.
func (r *reader) prefixed() ([]byte, error) {
	n, err := r.uvarint()
	if err != nil || n > uint64(len(r.data)) {
		return nil, errUnknown
	}
	return r.take(int(n))
}

// nested words what comes next. Spec: beam_runner_api.proto StandardCoders.
func (r *reader) nested(b *strings.Builder, id string, depth int) error {
	c := r.coders[id]
	if c == nil || depth > depthMax {
		return errUnknown
	}
	of := c.GetComponentCoderIds()
	switch c.GetSpec().GetUrn() {
	case coderBytes, coderString:
		data, err := r.prefixed()
		if err == nil {
			r.outer(b, c, data, depth)
		}
		return err
	case coderLengthPrefix:
		data, err := r.prefixed()
		if err == nil && len(of) == 1 {
			r.outer(b, r.coders[of[0]], data, depth+1)
		}
		return err
	case coderKV:
		return r.tuple(b, of, depth)
	case coderIterable:
		return r.iterable(b, of, depth)
	case coderNullable:
		present, err := r.take(1)
		if err != nil || len(of) != 1 {
			return errUnknown
		}
		if present[0] == 0 {
			b.WriteString("null")
			return nil
		}
		return r.nested(b, of[0], depth+1)
	}
	return r.scalar(b, c.GetSpec().GetUrn())
}

// scalar words a value of a coder that has no parts.
func (r *reader) scalar(b *strings.Builder, coder string) error {
	switch coder {
	case coderVarint:
		v, err := r.uvarint()
		fmt.Fprint(b, int64(v))
		return err
	case coderBool:
		v, err := r.take(1)
		if err == nil {
			fmt.Fprint(b, v[0] != 0)
		}
		return err
	case coderDouble:
		v, err := r.take(8)
		if err == nil {
			fmt.Fprint(b, math.Float64frombits(binary.BigEndian.Uint64(v)))
		}
		return err
	case coderGlobalWindow:
		b.WriteString("global window")
		return nil
	case coderIntervalWindow:
		v, err := r.take(8)
		if err != nil {
			return err
		}
		end := element.Time(binary.BigEndian.Uint64(v) ^ (1 << 63))
		span, err := r.uvarint()
		fmt.Fprintf(b, "[%v, %v)", end.Add(-int64(span)), end)
		return err
	}
	return errUnknown
}

// outer words data that a coder has written whole, without its length.
func (r *reader) outer(b *strings.Builder, c *pipepb.Coder, data []byte, depth int) {
	switch spec := c.GetSpec(); {
	case spec.GetUrn() == coderString:
		b.WriteString(strconv.Quote(string(data[:min(len(data), 2*Max)])))
		return
	case strings.Contains(className(spec.GetPayload()), "FastPrimitivesCoder"):
		p := &reader{data: data}
		var text strings.Builder
		if p.primitive(&text, false, depth) == nil && len(p.data) == 0 {
			b.WriteString(text.String())
			return
		}
	case spec.GetUrn() != coderBytes && c != nil:
		p := &reader{coders: r.coders, data: data}
		var text strings.Builder
		if id := r.idOf(c); p.nested(&text, id, depth+1) == nil && len(p.data) == 0 {
			b.WriteString(text.String())
			return
		}
	}
	b.WriteString(Bytes(data))
}

func (r *reader) idOf(c *pipepb.Coder) string {
	for id, other := range r.coders {
		if other == c {
			return id
		}
	}
	return ""
}

// tuple words the parts of a kv.
func (r *reader) tuple(b *strings.Builder, of []string, depth int) error {
	b.WriteString("(")
	for i, id := range of {
		if i > 0 {
			b.WriteString(", ")
		}
		if err := r.nested(b, id, depth+1); err != nil {
			return err
		}
	}
	b.WriteString(")")
	return nil
}

// iterable words the items of an iterable of known length; one of unknown length comes in runs.
func (r *reader) iterable(b *strings.Builder, of []string, depth int) error {
	head, err := r.take(4)
	if err != nil || len(of) != 1 {
		return errUnknown
	}
	left := int64(int32(binary.BigEndian.Uint32(head)))
	runs := left < 0
	b.WriteString("[")
	for n := 0; ; n++ {
		if runs && left <= 0 {
			more, err := r.uvarint()
			if err != nil {
				return err
			}
			left = int64(more)
		}
		if left <= 0 {
			break
		}
		left--
		to := b
		if n >= itemsMax {
			to = &strings.Builder{}
		}
		if n > 0 {
			to.WriteString(", ")
		}
		if n == itemsMax {
			b.WriteString(", …")
		}
		if err := r.nested(to, of[0], depth+1); err != nil {
			return err
		}
	}
	b.WriteString("]")
	return nil
}
