// Package threads reads what SDK harnesses say of themselves, for people: a text of which every SDK has a form of its own. It finds the
// thread that processes a bundle, and where that is.
//
// It is not a parser of these texts: what it does not find it does not know, and nothing is decided by it. Pure; no errors.
package threads
