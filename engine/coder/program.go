package coder

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"padstone/engine/plan"
)

// ErrMalformed is wrapped by every error about input that does not follow its framing program.
var ErrMalformed = errors.New("malformed encoding")

// depthMax bounds the nesting of a framing program and so the recursion of the scanner.
const depthMax = 64

type opcode uint8

const (
	opFixed opcode = iota
	opVarint
	opLP
	opNullable
	opKV
	opIter
	opSharded
	opWindow
	opWindowed
	opTimer
)

// node is one constructor of a framing program.
type node struct {
	op   opcode
	size int // the encoded size in bytes when every value has the same one, else -1
	win  plan.WindowCoding
	a, b *node
}

// Program is a compiled framing program: it finds the end of a value in its nested encoding. Immutable.
type Program struct {
	src  string
	root *node
}

// Compile compiles a framing program, for example "kv(lp,iter(varint))". The grammar is in the package comment; spaces are not
// allowed, so that equal programs are equal strings. An error means that the translator is at fault.
func Compile(src string) (*Program, error) {
	p := parser{rest: src}
	root, err := p.value(0)
	if err == nil && p.rest != "" {
		err = fmt.Errorf("%q is left over", p.rest)
	}
	if err != nil {
		return nil, fmt.Errorf("framing program %q: %w", src, err)
	}
	return &Program{src: src, root: root}, nil
}

// String returns the source.
func (p *Program) String() string { return p.src }

// IsKV reports whether the outermost constructor is kv.
func (p *Program) IsKV() bool { return p.root.op == opKV }

// KV returns the programs of key and value when the outermost constructor is kv.
func (p *Program) KV() (key, value *Program, ok bool) {
	if !p.IsKV() {
		return nil, nil, false
	}
	return &Program{p.root.a.String(), p.root.a}, &Program{p.root.b.String(), p.root.b}, true
}

// Element returns the program of an element when the outermost constructor is iter, else nil.
func (p *Program) Element() *Program {
	if p.root.op != opIter {
		return nil
	}
	return &Program{p.root.a.String(), p.root.a}
}

// String prints the framing program of the node.
func (n *node) String() string {
	switch n.op {
	case opFixed:
		if n.size == 0 {
			return "unit"
		}
		return "fixed(" + strconv.Itoa(n.size) + ")"
	case opVarint:
		return "varint"
	case opLP:
		return "lp"
	case opNullable:
		return "nullable(" + n.a.String() + ")"
	case opKV:
		return "kv(" + n.a.String() + "," + n.b.String() + ")"
	case opIter:
		return "iter(" + n.a.String() + ")"
	case opSharded:
		return "sharded(" + n.a.String() + ")"
	case opWindow:
		return "window(" + string(n.win) + ")"
	case opWindowed:
		return "windowed(" + n.a.String() + "," + string(n.win) + ")"
	default:
		return "timer(" + n.a.String() + "," + string(n.win) + ")"
	}
}

// parser is a recursive descent over the source.
type parser struct{ rest string }

func (p *parser) value(depth int) (*node, error) {
	if depth > depthMax {
		return nil, fmt.Errorf("nested deeper than %d", depthMax)
	}
	i := strings.IndexAny(p.rest, "(),")
	if i < 0 {
		i = len(p.rest)
	}
	name := p.rest[:i]
	p.rest = p.rest[i:]
	switch name {
	case "unit":
		return &node{op: opFixed}, nil
	case "varint":
		return &node{op: opVarint, size: -1}, nil
	case "lp":
		return &node{op: opLP, size: -1}, nil
	case "fixed":
		return p.fixed()
	case "window":
		return p.window()
	case "nullable":
		return p.composite(&node{op: opNullable, size: -1}, depth, false, false)
	case "iter":
		return p.composite(&node{op: opIter, size: -1}, depth, false, false)
	case "sharded":
		return p.composite(&node{op: opSharded, size: -1}, depth, false, false)
	case "kv":
		return p.kv(depth)
	case "windowed":
		return p.composite(&node{op: opWindowed, size: -1}, depth, false, true)
	case "timer":
		return p.composite(&node{op: opTimer, size: -1}, depth, false, true)
	default:
		return nil, fmt.Errorf("unknown constructor %q", name)
	}
}

func (p *parser) kv(depth int) (*node, error) {
	n, err := p.composite(&node{op: opKV, size: -1}, depth, true, false)
	if err == nil && n.a.size >= 0 && n.b.size >= 0 {
		n.size = n.a.size + n.b.size
	}
	return n, err
}

// composite reads "(P)", "(P,P)" when second, or "(P,W)" when coded.
func (p *parser) composite(n *node, depth int, second, coded bool) (*node, error) {
	if err := p.token("("); err != nil {
		return nil, err
	}
	var err error
	if n.a, err = p.value(depth + 1); err != nil {
		return nil, err
	}
	if second || coded {
		if err := p.token(","); err != nil {
			return nil, err
		}
	}
	if second {
		if n.b, err = p.value(depth + 1); err != nil {
			return nil, err
		}
	}
	if coded {
		if n.win, err = p.coding(); err != nil {
			return nil, err
		}
	}
	return n, p.token(")")
}

func (p *parser) fixed() (*node, error) {
	arg, err := p.argument()
	if err != nil {
		return nil, err
	}
	size, err := strconv.Atoi(arg)
	if err != nil || size < 0 || size > 1<<20 {
		return nil, fmt.Errorf("fixed(%s): want a size of 0 to 1 MiB", arg)
	}
	return &node{op: opFixed, size: size}, nil
}

func (p *parser) window() (*node, error) {
	if err := p.token("("); err != nil {
		return nil, err
	}
	w, err := p.coding()
	if err != nil {
		return nil, err
	}
	n := &node{op: opWindow, size: -1, win: w}
	if w == plan.GlobalWindow {
		n.size = 0
	}
	return n, p.token(")")
}

// argument reads "(text)".
func (p *parser) argument() (string, error) {
	if err := p.token("("); err != nil {
		return "", err
	}
	i := strings.IndexByte(p.rest, ')')
	if i < 0 {
		return "", errors.New("want )")
	}
	arg := p.rest[:i]
	p.rest = p.rest[i+1:]
	return arg, nil
}

func (p *parser) coding() (plan.WindowCoding, error) {
	for _, w := range []plan.WindowCoding{plan.GlobalWindow, plan.IntervalWindow, plan.CustomWindow} {
		if rest, ok := strings.CutPrefix(p.rest, string(w)); ok {
			p.rest = rest
			return w, nil
		}
	}
	return "", fmt.Errorf("unknown window coding at %q", p.rest)
}

func (p *parser) token(t string) error {
	rest, ok := strings.CutPrefix(p.rest, t)
	if !ok {
		return fmt.Errorf("want %s at %q", t, p.rest)
	}
	p.rest = rest
	return nil
}
