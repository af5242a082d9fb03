// Package window does arithmetic on encoded windows: their bounds, when their state is collected, which sessions merge, and which
// side input window a main window looks at. It assigns those of standard functions where the compiler has the runner do so; the others
// SDKs assign.
//
// Windows are the bytes of the wire (see plan.WindowCoding). An interval is half open, [start, end); its maximum timestamp is the
// last millisecond inside it. Pure.
package window
