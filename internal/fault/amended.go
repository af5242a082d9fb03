package fault

import "strings"

// Named names the user's transform in an error that carries an *Error without one.
func Named(err error, transform string) error {
	if e := Of(err); e == nil || e.Transform != "" {
		return err
	}
	return Amended(err, func(e *Error) { e.Transform = transform })
}

// Amended is err with its *Error, if it carries one, as amend makes it. err itself stays as it is: others may hold it, too, a store's
// failure or the cause that ends a context, and read it at this moment.
func Amended(err error, amend func(*Error)) error {
	e := Of(err)
	if e == nil {
		return err
	}
	with := *e
	amend(&with)
	return &amended{text: strings.Replace(err.Error(), e.Error(), with.Error(), 1), with: &with, err: err}
}

// amended is an error with an *Error that stands before the one that it carries.
type amended struct {
	text string
	with *Error
	err  error
}

func (a *amended) Error() string   { return a.text }
func (a *amended) Unwrap() []error { return []error{a.with, a.err} }
