package fault

import (
	"errors"
	"fmt"
	"strings"
)

// Kind says who has to act on an error.
type Kind uint8

const (
	// Internal is a broken invariant of Padstone itself; the zero value, so that an unclassified error is ours.
	Internal Kind = iota
	// Pipeline is a fault of the submitted pipeline or its user code; never retried unchanged.
	Pipeline
	// Environment is a fault outside: broker, network, harness process, disk. Retried within bounds.
	Environment
	// Corruption means that stored data does not read back; it stops the job.
	Corruption
)

// String returns the kind's lower-case name.
func (k Kind) String() string {
	switch k {
	case Pipeline:
		return "pipeline"
	case Environment:
		return "environment"
	case Corruption:
		return "corruption"
	default:
		return "internal"
	}
}

// Code names one meaning for ever, for example "unsupported-trigger". docs/errors.md has a section for each.
type Code string

// Error is an error with a kind, a code, an optional transform name and a hint.
type Error struct {
	Kind      Kind
	Code      Code
	Transform string // the user's own transform name, or ""
	Msg       string
	Hint      string // one sentence: what to do, or ""
	Err       error  // the cause, or nil
}

// Error prints "code: transform "X": message: cause (hint: …)".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Code))
	if e.Transform != "" {
		fmt.Fprintf(&b, ": transform %q", e.Transform)
	}
	if e.Msg != "" {
		b.WriteString(": " + e.Msg)
	}
	var quiet silent
	if e.Err != nil && !errors.As(e.Err, &quiet) {
		b.WriteString(": " + e.Err.Error())
	}
	if e.Hint != "" {
		b.WriteString(" (hint: " + e.Hint + ")")
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns an error of the kind with a code and a formatted message; %w is honoured.
func New(kind Kind, code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Code: code, Msg: err.Error(), Err: unwrapped(err)}
}

// unwrapped keeps the cause reachable for errors.Is without printing it twice.
func unwrapped(err error) error {
	if cause := errors.Unwrap(err); cause != nil {
		return silent{cause}
	}
	return nil
}

// silent carries a cause whose text already stands in the message.
type silent struct{ error }

func (s silent) Unwrap() error { return s.error }

// In names the user's transform.
func (e *Error) In(transform string) *Error { e.Transform = transform; return e }

// WithHint adds one sentence that says what to do.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// Of returns the outermost *Error in err's chain, or nil.
func Of(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// KindOf returns the kind of err, Internal when it carries none.
func KindOf(err error) Kind {
	if e := Of(err); e != nil {
		return e.Kind
	}
	return Internal
}
